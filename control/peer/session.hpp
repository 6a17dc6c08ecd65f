// The life of a session on one interface: opened, renewed well before its end, opened anew when the
// gate has forgotten it or has fallen silent, ended when this peer stops. What fails is tried again
// with growing, random pauses (full jitter), without end: a gate that comes back finds its peers.
//
// A new generation takes over before the old one goes: the old pair stays for a grace time, since
// packets are under way under it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "control/identity/revocations.hpp"
#include "control/peer/datapath.hpp"
#include "control/peer/enrolment.hpp"

namespace portcullis::peer {

/// A time that a suspended machine does not stop (CLOCK_BOOTTIME).
using BootTime = std::chrono::nanoseconds;
BootTime BootNow();

/// When something is tried again: after `failures` in a row, at most `longest`. `random`: 0 to 1.
std::chrono::milliseconds PauseAfter(unsigned failures, std::chrono::milliseconds longest,
                                     double random);
/// When a generation of this life is renewed, from its beginning: at 2/3 or a little before.
std::chrono::milliseconds RenewAfter(std::chrono::seconds life, double random);

class Session {
 public:
  /// All of them outlive Run().
  Session(const boost::asio::any_io_executor& executor, const Identity& self, Datapath& datapath,
          const identity::Revocations& revocations, SessionSettings settings);

  /// Until Stop(), and then until the gate was told, or could not be.
  boost::asio::awaitable<void> Run();
  void Stop();
  [[nodiscard]] bool over() const { return over_; }

 private:
  struct Held {
    Enrolled is;
    BootTime ends{};
    uint64_t epoch = 0;  // of the revocations, when the gate's certificate was last judged
    Traffic traffic;
    std::optional<BootTime> silent_since;  // it sends, and nothing comes
  };
  struct Leaving {
    std::string pair;
    BootTime at{};
  };

  boost::asio::awaitable<void> Tick();
  boost::asio::awaitable<void> TryIt();
  boost::asio::awaitable<void> Adopt(Enrolled enrolled, BootTime began, uint64_t epoch);
  boost::asio::awaitable<void> SweepUp();
  boost::asio::awaitable<void> RemoveLeaving();
  boost::asio::awaitable<void> Watch();
  boost::asio::awaitable<void> Finish();
  void NoteTraffic(const Traffic& now);
  void NoteFailure(const Failure& failure);
  void Drop(const std::string& why);
  [[nodiscard]] double Random();

  const Identity& self_;
  Datapath& datapath_;
  const identity::Revocations& revocations_;
  SessionSettings settings_;
  Enrolment enrolment_;
  boost::asio::steady_timer pause_;
  std::mt19937 random_{std::random_device{}()};
  bool stopping_ = false;
  bool over_ = false;

  std::optional<Held> held_;
  bool forgotten_ = false;  // the gate does not know what is held: it is replaced as a whole
  std::vector<Leaving> leaving_;
  BootTime next_attempt_{};
  BootTime next_watch_{};
  unsigned failures_ = 0;  // in a row
  std::chrono::seconds patience_;
};

}  // namespace portcullis::peer
