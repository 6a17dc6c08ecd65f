// The peer's end of a TLS connection to the gate, as strict as the gate's own
// (control/guard/session/handshake.hpp): by certificates or by one external pre-shared key, never
// both; nothing resumed, re-negotiated or sent early; TLS 1.3, and 1.2 only where it is configured.
//
// A handshake that OpenSSL calls a success is not yet the gate: JudgeGate() decides.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/guard/session/keys.hpp"
#include "control/identity/certificate.hpp"
#include "control/identity/psk.hpp"
#include "control/identity/refusal.hpp"
#include "control/identity/tls_profile.hpp"

namespace portcullis::peer {

/// Decides about the certificate that the gate showed: anchor, profile, validity, revocation, name.
/// Called within the handshake, so it must not wait for anything.
using VerifyGate = std::function<tl::expected<identity::CertificateIdentity, identity::Refusal>(
    X509* leaf, STACK_OF(X509) * chain)>;

/// What a handshake proved.
struct ProvenGate {
  guard::Mode mode = guard::Mode::certificate;
  uint16_t tls_version = 0;                   // as on the wire
  identity::CertificateIdentity certificate;  // with Mode::certificate
};

/// Immutable; connections keep theirs alive.
class TlsClient : public std::enable_shared_from_this<TlsClient> {
 public:
  /// Reads the files. `where` is the place of {chain, key} in the configuration. TLS 1.3, and with
  /// `tls_1_2` also that.
  static Result<std::shared_ptr<TlsClient>> ForCertificates(const identity::OwnCertificate& own,
                                                            bool tls_1_2, VerifyGate verify,
                                                            const std::string& where);
  /// With the store's one key, for the version of TLS that the key is for.
  static std::shared_ptr<TlsClient> ForPsk(std::shared_ptr<const identity::PskStore> keys,
                                           const std::string& identity, identity::PskUse use);

  /// `name` goes into SNI (RFC 6066 3); empty: none. Null when OpenSSL has no memory.
  [[nodiscard]] identity::SslHandle NewConnection(const std::string& name) const;
  [[nodiscard]] guard::Mode mode() const {
    return key_ ? guard::Mode::psk : guard::Mode::certificate;
  }

 private:
  friend struct ClientCallbacks;
  TlsClient(int least_version, int most_version);

  identity::SslContextPtr context_;
  VerifyGate verify_;                               // for certificates
  std::shared_ptr<const identity::PskStore> keys_;  // for pre-shared keys: owner of
  const identity::PskKey* key_ = nullptr;
};

/// After a handshake that succeeded, on a connection that NewConnection() made.
tl::expected<ProvenGate, identity::Refusal> JudgeGate(SSL* connection);

/// After one that failed, or a connection that the gate broke off; `error` is OpenSSL's, 0 when it
/// is none of OpenSSL's.
identity::Refusal WhyNot(SSL* connection, unsigned long error);  // NOLINT: OpenSSL's type

}  // namespace portcullis::peer
