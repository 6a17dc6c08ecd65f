#include "control/identity/tls_profile.hpp"

#include <openssl/err.h>

#include <array>
#include <memory>
#include <stdexcept>

#include "control/identity/private_key.hpp"

namespace portcullis::identity {

namespace {

// TS 33.210 6.2 and TS 33.501: AEAD with (EC)DHE. For 1.3 OpenSSL's three suites are all that.
constexpr const char* kCertificateSuites12 =
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "DHE-RSA-AES128-GCM-SHA256";
constexpr const char* kGroups = "P-256:P-384:X25519";
constexpr int kSecurityLevel = 2;  // 112 bits: RSA and DH from 2048, no SHA-1
constexpr long kMostChainBytes = 32L << 10;

// The suites that go with a hash. TLS 1.3 binds a pre-shared key to one (RFC 8446 4.2.11), and
// OpenSSL chooses the suite before it looks at the key.
struct PskSuites {
  const char* tls_1_3;
  std::array<uint8_t, 2> id;  // of one of those, for SSL_SESSION
  const char* tls_1_2;        // RFC 7905 and RFC 5487
};
const PskSuites& SuitesOf(PskHash hash) {
  static constexpr PskSuites kSha256{"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256",
                                     {0x13, 0x01},
                                     "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256"};
  static constexpr PskSuites kSha384{
      "TLS_AES_256_GCM_SHA384", {0x13, 0x02}, "DHE-PSK-AES256-GCM-SHA384"};
  return hash == PskHash::sha256 ? kSha256 : kSha384;
}

std::string TakeErrorText() {
  std::string text = TlsErrorText(ERR_get_error());
  ERR_clear_error();
  return text;
}

}  // namespace

std::string TlsErrorText(unsigned long code) {  // NOLINT: OpenSSL's type
  const char* text = ERR_reason_error_string(code);
  return text == nullptr ? "unknown reason" : text;
}

void Require(bool success, const char* what) {
  if (success) return;
  throw std::runtime_error(fmt::format("OpenSSL refuses {}: {}", what, TakeErrorText()));
}

SslContextPtr NewTlsContext(const SSL_METHOD* method, int least_version, int most_version) {
  SslContextPtr context(SSL_CTX_new(method));
  SSL_CTX* c = context.get();
  Require(c != nullptr, "a TLS context");
  SSL_CTX_set_security_level(c, kSecurityLevel);
  SSL_CTX_set_min_proto_version(c, least_version);
  SSL_CTX_set_max_proto_version(c, most_version);
  SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                             SSL_OP_CLEANSE_PLAINTEXT);
  SSL_CTX_clear_options(c, SSL_OP_ALLOW_NO_DHE_KEX);  // whatever the host's openssl.cnf says
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);  // who says nothing holds none
  SSL_CTX_set_max_cert_list(c, kMostChainBytes);
  Require(SSL_CTX_set1_groups_list(c, kGroups) == 1, kGroups);
  Require(SSL_CTX_set1_sigalgs_list(c, kTlsSignatures) == 1, kTlsSignatures);
  return context;
}

void UseCertificateSuites(SSL_CTX* context) {
  Require(SSL_CTX_set_cipher_list(context, kCertificateSuites12) == 1, kCertificateSuites12);
}

void UsePskSuites(SSL_CTX* context, PskHash hash) {
  const PskSuites& suites = SuitesOf(hash);
  Require(SSL_CTX_set_ciphersuites(context, suites.tls_1_3) == 1, suites.tls_1_3);
  Require(SSL_CTX_set_cipher_list(context, suites.tls_1_2) == 1, suites.tls_1_2);
}

Result<void> UseOwnCertificate(SSL_CTX* context, const OwnCertificate& own,
                               const std::string& where) {
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, own.chain.c_str()) != 1) {
    return Invalid(where + "/chain", "cannot be used: " + own.chain,
                   "PEM certificates, the holder's first", TakeErrorText());
  }
  const auto key = LoadPrivateKey(own.key, where + "/key");
  if (!key) return tl::unexpected(key.error());
  if (SSL_CTX_use_PrivateKey(context, key->get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return Invalid(where + "/key", "the key does not belong to the certificate",
                   "the key of " + own.chain, own.key + ": " + TakeErrorText());
  }
  return {};
}

SSL_SESSION* NewPskSession(SSL* connection, const Secret& key, PskHash hash) {
  SSL_SESSION* session = SSL_SESSION_new();
  if (session != nullptr &&
      SSL_SESSION_set1_master_key(session, key.bytes().data(), key.size()) == 1 &&
      SSL_SESSION_set_cipher(session, SSL_CIPHER_find(connection, SuitesOf(hash).id.data())) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1) {
    return session;
  }
  SSL_SESSION_free(session);
  return nullptr;
}

}  // namespace portcullis::identity
