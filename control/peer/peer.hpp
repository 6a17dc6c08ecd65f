// portcullis-peer, put together: what peer.yaml names, the datapath, a session for each interface.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "control/identity/certificate_verifier.hpp"
#include "control/identity/crl_follower.hpp"
#include "control/identity/revocations.hpp"
#include "control/peer/config.hpp"
#include "control/peer/datapath.hpp"
#include "control/peer/session.hpp"

namespace portcullis::peer {

/// The name that the gate must go by, exactly, beside all that `verifier` asks for. `verifier` and
/// `revocations` outlive what is returned.
VerifyGate CheckGate(const identity::CertificateVerifier& verifier,
                     const identity::Revocations& revocations, std::string gate_identity);

class Peer {
 public:
  /// Reads all the files that the configuration names, so that a wrong one is said at the start.
  static Result<std::unique_ptr<Peer>> Create(boost::asio::io_context& io, PeerConfig config);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// `io` runs it.
  void Start();
  /// At once, instead of within a minute.
  void RefreshLists();
  /// Ends the sessions; then `io` has nothing left to run.
  void Stop();

 private:
  Peer(boost::asio::io_context& io, PeerConfig config);
  Result<void> OpenDatapath();
  Result<void> Load();
  [[nodiscard]] Result<std::shared_ptr<const TlsClient>> NewClient() const;
  boost::asio::awaitable<void> RunSession(Session& session);
  boost::asio::awaitable<void> WatchLists();

  boost::asio::io_context& io_;
  PeerConfig config_;
  identity::Revocations revocations_;
  std::optional<identity::CertificateVerifier> verifier_;  // with certificates
  std::vector<std::unique_ptr<identity::CrlFollower>> lists_;
  std::shared_ptr<const identity::ProofKey> proof_key_;
  std::optional<TokenSource> tokens_;
  std::optional<Identity> identity_;
  std::unique_ptr<Datapath> datapath_;
  std::vector<std::unique_ptr<Session>> sessions_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
};

}  // namespace portcullis::peer
