// guard.yaml: what it may say and what is wrong with it, by file, line and field. Only what stands
// in the file is judged here; the files that it names are read by whoever needs them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/guard/request/decision_request.hpp"
#include "control/guard/request/upstream.hpp"
#include "control/guard/session/handshake.hpp"
#include "control/guard/session/listener.hpp"
#include "control/identity/authorities.hpp"
#include "control/identity/certificate_profile.hpp"
#include "control/identity/crl_source.hpp"
#include "control/identity/psk.hpp"
#include "control/identity/token/introspection.hpp"
#include "control/identity/token/issuer.hpp"
#include "control/identity/token/token_exchanger.hpp"

namespace portcullis::guard {

struct CertificateListener {
  ListenerSettings at;
  CertificateProfile tls;
};

struct PskListener {
  ListenerSettings at;
  PskProfile tls;
  /// How peers call it, "https://host:port" without a slash at the end: proofs of possession name
  /// the whole URL (RFC 9449 4.2, htu).
  std::string url;
};

/// An interface whose requests are judged one by one, on a listener of its own.
struct RequestSetting {
  std::string interface;  // its name in policy
  std::string profile;    // a file
  std::string root;       // before every path of the profile; empty: none
  CertificateListener listener;
  std::optional<PskListener> psk;  // in place of `listener`
  std::string url;                 // as PskListener's; empty: no proofs of possession are taken
  UpstreamSettings server;
  std::optional<identity::TokenExchangeConfig> exchange;  // else the server gets no tokens

  [[nodiscard]] const ListenerSettings& at() const { return psk ? psk->at : listener.at; }
  ListenerSettings& at() { return psk ? psk->at : listener.at; }
};

/// What the servers of an interface send to peers, from a listener of its own on the trusted side.
struct EgressSetting {
  std::string interface;  // its name in policy
  std::string profile;    // a file
  CertificateListener listener;
  std::string server_ca;             // whose certificates servers show
  std::vector<std::string> servers;  // the DNS names of those that may send
  identity::ClientTls peers;         // whose certificates peers show, and what the gate shows them
};

/// Where gateways of the operator's ask whether a request may pass: a UNIX socket, or a listener.
struct DecisionSetting {
  std::string interface;  // its name in policy
  std::string profile;    // a file
  std::string root;       // before every path of the profile; empty: none
  DecisionProtocol protocol = DecisionProtocol::auth_request;
  std::string socket;                  // empty: `listener`
  std::map<uid_t, std::string> users;  // of the socket: who may ask
  CertificateListener listener;        // its limits hold for the socket as well
  std::string gateway_ca;              // whose certificates gateways show there
  std::vector<std::string> gateways;   // the DNS names of those that may ask
};

struct GuardConfig {
  std::string identity;  // by which peers know this gate; goes into the key context
  std::string control_socket;
  uid_t control_user = 0;
  std::vector<CertificateListener> certificate_listeners;
  std::vector<PskListener> psk_listeners;
  std::vector<RequestSetting> requests;
  std::vector<EgressSetting> egress;
  std::vector<DecisionSetting> decisions;
  std::vector<identity::PskSetting> keys;  // of all PSK listeners
  identity::AuthorityFiles authorities;
  std::vector<identity::CrlLocation> crls;
  std::chrono::seconds crl_grace{0};
  identity::CertificateProfile profile;         // of peers' certificates
  std::vector<std::string> interfaces;          // that have an audience
  std::vector<identity::IssuerConfig> issuers;  // of JWTs
  /// Of opaque tokens. Each interface has one at most: nobody shows a token to another's issuer.
  std::vector<identity::IntrospectionConfig> introspections;
};

/// There is a listener, for sessions or for requests, whose clients show certificates, or gateways
/// tell of such; whose clients share a key with the gate.
bool TakesCertificates(const GuardConfig& config);
bool HasPskListener(const GuardConfig& config);

/// Relative paths are relative to the file's folder.
Result<GuardConfig> LoadGuardConfig(const std::string& path);

}  // namespace portcullis::guard
