#include "control/admission/sessions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <random>
#include <set>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using identity::Reason;
using identity::Refusal;
using WallClock = std::chrono::system_clock;

namespace {

constexpr std::chrono::milliseconds kTick{250};
// A peer whose connection breaks tries again; more attempts at once are somebody's mistake.
constexpr ptrdiff_t kMostUnconfirmed = 4;
constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1
constexpr std::string_view kSaPrefix = "session-";
// Nobody's wish but the sessions' own. (A name, since GCC 12 destroys twice what is made within a
// co_await: its bug 104031.)
const Gate::Wish kOwnWish{};
const std::string kNone;

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

std::string NewId() {
  std::random_device random;  // the kernel's
  return fmt::format("{:08x}{:08x}", random(), random());
}

const AlgorithmInfo& InfoOf(steer::Algorithm algorithm) {
  return kAlgorithms[static_cast<size_t>(algorithm) - 1];
}

// The peer's first choice among those that encrypt and authenticate in one.
std::optional<steer::Algorithm> Choose(const std::vector<steer::Algorithm>& offered) {
  for (const steer::Algorithm a : offered) {
    if (a == steer::AES_128_GCM_16 || a == steer::AES_256_GCM_16 || a == steer::CHACHA20_POLY1305) {
      return a;
    }
  }
  return {};
}

bool Same(const std::vector<steer::Selector>& a, const std::vector<steer::Selector>& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return x.SerializeAsString() == y.SerializeAsString();
  });
}

}  // namespace

std::string Sessions::Session::SaName(uint64_t generation, steer::Direction direction) const {
  return fmt::format("{}{}-{}-{}", kSaPrefix, id, generation,
                     direction == steer::INBOUND ? "in" : "out");
}

model::Sa Sessions::Session::Make(const Generation& g, steer::Direction direction,
                                  Secret key) const {
  model::Sa sa;
  const bool inbound = direction == steer::INBOUND;
  sa.spec.set_id(SaName(g.number, direction));
  sa.spec.set_pair(SaName(g.number, inbound ? steer::OUTBOUND : steer::INBOUND));
  sa.spec.set_peer(peer);
  sa.spec.set_direction(direction);
  sa.spec.set_spi(inbound ? g.gate_spi : g.wanted.peer_spi);
  sa.spec.set_algorithm(g.algorithm);
  sa.spec.set_esn(true);
  if (inbound) sa.spec.set_replay_window(kReplayWindow);
  for (const auto& selector : g.selectors) *sa.spec.add_selectors() = selector;
  steer::Tunnel& tunnel = *sa.spec.mutable_tunnel();
  tunnel.set_local(steer::ToBytes(g.wanted.gate_outer));
  // Behind a NAT it may come from elsewhere tomorrow.
  if (!inbound || !g.wanted.udp_encap) tunnel.set_remote(steer::ToBytes(g.wanted.peer_outer));
  tunnel.set_udp_encap(g.wanted.udp_encap);
  tunnel.set_follow_nat(g.wanted.udp_encap);
  const auto left = std::chrono::floor<std::chrono::seconds>(g.ends - Clock::now());
  sa.spec.mutable_lifetime()->set_hard_seconds(
      static_cast<uint64_t>(std::max<int64_t>(left.count(), 1)));
  sa.fingerprint = KeyFingerprint(InfoOf(g.algorithm).name, key.bytes());
  sa.key = std::move(key);
  return sa;
}

Sessions::Sessions(const asio::any_io_executor& executor, Gate& gate, Times times)
    : gate_(gate), times_(times), pause_(executor) {}

// Expiry is judged by a clock that may be wrong (model/time_guard.hpp).
tl::expected<void, Refusal> Sessions::ClockAdmits(bool renewal) const {
  const TimeVerdict clock = gate_.clock();
  if (clock == TimeVerdict::ok) return {};
  if (clock == TimeVerdict::stepped_forward_in_grace && renewal) return {};
  return Refuse(Reason::clock_wrong, Info(clock).text);
}

