// One handshake with the gate and what it is for: keys for one generation of a session, or a
// session's end. docs/session-interface.md is the contract, and the order is design.md's: this peer
// names its own SPI, asks, exports, installs both associations, confirms.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/peer/config.hpp"
#include "control/peer/datapath.hpp"
#include "control/peer/gate_connection.hpp"
#include "control/peer/offer.hpp"
#include "control/peer/token_source.hpp"

namespace portcullis::peer {

/// What all sessions of this peer share. All of it outlives them.
struct Identity {
  const PeerConfig& config;
  /// A client with the files as they are now.
  std::function<Result<std::shared_ptr<const TlsClient>>()> tls;
  const TokenSource& tokens;
  std::shared_ptr<const identity::ProofKey> proof_key;  // null: by certificate
};

struct Wanted {
  std::string session;  // to be renewed; empty: a new one
  uint64_t last_generation = 0;
  bool initial_contact = false;
};

/// What came of it, once both associations are in.
struct Enrolled {
  std::string session;
  uint64_t generation = 0;
  std::string pair;  // its name in the datapath
  std::chrono::seconds life{};
  bool confirmed = false;  // false: the gate did not answer the confirmation
  std::string why_not;     // then
  ProvenGate gate;
};

/// Why nothing came of it.
struct Failure {
  Error error;  // kConflict: the gate knows of another session than this peer
  std::chrono::seconds retry_after{0};
};

template <class T>
using Attempt = boost::asio::awaitable<tl::expected<T, Failure>>;

class Enrolment {
 public:
  Enrolment(boost::asio::any_io_executor executor, const Identity& self, Datapath& datapath,
            SessionSettings settings)
      : executor_(std::move(executor)),
        self_(self),
        datapath_(datapath),
        settings_(std::move(settings)) {}

  Attempt<Enrolled> Open(Wanted wanted);
  /// Tells the gate that the session is over.
  Attempt<void> End(std::string session);

 private:
  Attempt<std::unique_ptr<GateConnection>> Connect(std::chrono::milliseconds time);
  /// With the token, and a proof where one is needed.
  Attempt<Reply> AskWithToken(GateConnection& connection, Question question);
  Result<SaPair> MakePair(GateConnection& connection, const Offer& offer) const;
  [[nodiscard]] Error RefusalOf(const Reply& reply) const;

  boost::asio::any_io_executor executor_;
  const Identity& self_;
  Datapath& datapath_;
  SessionSettings settings_;
};

}  // namespace portcullis::peer
