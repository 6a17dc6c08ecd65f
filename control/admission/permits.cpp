#include "control/admission/permits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "control/admission/one_time.hpp"
#include "control/admission/own_key.hpp"
#include "control/coroutines.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using identity::Reason;

namespace {

constexpr size_t kMostBytes = (64U << 10U) - 64;  // of a message (admission.proto), less its frame

uint64_t NewProcess() {
  std::random_device random;  // the kernel's
  return uint64_t{random()} << 32U;
}

// Both kinds of permit, so that none is larger than a message.
template <class Reply>
tl::expected<void, identity::Refusal> Fits(const Reply& reply, const std::string& interface) {
  if (reply.ByteSizeLong() <= kMostBytes) return {};
  return tl::unexpected(
      identity::Refusal{Reason::gate_unavailable,
                        fmt::format("what peer '{}' may do on {} is more than one message takes",
                                    reply.peer(), interface)});
}

}  // namespace

Permits::Permits(asio::any_io_executor executor, Gate& gate, Sessions& sessions,
                 std::chrono::milliseconds wait)
    : executor_(std::move(executor)),
      gate_(gate),
      sessions_(sessions),
      wait_(wait),
      process_(NewProcess()) {
  gate_.OnEpoch([this] { Wake(); });
  sessions_.OnEnded([this] { Wake(); });
}

Permits::~Permits() {
  gate_.OnEpoch({});
  sessions_.OnEnded({});
}

const PolicyView& Permits::View() {
  if (!view_ || viewed_ != gate_.generation()) {
    view_.emplace(gate_.document());
    viewed_ = gate_.generation();
  }
  return *view_;
}

tl::expected<void, identity::Refusal> Permits::Permit(const Applicant& who, Permitted& reply) {
  // Nobody says whether the peer was here before. A clock that is ahead ends rights early, so that
  // during the grace it is taken for one that was.
  if (auto admits = ClockAdmits(gate_.clock(), /*known=*/true); !admits) return admits;
  const auto now = std::chrono::system_clock::now();
  auto grant = DecideRequests(View(), gate_.denials(), who, now);
  if (!grant) return tl::unexpected(grant.error());
  if (auto own = KeyIsOwn(gate_, grant->peer, who, now); !own) return own;
  const auto carried = Carried(who, grant->peer);
  if (!carried) return tl::unexpected(carried.error());
  if (grant->one_time) {
    if (auto fresh = CheckOneTime(gate_.store(), who.token); !fresh) return fresh;
  }
  reply.set_one_time(grant->one_time);
  reply.set_peer(std::move(grant->peer));
  reply.set_role(std::move(grant->role));
  reply.set_tenant(std::move(grant->tenant));
  reply.set_self(std::move(grant->self));
  for (auto& operation : grant->operations) reply.add_operations(std::move(operation));
  for (auto& operation : grant->approval) reply.add_approval(std::move(operation));
  for (auto& from : grant->blocks) {
    Block& to = *reply.add_blocks();
    to.set_name(std::move(from.name));
    to.set_method(std::move(from.method));
    to.set_path(std::move(from.path));
  }
  for (auto& prefix : grant->callbacks) reply.add_callbacks(std::move(prefix));
  reply.set_seconds(static_cast<uint32_t>(std::min(grant->life, *carried).count()));
  reply.set_version(version());
  return Fits(reply, who.interface);
}

tl::expected<void, identity::Refusal> Permits::Stay(const Applicant& who) {
  const auto peer = View().Find(who);
  if (!peer) return tl::unexpected(peer.error());
  if (auto carried = Carried(who, (*peer)->name); !carried) {
    return tl::unexpected(carried.error());
  }
  return {};
}

// tls+esp: who holds the certificate must also hold the SA that the packets came through. The
// dataplane lets each SA bring its own peer's addresses only, and no two peers share one.
tl::expected<std::chrono::seconds, identity::Refusal> Permits::Carried(const Applicant& who,
                                                                       const std::string& peer) {
  auto left = Carried(who.interface, peer, who.identity.source());
  if (!left || *left == std::chrono::seconds::max() || who.identity.decrypted()) return left;
  return tl::unexpected(identity::Refusal{
      Reason::session_missing,
      fmt::format("{} is tls+esp, and its listener in guard.yaml takes what came without ESP: it "
                  "has no `device`",
                  who.interface)});
}

tl::expected<std::chrono::seconds, identity::Refusal> Permits::Carried(const std::string& interface,
                                                                       const std::string& peer,
                                                                       const std::string& source) {
  const auto& interfaces = gate_.document().interfaces;
  const auto at = std::ranges::find(interfaces, interface, &model::Interface::name);
  if (at == interfaces.end() || at->protection != model::Protection::tls_esp) {
    return std::chrono::seconds::max();
  }
  const auto address = steer::FromBytes(source);
  if (!address) {
    return tl::unexpected(identity::Refusal{Reason::request_malformed, "source is no address"});
  }
  return sessions_.Carries(peer, *at, *address);
}

tl::expected<void, identity::Refusal> Permits::PermitCall(const admission::PermitCall& request,
                                                          CallPermitted& reply) {
  auto grant = DecideCall(View(), gate_.denials(), request.interface(), request.url());
  if (!grant) return tl::unexpected(grant.error());
  reply.set_peer(grant->peer->name);
  reply.set_role(grant->peer->role);
  reply.set_tenant(grant->peer->tenant);
  reply.set_prefix(std::move(grant->prefix));
  for (auto& operation : grant->operations) reply.add_operations(std::move(operation));
  for (const auto& servers : grant->servers) {
    const auto bytes = servers.address().wire();
    Prefix& out = *reply.add_servers();
    out.set_address(std::string(bytes.begin(), bytes.end()));
    out.set_length(servers.WrittenLength());
  }
  reply.set_seconds(static_cast<uint32_t>(grant->life.count()));
  reply.set_version(version());
  return Fits(reply, request.interface());
}

tl::expected<void, identity::Refusal> Permits::Recognise(const admission::Recognise& request) {
  const Applicant who = ApplicantOf(request.identity(), {}, {});
  return DecideRecognised(View(), gate_.denials(), who, request.peer());
}

asio::awaitable<uint64_t> Permits::Watch(uint64_t known) {
  if (known == version() && !stopping_) {
    asio::steady_timer timer(executor_, wait_);
    waiting_.insert(&timer);
    co_await timer.async_wait(kAwait);
    waiting_.erase(&timer);
  }
  co_return version();
}

void Permits::Wake() {
  for (auto* timer : waiting_) timer->cancel();
}

void Permits::Stop() {
  stopping_ = true;
  Wake();
}

}  // namespace portcullis::admission