tl::expected<Sessions::Session*, Refusal> Sessions::SessionFor(const Grant& grant,
                                                               const Wanted& wanted) {
  if (!wanted.session.empty()) {
    const auto at = sessions_.find(wanted.session);
    if (at == sessions_.end() || at->second.peer != grant.peer ||
        at->second.interface != grant.interface || !at->second.current) {
      return Refuse(Reason::session_conflict,
                    fmt::format("peer '{}' has no session '{}' on {}", grant.peer, wanted.session,
                                grant.interface));
    }
    Session& session = at->second;
    if (session.next && session.next->busy) {
      return Refuse(Reason::session_conflict, "a renewal of this session is under way");
    }
    if (session.next && session.next->state == Generation::State::installed) {
      leaving_.push_back({session.SaName(session.next->number, steer::INBOUND), Clock::now()});
    }
    return &session;
  }
  const auto own = [&](const auto& entry) {
    return entry.second.peer == grant.peer && entry.second.interface == grant.interface;
  };
  if (!wanted.initial_contact && std::ranges::any_of(sessions_, [&](const auto& entry) {
        return own(entry) && entry.second.current;
      })) {
    return Refuse(Reason::session_conflict,
                  fmt::format("peer '{}' has a session on {} already: it renews that one, or says "
                              "that it knows of none (initial_contact)",
                              grant.peer, grant.interface));
  }
  if (std::ranges::count_if(sessions_, [&](const auto& entry) {
        return own(entry) && !entry.second.current;
      }) >= kMostUnconfirmed) {
    return Refuse(Reason::session_conflict,
                  fmt::format("peer '{}' has {} attempts under way", grant.peer, kMostUnconfirmed));
  }
  const std::string id = NewId();
  return &sessions_.emplace(id, Session{id, grant.peer, grant.interface, {}, {}}).first->second;
}

tl::expected<Terms, Refusal> Sessions::Admit(const Applicant& who, const Wanted& wanted) {
  if (auto admits = ClockAdmits(!wanted.session.empty()); !admits) {
    return tl::unexpected(admits.error());
  }
  const auto now = WallClock::now();
  auto grant = Decide(gate_.document(), gate_.revoked(), who, now);
  if (!grant) return tl::unexpected(grant.error());
  if (wanted.peer_spi < kLeastSpi) {
    return Refuse(Reason::request_malformed,
                  fmt::format("SPI 0x{:08x} is reserved (RFC 4303 2.1)", wanted.peer_spi));
  }
  const auto algorithm = Choose(wanted.algorithms);
  if (!algorithm) {
    return Refuse(Reason::weak_alg_refused, "none of the algorithms that the peer offers");
  }
  std::set<uint32_t> reserved;
  for (const auto& [id, session] : sessions_) {
    if (session.next) reserved.insert(session.next->gate_spi);
  }
  const auto spi = gate_.ChooseSpi(reserved);
  if (!spi) return Refuse(Reason::gate_unavailable, spi.error().Text());
  const auto session = SessionFor(*grant, wanted);
  if (!session) return tl::unexpected(session.error());

  Generation next;
  next.number = (*session)->current ? (*session)->current->number + 1 : 1;
  if ((*session)->next) next.number = (*session)->next->number + 1;  // never one number twice
  next.who = who;
  next.wanted = wanted;
  next.decided = now;
  next.epoch = gate_.epoch();
  next.gate_spi = *spi;
  next.algorithm = *algorithm;
  next.selectors = grant->selectors;
  next.take_back = Clock::now() + times_.to_confirm;
  next.ends = Clock::now() + grant->life;
  Terms terms{(*session)->id, next.number, grant->peer,
              *spi,           *algorithm,  std::move(grant->selectors),
              grant->life};
  (*session)->next = std::move(next);
  return terms;
}

Sessions::Session* Sessions::Find(const std::string& id, uint64_t generation) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end()) return nullptr;
  Session& session = at->second;
  const bool known = (session.next && session.next->number == generation) ||
                     (session.current && session.current->number == generation);
  return known ? &session : nullptr;
}

Sessions::Done Sessions::Install(std::string id, uint64_t generation, Secret to_gate,
                                 Secret to_peer) {
  Session* session = Find(id, generation);
  if (session == nullptr || !session->next || session->next->number != generation ||
      session->next->state != Generation::State::reserved || session->next->busy) {
    co_return Refuse(Reason::session_conflict, "nothing is reserved under this name, or no longer");
  }
  Generation& next = *session->next;
  const size_t key_bytes = InfoOf(next.algorithm).key_bytes;
  if (to_gate.size() != key_bytes || to_peer.size() != key_bytes) {
    co_return Refuse(Reason::request_malformed, fmt::format("keys of {} bytes each", key_bytes));
  }
  // Again, now that there are keys: somebody may have been revoked since.
  if (gate_.RevokedSince(session->peer, next.epoch)) {
    session->next.reset();
    co_return Refuse(Reason::peer_revoked, "revoked since the session was admitted");
  }
  const auto grant = Decide(gate_.document(), gate_.revoked(), next.who, WallClock::now());
  if (!grant || !Same(grant->selectors, next.selectors)) {
    session->next.reset();
    if (!grant) co_return tl::unexpected(grant.error());
    co_return Refuse(Reason::policy_denied, "policy has changed since the session was admitted");
  }
  next.epoch = gate_.epoch();
  next.busy = true;
  model::Sa inbound = session->Make(next, steer::INBOUND, std::move(to_gate));
  const auto installed = co_await gate_.InstallSa(std::move(inbound), kNone, kOwnWish);
  session = Find(id, generation);
  if (session == nullptr) {
    leaving_.push_back({fmt::format("{}{}-{}-in", kSaPrefix, id, generation), Clock::now()});
    co_return Refuse(Reason::session_conflict, "the session ended meanwhile");
  }
  session->next->busy = false;
  if (!installed) {
    session->next.reset();
    co_return Refuse(Reason::gate_unavailable, installed.error().Text());
  }
  session->next->state = Generation::State::installed;
  session->next->to_peer = std::move(to_peer);
  session->next->take_back = Clock::now() + times_.to_confirm;
  co_return tl::expected<void, Refusal>{};
}

