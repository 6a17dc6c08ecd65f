// What goes on by itself: sessions of an earlier process are found again, first packets noticed,
// what was not confirmed is taken back, what is over tidied up.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "control/admission/sessions.hpp"
#include "control/coroutines.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using WallClock = std::chrono::system_clock;

namespace {
constexpr std::chrono::milliseconds kTick{250};
}

// Each SA by itself, in whatever order: the newest generation that has an outbound one is in force.
void Sessions::AdoptSa(const model::Sa& sa, const SaNote& note) {
  const std::string& id = note.session();
  const auto now = Clock::now();
  if (sa.spec.direction() != steer::OUTBOUND) {
    const auto at = sessions_.find(id);
    const bool in_force = at != sessions_.end() && at->second.current->number == note.generation();
    // The keys of what is not in force yet are lost; an older one may still have packets under way.
    if (!in_force) leaving_.push_back({id, sa.spec.id(), now + times_.grace});
    if (in_force) at->second.current->gate_spi = sa.spec.spi();
    return;
  }
  const bool fresh = !sessions_.contains(id);
  Session& session = Begin(id, sa.spec.peer(), note.interface());
  if (!fresh && session.current->number > note.generation()) {
    leaving_.push_back({id, sa.spec.id(), now});
    return;
  }
  if (!fresh) Leave(session, session.current->number, now + times_.grace);
  Generation g;
  g.number = note.generation();
  g.state = Generation::State::confirmed;
  g.who = ApplicantOf(note.identity(), note.token(), note.interface());
  g.decided = WallClock::from_time_t(static_cast<time_t>(note.decided()));
  g.ends = Clock::time_point(std::chrono::milliseconds(note.ends_ms()));
  g.algorithm = sa.spec.algorithm();
  g.selectors.assign(sa.spec.selectors().begin(), sa.spec.selectors().end());
  g.registered_selectors.assign(sa.spec.registered_selectors().begin(),
                                sa.spec.registered_selectors().end());
  session.registered_until = now + std::chrono::seconds(sa.spec.registered_seconds());
  g.wanted.peer_spi = sa.spec.spi();
  g.wanted.udp_encap = sa.spec.tunnel().udp_encap();
  g.wanted.peer_outer = steer::FromBytes(sa.spec.tunnel().remote()).value_or(Address{});
  g.wanted.gate_outer = steer::FromBytes(sa.spec.tunnel().local()).value_or(Address{});
  g.rests_on = g.who.proofs;  // epoch 0: the rest when it is decided again, at once
  session.current = std::move(g);
}

void Sessions::Adopt() {
  if (adopted_ || !gate_.link().ready()) return;
  adopted_ = true;
  registered_in_ = gate_.link().hello()->incarnation();  // its SAs say who is registered
  for (const auto direction : {steer::OUTBOUND, steer::INBOUND}) {
    for (const auto& [name, sa] : gate_.sas()) {
      SaNote note;
      if (sa.spec.direction() != direction || sa.spec.note().empty() ||
          !note.ParseFromString(sa.spec.note()) || note.generation() == 0) {
        continue;
      }
      AdoptSa(sa, note);
    }
  }
  if (sessions_.empty()) return;
  gate_.events().Tell("session",
                      fmt::format("{} sessions go on after a restart", sessions_.size()));
}

void Sessions::Review(const std::string& after, Reviewed& reply) {
  constexpr size_t kMostBytes = 32 * 1024;  // of 64 KiB that a message may have
  Adopt();
  for (auto at = sessions_.upper_bound(after); at != sessions_.end(); ++at) {
    if (reply.ByteSizeLong() > kMostBytes) {
      reply.set_more(true);
      return;
    }
    for (const auto* g : {&at->second.current, &at->second.next}) {
      if (!*g) continue;
      Held& held = *reply.add_held();
      held.set_session(at->first);
      held.set_generation((*g)->number);
      *held.mutable_chain() = (*g)->who.identity.chain();
      held.set_token_issuer((*g)->who.token.issuer());
      held.set_kid((*g)->who.token.kid());
    }
  }
}

// What cannot be removed now, since the dataplane is away, is tried again. False: then.
asio::awaitable<bool> Sessions::RemoveLeaving() {
  const auto now = Clock::now();
  std::vector<std::string> due;
  for (const Leaving& l : leaving_) {
    if (l.at <= now) due.push_back(l.sa);
  }
  if (due.empty()) co_return true;
  std::set<std::string> gone(due.begin(), due.end());
  const auto removed = co_await gate_.RemoveSas(std::move(due));
  if (!removed) co_return false;
  std::erase_if(leaving_, [&](const Leaving& l) { return gone.contains(l.sa); });
  co_return true;
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
      Leave(session, next->number, now);
      Tell(SessionNews::What::not_confirmed, session, next->number, "the peer did not confirm it");
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
    if (!*generation) continue;
    if (auto why = StillRight(session, **generation); !why.empty()) return why;
  }
  return {};
}

asio::awaitable<bool> Sessions::TidyUp() {
  Ending ending;
  std::vector<std::string> nothing_left;
  for (auto& [id, session] : sessions_) {
    const auto why = WhyOver(session);
    if (!why) continue;
    if (why->empty()) {
      nothing_left.push_back(id);
    } else {
      ending.emplace(id, *why);
    }
  }
  for (const auto& id : nothing_left) Take(id);
  const bool gone = co_await Finish(std::move(ending), SessionNews::kControl);
  co_return gone;
}

asio::awaitable<void> Sessions::Run() {
  while (!stopping_) {
    pause_.expires_after(kTick);
    co_await pause_.async_wait(kAwait);
    if (stopping_) co_return;
    Adopt();
    co_await NoticeFirstPackets();
    co_await TidyUp();
    co_await RegisterAgain();
    co_await FollowRegistrations();
  }
}

void Sessions::Stop() {
  stopping_ = true;
  pause_.cancel();
}

}  // namespace portcullis::admission
