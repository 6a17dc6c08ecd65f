// Two-phase grants: what a session carries only while its peer is registered with the protected
// server, on that server's word.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "control/admission/sessions.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;

namespace {
// What has no end of its own is told to the dataplane for so long, and told anew in time.
constexpr std::chrono::hours kNext{24};
constexpr std::chrono::hours kAsked{12};
}  // namespace

asio::awaitable<Result<void>> Sessions::Register(std::string peer, std::string interface,
                                                 std::chrono::seconds duration) {
  std::vector<std::string> sas;
  bool known = false;
  for (auto& [id, session] : sessions_) {
    if (session.peer != peer || session.interface != interface || !session.current) continue;
    known = true;
    session.registered_until = Clock::now() + duration;
    for (const auto* g : {&session.current, &session.next}) {
      if (!*g) continue;
      sas.push_back(session.SaName((*g)->number, steer::INBOUND));
      sas.push_back(session.SaName((*g)->number, steer::OUTBOUND));
    }
    for (const Leaving& l : leaving_) {  // they still carry what is under way
      if (l.session == id) sas.push_back(l.sa);
    }
    gate_.events().Tell("session",
                        duration.count() == 0
                            ? fmt::format("session '{}' on {}: no longer registered", id, interface)
                            : fmt::format("session '{}' on {}: registered for {} s", id, interface,
                                          duration.count()),
                        {}, peer);
  }
  if (!known) {
    co_return Fail(ErrorKind::kNotFound,
                   fmt::format("peer '{}' has no session on {}", peer, interface));
  }
  co_return co_await gate_.RegisterSas(std::move(sas), duration);
}

asio::awaitable<void> Sessions::FollowRegistrations() {
  if (!adopted_ || !gate_.link().ready()) co_return;
  const auto now = Clock::now();
  std::map<std::pair<std::string, std::string>, bool> changes;
  for (auto& [id, session] : sessions_) {
    if (!session.current) continue;
    const bool registered = gate_.IsRegistered(session.interface, session.peer);
    const bool due = registered ? session.registered_until < now + kAsked : session.follows;
    session.follows = registered;
    if (due) changes.insert_or_assign({session.peer, session.interface}, registered);
  }
  for (const auto& [who, registered] : changes) {
    const std::chrono::seconds duration = registered ? kNext : std::chrono::seconds(0);
    const auto told = co_await Register(who.first, who.second, duration);
    if (!told) spdlog::warn("registration of '{}': {}", who.first, told.error().Text());
  }
}

// A dataplane that restarted has the SAs, but not who is registered.
asio::awaitable<void> Sessions::RegisterAgain() {
  if (!adopted_ || !gate_.link().ready()) co_return;
  const std::string incarnation = gate_.link().hello()->incarnation();
  if (incarnation == registered_in_) co_return;
  std::vector<std::pair<std::string, std::string>> who;
  std::vector<std::chrono::seconds> left;
  const auto now = Clock::now();
  for (const auto& [id, session] : sessions_) {
    if (session.registered_until <= now || !session.current) continue;
    who.emplace_back(session.peer, session.interface);
    left.push_back(std::chrono::ceil<std::chrono::seconds>(session.registered_until - now));
  }
  for (size_t i = 0; i < who.size(); ++i) {
    const auto told = co_await Register(std::move(who[i].first), std::move(who[i].second), left[i]);
    if (!told && told.error().kind == ErrorKind::kUnavailable) co_return;  // again at the next tick
  }
  registered_in_ = incarnation;
}

}  // namespace portcullis::admission