Sessions::Done Sessions::Confirm(std::string id, uint64_t generation) {
  Session* session = Find(id, generation);
  if (session == nullptr) {
    co_return Refuse(Reason::session_conflict, "no such session, or it was taken back");
  }
  if (session->current && session->current->number == generation) {
    co_return tl::expected<void, Refusal>{};  // its first packet was quicker
  }
  if (session->next->state != Generation::State::installed) {
    co_return Refuse(Reason::session_conflict, "there are no keys yet");
  }
  if (session->next->busy) co_return tl::expected<void, Refusal>{};  // its first packet is quicker
  co_return co_await InForce(*session);
}

// Installs outbound; from then on this generation is the session's.
Sessions::Done Sessions::InForce(Session& of) {
  const std::string id = of.id;
  const uint64_t generation = of.next->number;
  of.next->busy = true;
  model::Sa outbound = of.Make(*of.next, steer::OUTBOUND, std::move(of.next->to_peer));
  const auto installed = co_await gate_.InstallSa(std::move(outbound), kNone, kOwnWish);
  Session* session = Find(id, generation);
  if (session == nullptr) {
    leaving_.push_back({fmt::format("{}{}-{}-out", kSaPrefix, id, generation), Clock::now()});
    co_return Refuse(Reason::session_conflict, "the session ended meanwhile");
  }
  session->next->busy = false;
  if (!installed) {
    leaving_.push_back({session->SaName(generation, steer::INBOUND), Clock::now()});
    session->next.reset();
    co_return Refuse(Reason::gate_unavailable, installed.error().Text());
  }
  const auto now = Clock::now();
  if (session->current) {
    const uint64_t before = session->current->number;
    leaving_.push_back({session->SaName(before, steer::OUTBOUND), now});
    leaving_.push_back({session->SaName(before, steer::INBOUND), now + times_.grace});
  }
  session->current = std::move(session->next);
  session->next.reset();
  session->current->state = Generation::State::confirmed;
  gate_.events().Tell(
      "session",
      fmt::format("session '{}' on {}: generation {} is in force for {} s", id, session->interface,
                  generation,
                  std::chrono::floor<std::chrono::seconds>(session->current->ends - now).count()),
      {}, session->peer);
  if (!session->current->wanted.initial_contact || generation != 1) {
    co_return tl::expected<void, Refusal>{};
  }
  // The peer knows of nothing else: its other sessions here, and what is left of those that
  // control itself forgot when it restarted.
  std::vector<std::string> others;
  for (const auto& [other, s] : sessions_) {
    if (other != id && s.peer == session->peer && s.interface == session->interface) {
      others.push_back(other);
    }
  }
  for (const auto& [name, sa] : gate_.sas()) {
    if (sa.spec.peer() != session->peer || !name.starts_with(kSaPrefix)) continue;
    const std::string owner =
        name.substr(kSaPrefix.size(), name.find('-', kSaPrefix.size()) - kSaPrefix.size());
    if (!sessions_.contains(owner)) leaving_.push_back({name, now});
  }
  for (std::string& other : others) {
    co_await Drop(std::move(other), "replaced by a session of a peer that knew of none");
  }
  co_return tl::expected<void, Refusal>{};
}

Sessions::Done Sessions::End(Applicant who, std::string id) {
  const auto peer = PeerOf(gate_.document(), who);
  if (!peer) co_return tl::unexpected(peer.error());
  const auto at = sessions_.find(id);
  if (at == sessions_.end() || at->second.peer != (*peer)->name) {
    co_return Refuse(Reason::session_conflict,
                     fmt::format("peer '{}' has no session '{}'", (*peer)->name, id));
  }
  co_await Drop(std::move(id), "ended by the peer");
  co_return tl::expected<void, Refusal>{};
}

