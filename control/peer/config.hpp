// peer.yaml: what it may say and what is wrong with it, by file, line and field. Only what stands
// in the file is judged here; the files that it names are read by whoever needs them.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/guard/session/keys.hpp"
#include "control/identity/psk.hpp"
#include "control/identity/tls_profile.hpp"
#include "control/identity/token/https_client.hpp"
#include "control/identity/trust_config.hpp"
#include "control/peer/gate_connection.hpp"

namespace portcullis::peer {

/// RFC 6749 4.4 over mutual TLS (RFC 8705 2).
struct TokenEndpoint {
  std::string url;
  identity::ClientTls tls;
  std::string client_id;
};

/// One protected interface that this peer uses.
struct SessionSettings {
  std::string interface;
  std::vector<Algorithm> algorithms;  // best first
  /// What a session may carry at most; each of the gate's selectors must lie within one of these.
  std::vector<guard::SessionSelector> selectors;
  std::string token_file;  // empty: from the endpoint, with these two
  std::string audience;    // RFC 8707: resource
  std::string scope;
};

struct PeerConfig {
  std::string
      identity;  // by which the gate knows this peer: a name in the certificate, or the key's
  std::string gate_identity;
  GateAddress gate;
  guard::Mode mode = guard::Mode::certificate;
  bool tls_1_2 = false;          // with Mode::certificate, these
  identity::OwnCertificate own;  //
  identity::TrustConfig trust;
  identity::CertificateProfile profile;  // of the gate's certificate
  identity::PskSetting psk;              // with Mode::psk, these two
  std::string proof_key;
  std::optional<TokenEndpoint> token_endpoint;
  std::vector<SessionSettings> sessions;  // at least one, one per interface
  bool udp_encap = false;
  std::optional<Address> outer_peer;  // absent: those of the connection
  std::optional<Address> outer_gate;
  std::string dataplane_socket;  // empty: the kernel's IPsec carries the packets
  /// The peer sends, but nothing has come for so long: the session is renewed. 0: never for that.
  std::chrono::seconds liveness{30};
};

/// Relative paths are relative to the file's folder.
Result<PeerConfig> LoadPeerConfig(const std::string& path);

}  // namespace portcullis::peer
