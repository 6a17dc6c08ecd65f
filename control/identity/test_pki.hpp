// A public key infrastructure made on the spot, for tests: sound certificates in one line each, and
// every defect by changing a field of the specification before it is issued.
//
//   const Issued root = Issue(CaSpec("root"));
//   const Issued peer = Issue(ClientSpec("csmf.example").With("keyUsage", "keyAgreement"), &root);
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity::test {

using Clock = std::chrono::system_clock;

enum class KeyKind {
  p256,
  p384,
  p256_explicit,  // the curve's parameters written out instead of its name
  secp256k1,
  rsa2048,
  rsa1024,
  rsa_exponent3,
  ed25519,
  ed448,
};
KeyPtr NewKey(KeyKind kind);

struct CertificateSpec {
  std::string name;  // subject CN
  KeyKind key = KeyKind::p256;
  const char* digest = "SHA256";  // ignored where the issuer's key brings its own (Ed25519)
  int version = 3;
  std::string serial;  // hex, perhaps with a minus; empty: 16 random octets
  Clock::time_point not_before = Clock::now() - std::chrono::hours(1);
  Clock::time_point not_after = Clock::now() + std::chrono::hours(24 * 30);
  /// OpenSSL's name or dotted OID, and the value in the syntax of x509v3_config(5).
  std::map<std::string, std::string> extensions;

  CertificateSpec With(const std::string& extension, const std::string& value) const;
  CertificateSpec Without(const std::string& extension) const;
};

/// CA:TRUE, keyCertSign and cRLSign; `path_length` bounds the CAs below.
CertificateSpec CaSpec(const std::string& name, std::optional<int> path_length = {});
/// clientAuth or serverAuth, DNS:`name` as alternative name, a distribution point.
CertificateSpec ClientSpec(const std::string& name);
CertificateSpec ServerSpec(const std::string& name);

struct Issued {
  CertificatePtr certificate;
  KeyPtr key;
};

/// Self-signed without `issuer`. `signer` instead of the issuer's key forges. Any failure of
/// OpenSSL ends the program: a test must not go on with something else than it asked for.
Issued Issue(const CertificateSpec& spec, const Issued* issuer = nullptr,
             EVP_PKEY* signer = nullptr);

struct CrlSpec {
  std::string number = "1";  // hex; empty: none
  Clock::time_point this_update = Clock::now() - std::chrono::hours(1);
  std::optional<Clock::time_point> next_update = Clock::now() + std::chrono::hours(24);
  std::vector<const X509*> revoked;
  size_t others = 0;  // so many more entries, of serials that nobody has
  const char* digest = "SHA256";
  std::map<std::string, std::string> extensions;
  std::map<std::string, std::string> entry_extensions;  // of the certificates in `revoked`
};
CrlPtr IssueCrl(const CrlSpec& spec, const Issued& issuer, EVP_PKEY* signer = nullptr);

/// A stack that shares the certificates, as TLS hands over what a peer showed.
ChainPtr Chain(const std::vector<const Issued*>& certificates);

std::string Pem(const X509* certificate);
std::string Pem(const EVP_PKEY* private_key);
std::string Pem(const X509_CRL* list);
std::string Der(const X509_CRL* list);

}  // namespace portcullis::identity::test
