// What the gate and its peers hold alike about TLS (TS 33.210 6.2): suites, groups, signatures, and
// that nothing is resumed, replayed or re-negotiated. The server's end adds to it in
// control/guard/session/handshake.hpp, the client's in control/peer/tls_client.hpp.
#pragma once

#include <openssl/ssl.h>

#include <string>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "control/identity/openssl_ptr.hpp"
#include "control/identity/psk.hpp"

namespace portcullis::identity {

using SslHandle = OpensslPtr<SSL, SSL_free>;
using SslContextPtr = OpensslPtr<SSL_CTX, SSL_CTX_free>;

/// PEM files.
struct OwnCertificate {
  std::string chain;  // the holder's first, then its issuers' without the anchor
  std::string key;    // see LoadPrivateKey
};

/// Signature schemes, in OpenSSL's words; RSA+SHAxxx in TLS 1.2 only (RFC 8446 4.2.3).
inline constexpr const char* kTlsSignatures =
    "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:"
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:"
    "RSA+SHA256:RSA+SHA384:RSA+SHA512";

// What OpenSSL's build lacks, though every profile needs it, throws std::runtime_error.
void Require(bool success, const char* what);

/// From one version to the other (TLS1_2_VERSION, TLS1_3_VERSION), with all that both ends share.
SslContextPtr NewTlsContext(const SSL_METHOD* method, int least_version, int most_version);
/// AEAD with (EC)DHE: RSA and ECDSA certificates.
void UseCertificateSuites(SSL_CTX* context);
/// The same for pre-shared keys of one hash.
void UsePskSuites(SSL_CTX* context, PskHash hash);
/// `where` is the place of {chain, key} in the configuration.
Result<void> UseOwnCertificate(SSL_CTX* context, const OwnCertificate& own,
                               const std::string& where);

/// What OpenSSL takes for an external pre-shared key of TLS 1.3; the caller owns it. Null: no
/// memory.
SSL_SESSION* NewPskSession(SSL* connection, const Secret& key, PskHash hash);

/// OpenSSL's reason, for people.
std::string TlsErrorText(unsigned long code);  // NOLINT: OpenSSL's type

}  // namespace portcullis::identity
