#include "control/guard/request/permits.hpp"

#include <utility>

#include "control/coroutines.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::Reason;
using namespace std::chrono_literals;

namespace {

constexpr auto kPauseWithoutControl = 100ms;
constexpr auto kLongestWatch = 90s;  // control answers after 60 s, whatever happens
constexpr int kMostTries = 5;

// The answer depends on these and on nothing else that the guard tells. Where a connection came
// from decides when it came in ESP: whose SA carries that address?
std::string KeyOf(const admission::Permit& asked) {
  admission::Permit key = asked;
  if (!key.identity().decrypted()) key.mutable_identity()->clear_source();
  return key.SerializeAsString();
}

constexpr const char* kAnotherAnswer = "control answers with something else";

}  // namespace

// What is no longer so is forgotten.
template <class Key, class Message>
std::optional<Permits::KeptOf<Message>> Permits::Find(std::map<Key, KeptOf<Message>>& kept,
                                                      const Key& key) const {
  const auto at = kept.find(key);
  if (at == kept.end()) return {};
  if (Current(*at->second.permit) && Clock::now() < at->second.until) return at->second;
  kept.erase(at);
  return {};
}

// What was decided just before a change says nothing of what is permitted after it: control is
// asked again. And an answer may be the first that the guard hears of a change.
template <class Message>
asio::awaitable<Outcome<std::shared_ptr<const Message>>> Permits::Ask(
    admission::Request request, Message* (admission::Response::*take)()) {
  for (int tries = 0; tries < kMostTries; ++tries) {
    const uint64_t connection = control_.connections();
    auto response = co_await AskControl(control_, request);
    if (!response) co_return tl::unexpected(std::move(response.error()));
    std::shared_ptr<const Message> permit(((*response).*take)());
    if (!permit) co_return Deny(Reason::gate_unavailable, kAnotherAnswer);
    if (connection != control_.connections()) continue;
    Learn(permit->version());
    if (permit->version() == version_) co_return permit;
  }
  co_return Deny(Reason::gate_unavailable, "what is permitted changes while control is asked");
}

asio::awaitable<Outcome<Permits::Kept>> Permits::Of(admission::Identity identity,
                                                    admission::Token token, std::string interface) {
  admission::Request request;
  admission::Permit& asked = *request.mutable_permit();
  *asked.mutable_identity() = std::move(identity);
  *asked.mutable_token() = std::move(token);
  asked.set_interface(std::move(interface));
  const std::string key = KeyOf(asked);
  if (auto kept = Find(permits_, key)) co_return *std::move(kept);
  auto permit = co_await Ask(std::move(request), &admission::Response::release_permitted);
  if (!permit) co_return tl::unexpected(std::move(permit.error()));
  const Kept kept{*permit, Clock::now() + std::chrono::seconds((*permit)->seconds())};
  if ((*permit)->one_time()) co_return kept;  // it is asked again, and will be answered otherwise
  if (permits_.size() >= kMost) permits_.clear();
  permits_[key] = kept;
  co_return kept;
}

asio::awaitable<Outcome<Permits::CallPermit>> Permits::Call(std::string interface,
                                                            std::string url) {
  const std::pair key(interface, url);
  if (auto kept = Find(calls_, key)) co_return std::move(kept->permit);
  admission::Request request;
  admission::PermitCall& asked = *request.mutable_permit_call();
  asked.set_interface(std::move(interface));
  asked.set_url(std::move(url));
  auto permit = co_await Ask(std::move(request), &admission::Response::release_call_permitted);
  if (!permit) co_return permit;
  if (calls_.size() >= kMost) calls_.clear();
  calls_[key] = {*permit, Clock::now() + std::chrono::seconds((*permit)->seconds())};
  co_return permit;
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
  auto response = co_await AskControl(control_, std::move(request));
  if (!response) co_return tl::unexpected(std::move(response.error()));
  if (!response->has_owner()) co_return Deny(Reason::gate_unavailable, kAnotherAnswer);
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

// False: that was known. One process of control only counts up.
bool Permits::Learn(uint64_t version) {
  if (version <= version_ && connection_ == control_.connections()) return false;
  version_ = version;
  connection_ = control_.connections();
  ++changes_;
  permits_.clear();
  calls_.clear();
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
