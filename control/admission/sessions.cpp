#include "control/admission/sessions.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include "control/admission/own_key.hpp"
#include "control/admission/refusal_message.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using identity::Reason;
using WallClock = std::chrono::system_clock;

namespace {

// A peer whose connection breaks tries again; more attempts at once are somebody's mistake.
constexpr ptrdiff_t kMostUnconfirmed = 4;
constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1
constexpr std::string_view kSaPrefix = "session-";
// Nobody's wish but the sessions' own. (A name, since GCC 12 destroys twice what is made within a
// co_await: its bug 104031.)
const Gate::Wish kOwnWish{};
const std::string kNone;

tl::unexpected<identity::Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(identity::Refusal{reason, std::move(detail)});
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

// Rounded up: 0 is the end itself.
uint64_t SecondsUntil(std::chrono::steady_clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::seconds>(end - std::chrono::steady_clock::now());
  return static_cast<uint64_t>(std::max<int64_t>(left.count(), 0));
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
  for (const auto& selector : g.registered_selectors) {
    *sa.spec.add_registered_selectors() = selector;
  }
  sa.spec.set_registered_seconds(SecondsUntil(registered_until));
  steer::Tunnel& tunnel = *sa.spec.mutable_tunnel();
  tunnel.set_local(steer::ToBytes(g.wanted.gate_outer));
  // Behind a NAT it may come from elsewhere tomorrow.
  if (!inbound || !g.wanted.udp_encap) tunnel.set_remote(steer::ToBytes(g.wanted.peer_outer));
  tunnel.set_udp_encap(g.wanted.udp_encap);
  tunnel.set_follow_nat(g.wanted.udp_encap);
  const auto left = std::chrono::floor<std::chrono::seconds>(g.ends - Clock::now());
  sa.spec.mutable_lifetime()->set_hard_seconds(
      static_cast<uint64_t>(std::max<int64_t>(left.count(), 1)));
  SaNote note;
  note.set_session(id);
  note.set_generation(g.number);
  note.set_interface(interface);
  *note.mutable_identity() = g.who.identity;
  *note.mutable_token() = g.who.token;
  note.set_decided(static_cast<uint64_t>(WallClock::to_time_t(g.decided)));
  note.set_ends_ms(static_cast<uint64_t>(
      std::chrono::floor<std::chrono::milliseconds>(g.ends.time_since_epoch()).count()));
  sa.spec.set_note(note.SerializeAsString());
  sa.fingerprint = KeyFingerprint(InfoOf(g.algorithm).name, key.bytes());
  sa.key = std::move(key);
  return sa;
}

Sessions::Sessions(const asio::any_io_executor& executor, Gate& gate, Times times)
    : gate_(gate), times_(times), pause_(executor) {}

// The document changes only together with its generation.
const PolicyView& Sessions::View() {
  if (!view_ || viewed_ != gate_.generation()) {
    view_.emplace(gate_.document());
    viewed_ = gate_.generation();
  }
  return *view_;
}

// The same identity from two addresses: one of them may be a thief's.
tl::expected<void, identity::Refusal> Sessions::SecondPlace(const Grant& grant,
                                                            const Wanted& wanted) const {
  for (const Session* session : Of(grant.peer, grant.interface)) {
    if (!session->current || session->current->wanted.peer_outer == wanted.peer_outer) continue;
    std::string text = fmt::format(
        "peer '{}' has a session on {} from {}, and asks from {}", grant.peer, grant.interface,
        session->current->wanted.peer_outer.Text(), wanted.peer_outer.Text());
    if (grant.second_place == model::SecondPlace::refuse) {
      return Refuse(Reason::session_conflict, text + ": policy admits no second place");
    }
    if (grant.second_place == model::SecondPlace::alarm) {
      gate_.events().Tell("alarm", text, {}, grant.peer);
    }
  }
  return {};
}

tl::expected<Sessions::Session*, identity::Refusal> Sessions::SessionFor(const Grant& grant,
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
      Leave(session, session.next->number, Clock::now());
    }
    return &session;
  }
  const auto own = Of(grant.peer, grant.interface);
  const auto in_force = [](const Session* session) { return session->current.has_value(); };
  if (!wanted.initial_contact && std::ranges::any_of(own, in_force)) {
    return Refuse(Reason::session_conflict,
                  fmt::format("peer '{}' has a session on {} already: it renews that one, or says "
                              "that it knows of none (initial_contact)",
                              grant.peer, grant.interface));
  }
  if (auto place = SecondPlace(grant, wanted); !place) return tl::unexpected(place.error());
  if (std::ranges::count_if(own, std::not_fn(in_force)) >= kMostUnconfirmed) {
    return Refuse(Reason::session_conflict,
                  fmt::format("peer '{}' has {} attempts under way", grant.peer, kMostUnconfirmed));
  }
  return &Begin(NewId(), grant.peer, grant.interface);
}