asio::awaitable<void> Sessions::Drop(std::string id, std::string why) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end()) co_return;
  const auto now = Clock::now();
  for (Leaving& l : leaving_) {  // of earlier generations: no more grace
    if (l.sa.starts_with(fmt::format("{}{}-", kSaPrefix, id))) l.at = now;
  }
  for (const auto* generation : {&at->second.current, &at->second.next}) {
    if (!*generation) continue;
    leaving_.push_back({at->second.SaName((*generation)->number, steer::OUTBOUND), now});
    leaving_.push_back({at->second.SaName((*generation)->number, steer::INBOUND), now});
  }
  gate_.events().Tell("session",
                      fmt::format("session '{}' on {}: {}", id, at->second.interface, why), {},
                      at->second.peer);
  sessions_.erase(at);
  co_await RemoveLeaving();
}

// What cannot be removed now, since the dataplane is away, is tried again.
asio::awaitable<void> Sessions::RemoveLeaving() {
  const auto now = Clock::now();
  std::vector<Leaving> due;
  std::erase_if(leaving_, [&](Leaving& l) {
    if (l.at > now) return false;
    due.push_back(std::move(l));
    return true;
  });
  for (Leaving& l : due) {
    if (!gate_.sas().contains(l.sa)) continue;
    if (!co_await gate_.RemoveSa(l.sa, kOwnWish)) leaving_.push_back(std::move(l));
  }
}

asio::awaitable<void> Sessions::NoticeFirstPackets() {
  std::map<std::string, std::pair<std::string, uint64_t>> waiting;  // SA -> session, generation
  for (const auto& [id, session] : sessions_) {
    if (!session.next || session.next->state != Generation::State::installed) continue;
    waiting.emplace(session.SaName(session.next->number, steer::INBOUND),
                    std::pair(id, session.next->number));
  }
  if (waiting.empty()) co_return;
  std::vector<std::string> ids;
  ids.reserve(waiting.size());
  for (const auto& [sa, session] : waiting) ids.push_back(sa);
  const auto live = co_await gate_.LiveSas(std::move(ids));
  if (!live) co_return;
  for (const steer::SaState& state : *live) {
    if (state.packets() == 0) continue;
    const auto& [id, generation] = waiting.at(state.spec().id());
    Session* session = Find(id, generation);
    if (session == nullptr || !session->next || session->next->number != generation ||
        session->next->busy) {
      continue;
    }
    co_await InForce(*session);
  }
}

// Nothing: it goes on. Empty: there is nothing left of it to tell about.
std::optional<std::string> Sessions::WhyOver(Session& session) {
  const auto now = Clock::now();
  std::optional<Generation>& next = session.next;
  if (next && !next->busy && now >= next->take_back) {
    if (next->state == Generation::State::installed) {
      leaving_.push_back({session.SaName(next->number, steer::INBOUND), now});
      gate_.events().Tell("session",
                          fmt::format("session '{}' on {}: generation {} was not confirmed",
                                      session.id, session.interface, next->number),
                          {}, session.peer);
    }
    next.reset();
  }
  if (!session.current && !next) return "";
  if (session.current && now >= session.current->ends) return "its time is up";
  for (auto* generation : {&session.current, &session.next}) {
    if (!*generation || (*generation)->epoch == gate_.epoch()) continue;
    if (gate_.RevokedSince(session.peer, (*generation)->epoch)) return "the peer was revoked";
    // At the time when it was admitted, but under what operators have changed since.
    const auto grant =
        Decide(gate_.document(), gate_.revoked(), (*generation)->who, (*generation)->decided);
    if (!grant) return grant.error().Text();
    (*generation)->epoch = gate_.epoch();
  }
  return {};
}

asio::awaitable<void> Sessions::TidyUp() {
  std::vector<std::pair<std::string, std::string>> ending;  // session, why
  for (auto& [id, session] : sessions_) {
    if (auto why = WhyOver(session)) ending.emplace_back(id, std::move(*why));
  }
  for (auto& [id, why] : ending) {
    if (why.empty()) {
      sessions_.erase(id);
    } else {
      co_await Drop(std::move(id), std::move(why));
    }
  }
  co_await RemoveLeaving();
}

asio::awaitable<void> Sessions::Run() {
  while (!stopping_) {
    pause_.expires_after(kTick);
    co_await pause_.async_wait(asio::as_tuple(asio::use_awaitable));
    if (stopping_) co_return;
    co_await NoticeFirstPackets();
    co_await TidyUp();
  }
}

void Sessions::Stop() {
  stopping_ = true;
  pause_.cancel();
}

std::vector<SessionState> Sessions::List() const {
  std::vector<SessionState> all;
  all.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) {
    const Generation& newest = session.next ? *session.next : *session.current;
    const auto left = std::chrono::floor<std::chrono::seconds>(newest.ends - Clock::now());
    all.push_back({id, session.peer, session.interface, newest.number, session.current.has_value(),
                   std::max(left, std::chrono::seconds(0))});
  }
  return all;
}

}  // namespace portcullis::admission
