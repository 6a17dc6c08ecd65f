#include "control/guard/request/permits.hpp"

#include <utility>

#include "control/admission/refusal_message.hpp"
#include "control/coroutines.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::Reason;
using identity::Refusal;
using namespace std::chrono_literals;

namespace {

constexpr auto kPauseWithoutControl = 100ms;
constexpr auto kLongestWatch = 90s;  // control answers after 60 s, whatever happens

// The answer depends on these and on nothing else that the guard tells.
std::string KeyOf(const admission::Permit& asked) {
  admission::Permit key = asked;
  key.mutable_identity()->clear_source();
  return key.SerializeAsString();
}

tl::unexpected<Denied> Unavailable(std::string detail) {
  return tl::unexpected(Denied{Refusal{Reason::gate_unavailable, std::move(detail)}});
}

tl::expected<void, Denied> Check(const Result<admission::Response>& response) {
  if (!response) return Unavailable(response.error().Text());
  if (!response->has_refusal()) return {};
  const admission::Refusal& refusal = response->refusal();
  return tl::unexpected(Denied{admission::FromMessage(refusal), refusal.reference()});
}

}  // namespace

asio::awaitable<Outcome<Permits::Kept>> Permits::Of(admission::Identity identity,
                                                    admission::Token token, std::string interface) {
  admission::Request request;
  admission::Permit& asked = *request.mutable_permit();
  *asked.mutable_identity() = std::move(identity);
  *asked.mutable_token() = std::move(token);
  asked.set_interface(std::move(interface));
  const std::string key = KeyOf(asked);
  if (const auto at = permits_.find(key); at != permits_.end()) {
    if (Current(*at->second.permit) && Clock::now() < at->second.until) {
      const Kept kept = at->second;
      co_return kept;
    }
    permits_.erase(at);
  }
  auto response = co_await control_.Call(std::move(request));
  if (auto checked = Check(response); !checked) co_return tl::unexpected(checked.error());
  if (!response->has_permitted()) co_return Unavailable("control answers with something else");
  auto permit =
      std::make_shared<const admission::Permitted>(std::move(*response->mutable_permitted()));
  if (permits_.size() >= kMost) permits_.clear();
  Kept kept{permit, Clock::now() + std::chrono::seconds(permit->seconds())};
  permits_[key] = kept;
  co_return kept;
}

asio::awaitable<Outcome<std::string>> Permits::OwnerOf(std::string interface, std::string kind,
                                                       std::string resource) {
  Place place{interface, kind, resource};
  const auto at = owners_.find(place);
  if (at != owners_.end() && connection_ == control_.connections()) co_return at->second;
  admission::Request request;
  admission::FindOwner& asked = *request.mutable_find_owner();
  asked.set_interface(std::move(interface));
  asked.set_kind(std::move(kind));
  asked.set_resource(std::move(resource));
  const uint64_t version = version_;
  auto response = co_await control_.Call(std::move(request));
  if (auto checked = Check(response); !checked) co_return tl::unexpected(checked.error());
  if (!response->has_owner()) co_return Unavailable("control answers with something else");
  std::string tenant = response->owner().tenant();
  // What nobody owns may be created at any moment, by a request that another guard sees.
  if (!tenant.empty() && version == version_) {
    if (owners_.size() >= kMost) owners_.clear();
    owners_.insert_or_assign(std::move(place), tenant);
  }
  co_return tenant;
}

void Permits::Forget(const std::string& interface, const std::string& kind,
                     const std::string& resource) {
  owners_.erase({interface, kind, resource});
}

// False: that was known.
bool Permits::Learn(uint64_t version) {
  if (version == version_ && connection_ == control_.connections()) return false;
  version_ = version;
  connection_ = control_.connections();
  permits_.clear();
  owners_.clear();
  return true;
}

asio::awaitable<void> Permits::Run() {
  while (!stopping_) {
    const uint64_t connection = control_.connections();
    admission::Request request;
    request.mutable_watch()->set_version(connection == connection_ ? version_ : 0);
    auto response = co_await control_.Call(std::move(request), kLongestWatch);
    if (response && response->has_changed() && connection == control_.connections() &&
        Learn(response->changed().version())) {
      continue;
    }
    if (stopping_) co_return;
    pause_.expires_after(kPauseWithoutControl);
    co_await pause_.async_wait(kAwait);
  }
}

void Permits::Stop() {
  stopping_ = true;
  pause_.cancel();
}

}  // namespace portcullis::guard
