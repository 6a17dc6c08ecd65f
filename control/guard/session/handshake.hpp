// Who is at the other end of a TLS connection? A TlsServer is one listener's profile as an OpenSSL
// context: either for certificates or for pre-shared keys, never both, so that nobody gets in by
// the weaker way and no answer tells which identities exist. TLS 1.3; 1.2 only where the profile
// says so, and then with extended master secret (RFC 7627) and (EC)DHE. What could be replayed,
// resumed or re-negotiated is off: early data, tickets, session caches, renegotiation, later
// authentication.
//
// A handshake that OpenSSL calls a success is not yet a peer: Judge() decides.
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/guard/session/keys.hpp"
#include "control/identity/certificate.hpp"
#include "control/identity/openssl_ptr.hpp"
#include "control/identity/psk.hpp"
#include "control/identity/refusal.hpp"
#include "control/identity/tls_profile.hpp"

namespace portcullis::guard {

using identity::SslHandle;
using Certificate = identity::CertificatePtr;

/// Decides about the certificate that a peer showed: anchor, profile, validity, revocation. `chain`
/// is what came with it, unchecked, the leaf first; may be null. That the peer has the leaf's key,
/// TLS checks. Called within the handshake, so it must not wait for anything.
using VerifyPeer =
    std::function<tl::expected<void, identity::Refusal>(X509* leaf, STACK_OF(X509) * chain)>;

/// An RSA and an EC certificate may stand side by side.
using OwnCertificate = identity::OwnCertificate;

struct CertificateProfile {
  std::vector<OwnCertificate> own;  // at least one
  bool tls_1_2 = false;
  bool http2 = false;  // offered beside HTTP/1.1 (RFC 7301); else nothing is negotiated
};

/// Each hash has its listener: which suite a client may use must not depend on who it says it is.
struct PskProfile {
  identity::PskHash hash = identity::PskHash::sha256;
  bool tls_1_2 = false;
  bool http2 = false;  // as with certificates
};

/// What a handshake proved. The identity is still to be mapped to a peer in policy.
struct Authenticated {
  Mode mode = Mode::certificate;
  uint16_t tls_version = 0;  // as on the wire
  std::string cipher;        // IANA's name
  Certificate certificate;   // with Mode::certificate
  std::string psk_identity;  // with Mode::psk, these three
  std::string psk_peer;
  std::string psk_thumbprint;
};

/// Immutable; connections keep theirs alive. New certificates or keys: another TlsServer.
class TlsServer : public std::enable_shared_from_this<TlsServer> {
 public:
  /// `where` is the listener's place in the configuration, for messages.
  static Result<std::shared_ptr<TlsServer>> ForCertificates(const CertificateProfile& profile,
                                                            VerifyPeer verify,
                                                            const std::string& where);
  static Result<std::shared_ptr<TlsServer>> ForPsk(const PskProfile& profile,
                                                   std::shared_ptr<const identity::PskStore> keys);

  /// For one accepted connection; null when OpenSSL has no memory.
  [[nodiscard]] SslHandle NewConnection() const;
  [[nodiscard]] Mode mode() const { return keys_ ? Mode::psk : Mode::certificate; }
  /// Of what it shows: certificates and those above them. Keys have no end of their own.
  [[nodiscard]] const std::vector<identity::Expiry>& endings() const { return endings_; }

 private:
  friend struct Callbacks;
  explicit TlsServer(bool tls_1_2);

  identity::SslContextPtr context_;
  std::vector<identity::Expiry> endings_;
  VerifyPeer verify_;                               // for certificates
  std::shared_ptr<const identity::PskStore> keys_;  // for pre-shared keys
  identity::PskHash hash_ = identity::PskHash::sha256;
};

/// After a handshake that succeeded, on a connection that NewConnection() made.
tl::expected<Authenticated, identity::Refusal> Judge(SSL* connection);

/// After one that failed; `error` is the first of OpenSSL's error queue, 0 when it has none (the
/// connection broke).
identity::Refusal WhyFailed(SSL* connection, unsigned long error);

}  // namespace portcullis::guard
