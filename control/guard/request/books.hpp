// What control's records are told of requests: that one goes on, before it does, and what came of
// it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <string>

#include "base/secret.hpp"
#include "control/guard/request/judge.hpp"
#include "control/guard/request/outcomes.hpp"
#include "control/guard/request/permits.hpp"
#include "control/guard/request/relay.hpp"
#include "control/guard/request/upstream.hpp"
#include "control/identity/token/verifier.hpp"

namespace portcullis::guard {

/// What a token that was shown on a connection is worth there.
struct Proven {
  identity::AccessToken token;
  Permits::Permit permit;
  std::chrono::steady_clock::time_point until;
};

/// A request that may go on. Views into the head of its exchange.
struct Decided {
  std::string reference;
  std::string interface;
  std::shared_ptr<const Proven> proven;
  std::shared_ptr<const profiles::Profile> profile;  // that the reading is of
  std::shared_ptr<Upstream> server;
  std::shared_ptr<const Secret> token;  // exchanged for the client's; null: the server gets none
  profiles::Operations asked;  // by method, path and body; what it needs depends on the owner too
  Reading reading;
  std::optional<profiles::Resource> about;
  std::optional<std::string> owner;       // of that
  std::optional<std::string> body;        // when it was read to decide
  std::optional<admission::Whole> whole;  // when an operator must approve it
  bool change = false;
  bool registered = false;                                      // only while the peer is registered
  admission::Registration registration = admission::UNCHANGED;  // what its success means for that
  bool only_absent = false;  // it makes something, and may not replace anything by that
  std::string gateway = {};  // that passes it on, instead of the gate
};

/// One thread.
class Books {
 public:
  /// Both outlive this.
  Books(Permits& permits, Outcomes& outcomes) : permits_(permits), outcomes_(outcomes) {}

  /// What only the server's answer would tell of it. Nothing: without that, nothing is missed.
  static std::optional<std::string> NeedsAnswer(const Decided& request);

  /// Quotas are taken and the record is written: on the disk, before a change goes on. Where
  /// control did not answer it may have begun it, and is told that nothing came of it. What a
  /// gateway passes on has no end here.
  boost::asio::awaitable<Outcome<void>> Begin(Decided& request,
                                              const boost::asio::ip::tcp::endpoint& from);
  /// Control records it. While it is away, it misses reads, and changes are kept for it. Status 0:
  /// there is no answer.
  void End(const Decided& request, unsigned status, uint64_t sent, uint64_t received);
  /// Of a change, as soon as the answer's head is there, and with it whose it is what it made.
  boost::asio::awaitable<void> EndChange(const Decided& request, Relay& relay);

 private:
  admission::Request OutcomeOf(const Decided& request, unsigned status, uint64_t sent,
                               uint64_t received);
  boost::asio::awaitable<std::optional<profiles::Resource>> Created(const Decided& request,
                                                                    Relay& relay);

  Permits& permits_;
  Outcomes& outcomes_;
};

}  // namespace portcullis::guard
