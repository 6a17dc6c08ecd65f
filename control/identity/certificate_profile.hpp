// The profile of certificates after TS 33.310: 6.1.3a for the TLS entity, 6.1.4a for the CAs above
// it. These are the rules about one certificate that X509_verify_cert() does not have; those about
// the chain are its own (certificate_verifier.hpp).
#pragma once

#include <optional>

#include "control/identity/certificate.hpp"
#include "control/identity/refusal.hpp"

namespace portcullis::identity {

/// What the certificate's holder does in the handshake.
enum class Usage : uint8_t { client, server };

struct CertificateProfile {
  Usage usage = Usage::client;
  /// CAs between the anchor and the entity, 0 to 10.
  int most_intermediates = 3;
  /// The identity is the alternative names of these kinds; at least one must be there.
  std::vector<NameKind> name_kinds = {NameKind::dns};
  /// The role: when not empty, each of those names must be one of these or lie below one
  /// ("gw.example" admits "a.gw.example"; "urn:l3g-gw" admits "urn:l3g-gw:7" and "urn:l3g-gw/7").
  /// Addresses must be equal. Lower case for DNS.
  std::vector<std::string> name_roots;
  /// anyExtendedKeyUsage is as good as the usage itself.
  bool any_extended_key_usage = false;
  /// TS 33.310 names RSA and ECDSA only; with this, Ed25519 as well.
  bool ed25519 = false;
  /// TS 33.310 6.1.3a wants to be told where the entity's revocation list is.
  bool distribution_point_required = true;
  /// Of the entity, from notBefore to notAfter. TS 33.310 6.1.3c: three years.
  std::optional<std::chrono::days> longest_life = std::chrono::days(3 * 365 + 1);
};

using Verdict = tl::expected<void, Refusal>;

/// A refusal that names the certificate and the rule.
tl::unexpected<Refusal> Refuse(Reason reason, const X509* certificate, std::string_view rule);

/// RSA of 2048 to 8192 bits with an odd exponent of 17 to 64 bits, or P-256, P-384, P-521, or, if
/// admitted, Ed25519. The error says what was found.
tl::expected<void, std::string> CheckKey(EVP_PKEY* key, bool ed25519);
/// SHA-256 or longer (TS 33.310 6.1.1), or a scheme with a digest of its own. The error as above.
tl::expected<void, std::string> CheckSignature(const X509_ALGOR* algorithm);

/// The peer's own certificate; returns its identity.
tl::expected<std::vector<AlternativeName>, Refusal> CheckEntity(X509* certificate,
                                                                const CertificateProfile& profile);
/// A CA's. An anchor's own signature proves nothing and may be as weak as it likes.
Verdict CheckAuthority(X509* certificate, const CertificateProfile& profile, bool is_anchor);

}  // namespace portcullis::identity