tl::expected<Terms, identity::Refusal> Sessions::Admit(const Applicant& who, const Wanted& wanted) {
  Adopt();
  if (auto admits = ClockAdmits(gate_.clock(), !wanted.session.empty()); !admits) {
    return tl::unexpected(admits.error());
  }
  const auto now = WallClock::now();
  auto grant = Decide(View(), gate_.denials(), who, now);
  if (!grant) return tl::unexpected(grant.error());
  if (auto own = KeyIsOwn(gate_, grant->peer, who, now); !own) return tl::unexpected(own.error());
  if (wanted.peer_spi < kLeastSpi) {
    return Refuse(Reason::request_malformed,
                  fmt::format("SPI 0x{:08x} is reserved (RFC 4303 2.1)", wanted.peer_spi));
  }
  const auto algorithm = Choose(wanted.algorithms);
  if (!algorithm) {
    return Refuse(Reason::weak_alg_refused, "none of the algorithms that the peer offers");
  }
  const auto spi = gate_.ChooseSpi(Reserved());
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
  next.policy = gate_.generation();
  next.rests_on = std::move(grant->rests_on);
  next.gate_spi = *spi;
  next.algorithm = *algorithm;
  next.selectors = grant->selectors;
  next.registered_selectors = grant->registered_selectors;
  next.take_back = Clock::now() + times_.to_confirm;
  next.ends = Clock::now() + grant->life;
  Terms terms{(*session)->id, next.number, grant->peer,
              *spi,           *algorithm,  std::move(grant->selectors),
              grant->life};
  std::ranges::move(grant->registered_selectors, std::back_inserter(terms.selectors));
  (*session)->next = std::move(next);
  under_way_.insert((*session)->id);
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
  if (const auto* gone = gate_.denials().FirstSince(next.rests_on, next.epoch)) {
    const auto refusal =
        Refuse(ReasonFor(gone->kind),
               fmt::format("{} was revoked since the session was admitted", Text(*gone)));
    session->next.reset();
    co_return refusal;
  }
  const auto grant = Decide(View(), gate_.denials(), next.who, WallClock::now());
  if (!grant || !Same(grant->selectors, next.selectors) ||
      !Same(grant->registered_selectors, next.registered_selectors)) {
    session->next.reset();
    if (!grant) co_return tl::unexpected(grant.error());
    co_return Refuse(Reason::policy_denied, "policy has changed since the session was admitted");
  }
  next.epoch = gate_.epoch();
  next.policy = gate_.generation();
  next.busy = true;
  model::Sa inbound = session->Make(next, steer::INBOUND, std::move(to_gate));
  const auto installed = co_await gate_.InstallSa(std::move(inbound), kNone, kOwnWish);
  session = Find(id, generation);
  if (session == nullptr) {
    leaving_.push_back({id, fmt::format("{}{}-{}-in", kSaPrefix, id, generation), Clock::now()});
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
  co_return tl::expected<void, identity::Refusal>{};
}

Sessions::Done Sessions::Confirm(std::string id, uint64_t generation) {
  Session* session = Find(id, generation);
  if (session == nullptr) {
    co_return Refuse(Reason::session_conflict, "no such session, or it was taken back");
  }
  if (session->current && session->current->number == generation) {
    co_return tl::expected<void, identity::Refusal>{};  // its first packet was quicker
  }
  if (session->next->state != Generation::State::installed) {
    co_return Refuse(Reason::session_conflict, "there are no keys yet");
  }
  if (session->next->busy)
    co_return tl::expected<void, identity::Refusal>{};  // its first packet is quicker
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
    leaving_.push_back({id, fmt::format("{}{}-{}-out", kSaPrefix, id, generation), Clock::now()});
    co_return Refuse(Reason::session_conflict, "the session ended meanwhile");
  }
  session->next->busy = false;
  if (!installed) {
    Leave(*session, generation, Clock::now());
    session->next.reset();
    co_return Refuse(Reason::gate_unavailable, installed.error().Text());
  }
  const auto now = Clock::now();
  if (session->current) Leave(*session, session->current->number, now + times_.grace);
  session->current = std::move(session->next);
  session->next.reset();
  session->current->state = Generation::State::confirmed;
  Tell(generation == 1 ? SessionNews::What::in_force : SessionNews::What::renewed, *session,
       generation, "the peer has the keys");
  gate_.events().Tell(
      "session",
      fmt::format("session '{}' on {}: generation {} is in force for {} s", id, session->interface,
                  generation,
                  std::chrono::floor<std::chrono::seconds>(session->current->ends - now).count()),
      {}, session->peer);
  if (!session->current->wanted.initial_contact || generation != 1) {
    co_return tl::expected<void, identity::Refusal>{};
  }
  // The peer knows of nothing else.
  Ending others;
  for (const Session* other : Of(session->peer, session->interface)) {
    if (other == session) continue;
    others.emplace(other->id, "replaced by a session of a peer that knew of none");
  }
  co_await Finish(std::move(others), SessionNews::kControl);
  co_return tl::expected<void, identity::Refusal>{};
}

