// Sessions: who was admitted, under which keys, until when (design: Sessions). A session has
// generations of two SAs each; only the peer begins one.
//
//   Admit    decides, reserves an SPI; nothing is in force yet
//   Install  decides again, installs inbound; the peer may send
//   Confirm  installs outbound; so does the first valid packet. The generation before goes:
//            outbound at once, inbound after a grace time, since packets are under way to it
//
// What is not installed or confirmed within 30 s is taken back. The dataplane itself ends a
// session's SAs at their deadline, also while control is stopped; here they are only tidied up. On
// whose word an SA stands is written on it, so that a control that restarted finds its sessions in
// the dataplane again and can still end them.
//
//   sessions.cpp               how they begin, are renewed and end
//   sessions_index.cpp         how they are found
//   sessions_carried.cpp       connections that rest on them (tls+esp)
//   sessions_registration.cpp  what they carry only while the peer is registered
//   sessions_upkeep.cpp        what goes on by itself
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "base/secret.hpp"
#include "control/admission/grant.hpp"
#include "control/core/gate.hpp"

namespace portcullis::admission {

/// What a peer asks for, beside who it is.
struct Wanted {
  std::string session;  // empty: a new one
  uint32_t peer_spi = 0;
  std::vector<steer::Algorithm> algorithms;  // that it offers
  bool initial_contact = false;
  bool udp_encap = false;
  Address peer_outer;
  Address gate_outer;
};

struct Terms {
  std::string session;
  uint64_t generation = 0;
  std::string peer;
  uint32_t gate_spi = 0;
  steer::Algorithm algorithm{};
  std::vector<steer::Selector> selectors;  // all that it will ever carry
  std::chrono::seconds life{};
};

inline constexpr uint32_t kReplayWindow = 1024;  // packets

/// Where a session stands, for operators.
struct SessionState {
  std::string id;
  std::string peer;
  std::string interface;
  uint64_t generation = 0;  // the newest
  bool confirmed = false;
  std::chrono::seconds left{};
  std::chrono::seconds registered{};  // for so long; 0: it is not
};

/// What happened to a session, for whoever keeps books.
struct SessionNews {
  enum class What : uint8_t { in_force, renewed, not_confirmed, ended };
  What what = What::ended;
  std::string id;
  std::string peer;
  std::string interface;
  uint64_t generation = 0;
  std::string why;
  std::string who;  // ended: an operator, or one of these
  static inline const std::string kPeer = "peer";
  static inline const std::string kControl = "control";
};

class Sessions {
 public:
  using Done = boost::asio::awaitable<tl::expected<void, identity::Refusal>>;
  struct Times {
    std::chrono::milliseconds to_confirm{30'000};  // also from Admit to Install
    std::chrono::milliseconds grace{30'000};       // of an inbound SA whose successor is in force
  };

  Sessions(const boost::asio::any_io_executor& executor, Gate& gate)
      : Sessions(executor, gate, Times{}) {}
  Sessions(const boost::asio::any_io_executor& executor, Gate& gate, Times times);

  tl::expected<Terms, identity::Refusal> Admit(const Applicant& who, const Wanted& wanted);
  /// `to_gate`, `to_peer`: Info(algorithm).key_bytes long, as both ends derived them.
  Done Install(std::string session, uint64_t generation, Secret to_gate, Secret to_peer);
  Done Confirm(std::string session, uint64_t generation);
  Done End(Applicant who, std::string session);
  /// Ends a session, whatever state it is in. True: its SAs are gone; false: they go when the
  /// dataplane is back. kNotFound.
  boost::asio::awaitable<Result<bool>> EndByOperator(std::string session, std::string name);
  [[nodiscard]] bool Knows(const std::string& session) const { return sessions_.contains(session); }
  /// What these rest on is no longer valid; those that are over already are passed over.
  boost::asio::awaitable<void> Withdraw(admission::Withdraw which);
  /// What rests on something that is revoked now, ends. False: the dataplane is away and has not
  /// confirmed; it is asked again until it has.
  boost::asio::awaitable<bool> Enforce();
  /// What sessions after that one rest on, as much as one message takes.
  void Review(const std::string& after, Reviewed& reply);

  /// The protected server says that the peer is registered with it for so long, 0: no longer; what
  /// policy opens only then is open (design: two-phase grants). kNotFound: no session of the peer
  /// on that interface. kUnavailable: the dataplane has not confirmed.
  boost::asio::awaitable<Result<void>> Register(std::string peer, std::string interface,
                                                std::chrono::seconds duration);
  /// The same for what the guard has heard protected servers say (Gate::registrations), for
  /// sessions that there are and those that come.
  boost::asio::awaitable<void> FollowRegistrations();
  /// For how long, at most, a session that is in force carries the peer's connections from `source`
  /// to the guard of an interface of protection tls+esp. Refused: there is none, or nobody can
  /// tell.
  tl::expected<std::chrono::seconds, identity::Refusal> Carries(const std::string& peer,
                                                                const model::Interface& interface,
                                                                const Address& source);
  /// Grows whenever one of such an interface ends.
  [[nodiscard]] uint64_t ended() const { return ended_; }
  /// Called whenever that grows: to wake who waits for it, and nothing else.
  void OnEnded(std::function<void()> wake) { wake_ = std::move(wake); }
  /// Told of all that happens to sessions once they are installed.
  void OnNews(std::function<void(const SessionNews&)> tell) { tell_ = std::move(tell); }

  /// Takes back what is not confirmed, notices first packets, tidies up. Until Stop().
  boost::asio::awaitable<void> Run();
  void Stop();

  [[nodiscard]] std::vector<SessionState> List() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Generation {
    enum class State : uint8_t { reserved, installed, confirmed };

    uint64_t number = 0;
    State state = State::reserved;
    bool busy = false;  // the dataplane is being asked
    Applicant who;
    Wanted wanted;
    std::chrono::system_clock::time_point decided;
    uint64_t epoch = 0;   // Gate::epoch() of the latest decision
    uint64_t policy = 0;  // Gate::generation() of the same
    std::vector<model::Revocable> rests_on;
    uint32_t gate_spi = 0;
    steer::Algorithm algorithm{};
    std::vector<steer::Selector> selectors;
    std::vector<steer::Selector> registered_selectors;
    Clock::time_point take_back;  // unless confirmed by then
    Clock::time_point ends;
    Secret to_peer;  // until it is installed
  };
  struct Session {
    std::string id;
    std::string peer;
    std::string interface;
    std::optional<Generation> current;  // confirmed
    std::optional<Generation> next;
    Clock::time_point registered_until;  // past: it is not registered
    bool follows = false;                // the guard's word on that

    [[nodiscard]] std::string SaName(uint64_t generation, steer::Direction direction) const;
    [[nodiscard]] model::Sa Make(const Generation& g, steer::Direction direction, Secret key) const;
  };
  struct Leaving {  // an SA of a generation that was
    std::string session;
    std::string sa;
    Clock::time_point at;
  };
  using Ending = std::map<std::string, std::string>;  // session -> why

  const PolicyView& View();
  [[nodiscard]] tl::expected<void, identity::Refusal> SecondPlace(const Grant& grant,
                                                                  const Wanted& wanted) const;
  tl::expected<Session*, identity::Refusal> SessionFor(const Grant& grant, const Wanted& wanted);
  // sessions_index.cpp
  Session& Begin(const std::string& id, const std::string& peer, const std::string& interface);
  /// One that there is.
  Session Take(const std::string& id);
  /// The peer's sessions on the interface.
  [[nodiscard]] std::vector<const Session*> Of(const std::string& peer,
                                               const std::string& interface) const;
  /// SPIs that were promised and are not installed yet.
  std::set<uint32_t> Reserved();

  Session* Find(const std::string& id, uint64_t generation);
  Done InForce(Session& session);
  [[nodiscard]] std::string StillRight(const Session& session, Generation& generation);
  void Leave(const Session& session, uint64_t generation, Clock::time_point inbound_at);
  /// Ends those that there are still, and tells of it, by `who` (SessionNews::who). False: the
  /// dataplane has not confirmed.
  boost::asio::awaitable<bool> Finish(Ending ending, std::string who);
  void Tell(SessionNews::What what, const Session& session, uint64_t generation, std::string why,
            std::string who = {}) const;
  /// Null: what was to be its first one came to nothing, and it is about to be tidied up.
  static const Generation* NewestOf(const Session& session) {
    if (session.next) return &*session.next;
    return session.current ? &*session.current : nullptr;
  }

  boost::asio::awaitable<void> RegisterAgain();  // sessions_registration.cpp

  void NoteEnded(const std::vector<Session>& ended);  // sessions_carried.cpp

  // sessions_upkeep.cpp
  void Adopt();
  void AdoptSa(const model::Sa& sa, const SaNote& note);
  boost::asio::awaitable<bool> RemoveLeaving();
  boost::asio::awaitable<void> NoticeFirstPackets();
  std::optional<std::string> WhyOver(Session& session);
  boost::asio::awaitable<bool> TidyUp();

  Gate& gate_;
  const Times times_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
  bool adopted_ = false;  // what an earlier process left in the dataplane
  std::optional<PolicyView> view_;
  uint64_t viewed_ = 0;        // Gate::generation() of view_
  std::string registered_in_;  // incarnation of the dataplane that knows who is registered
  std::map<std::string, Session> sessions_;
  // Whoever comes is not to cost a walk past everybody who is there.
  std::map<std::string, std::set<std::string>> of_peer_;  // its sessions
  std::set<std::string> under_way_;  // those with a generation `next`, and some that had one
  std::vector<Leaving> leaving_;
  uint64_t ended_ = 0;
  std::function<void()> wake_;
  std::function<void(const SessionNews&)> tell_;
};

}  // namespace portcullis::admission