Sessions::Done Sessions::End(Applicant who, std::string id) {
  const auto peer = View().PeerOf(who);
  if (!peer) co_return tl::unexpected(peer.error());
  const auto at = sessions_.find(id);
  if (at == sessions_.end() || at->second.peer != (*peer)->name) {
    co_return Refuse(Reason::session_conflict,
                     fmt::format("peer '{}' has no session '{}'", (*peer)->name, id));
  }
  Ending ending{{std::move(id), "ended by the peer"}};
  co_await Finish(std::move(ending), SessionNews::kPeer);
  co_return tl::expected<void, identity::Refusal>{};
}

asio::awaitable<Result<bool>> Sessions::EndByOperator(std::string id, std::string name) {
  if (!Knows(id)) co_return Fail(ErrorKind::kNotFound, fmt::format("there is no session '{}'", id));
  Ending ending{{std::move(id), "ended by an operator"}};
  const bool gone = co_await Finish(std::move(ending), std::move(name));
  co_return gone;
}

void Sessions::Tell(SessionNews::What what, const Session& session, uint64_t generation,
                    std::string why, std::string who) const {
  if (!tell_) return;
  tell_({what, session.id, session.peer, session.interface, generation, std::move(why),
         std::move(who)});
}

asio::awaitable<void> Sessions::Withdraw(admission::Withdraw which) {
  Ending ending;
  for (const auto& one : which.sessions()) {
    if (Find(one.session(), one.generation()) == nullptr) continue;
    ending.emplace(one.session(), FromMessage(one.refusal()).Text());
  }
  co_await Finish(std::move(ending), SessionNews::kControl);
}

asio::awaitable<bool> Sessions::Enforce() {
  return TidyUp();
}

// Both SAs of a generation: outbound at once.
void Sessions::Leave(const Session& session, uint64_t generation, Clock::time_point inbound_at) {
  leaving_.push_back({session.id, session.SaName(generation, steer::OUTBOUND), Clock::now()});
  leaving_.push_back({session.id, session.SaName(generation, steer::INBOUND), inbound_at});
}

// The SAs first: whatever is told of thousands of sessions can wait until their packets have
// stopped.
asio::awaitable<bool> Sessions::Finish(Ending ending, std::string who) {
  const auto now = Clock::now();
  for (Leaving& l : leaving_) {  // of earlier generations: no more grace
    if (ending.contains(l.session)) l.at = std::min(l.at, now);
  }
  std::vector<Session> ended;
  for (const auto& [id, why] : ending) {
    if (!Knows(id)) continue;
    const Session& session = ended.emplace_back(Take(id));
    if (session.current) Leave(session, session.current->number, now);
    if (session.next) Leave(session, session.next->number, now);
  }
  NoteEnded(ended);
  const bool gone = co_await RemoveLeaving();
  for (const Session& session : ended) {
    const std::string& why = ending.at(session.id);
    gate_.events().Tell(
        "session", fmt::format("session '{}' on {}: {}", session.id, session.interface, why),
        who == SessionNews::kPeer || who == SessionNews::kControl ? "" : who, session.peer);
    const Generation* newest = NewestOf(session);
    Tell(SessionNews::What::ended, session, newest == nullptr ? 0 : newest->number, why, who);
  }
  co_return gone;
}

// Holds a decision against what operators have changed since. Empty: it still stands.
std::string Sessions::StillRight(const Session& session, Generation& g) {
  if (g.epoch == gate_.epoch()) return {};
  if (const auto* gone = gate_.denials().FirstSince(g.rests_on, g.epoch)) {
    return fmt::format("{}: {} was revoked", Info(ReasonFor(gone->kind)).name, Text(*gone));
  }
  if (g.policy != gate_.generation()) {
    // At the time when it was admitted: its deadline is the dataplane's to watch.
    const auto grant = Decide(View(), gate_.denials(), g.who, g.decided);
    if (!grant) return grant.error().Text();
    if (grant->peer != session.peer) return "policy gives its identity to another peer now";
    g.rests_on = grant->rests_on;
  }
  g.epoch = gate_.epoch();
  g.policy = gate_.generation();
  return {};
}

std::vector<SessionState> Sessions::List() const {
  std::vector<SessionState> all;
  all.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) {
    const Generation* newest = NewestOf(session);
    if (newest == nullptr) continue;
    const auto left = std::chrono::floor<std::chrono::seconds>(newest->ends - Clock::now());
    all.push_back({id, session.peer, session.interface, newest->number, session.current.has_value(),
                   std::max(left, std::chrono::seconds(0)),
                   std::chrono::seconds(SecondsUntil(session.registered_until))});
  }
  return all;
}

}  // namespace portcullis::admission
