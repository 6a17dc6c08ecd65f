// What a certificate says, as values that outlive it: names, numbers, times and digests in the one
// form in which policy, tokens, revocation lists and logs compare them.
#pragma once

#include <openssl/x509.h>

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace portcullis::identity {

using Time = std::chrono::system_clock::time_point;

enum class NameKind : uint8_t { dns, uri, ip };

/// DNS names in lower case, addresses as Address::Text() writes them, URIs as they are.
struct AlternativeName {
  NameKind kind = NameKind::dns;
  std::string text;
  bool operator==(const AlternativeName&) const = default;
};

/// Names a certificate for people and for lists of revoked ones (RFC 5280 4.1.2.2: the pair is
/// unique). Issuer as NameText() writes it, serial as SerialText() does.
struct CertificateId {
  std::string issuer;
  std::string serial;
  auto operator<=>(const CertificateId&) const = default;

  /// From what an operator typed: a serial in hex, upper or lower case, perhaps with colons.
  static Result<CertificateId> Parse(std::string_view issuer, std::string_view serial);
};

/// SHA-256 in hex over a CA's name and public key. Two CAs of one name, as in a roll-over of the
/// key, are two authorities, with a revocation list each.
using AuthorityId = std::string;

/// One certificate of a verified chain, without the anchor: what revocation needs to know of it.
struct ChainLink {
  AuthorityId authority;  // who signed it
  CertificateId id;
  std::string subject;
};

/// Whom a verified chain of certificates speaks for.
struct CertificateIdentity {
  std::vector<AlternativeName> names;  // of the kinds that the profile asks for; never empty
  std::string subject;                 // for people only: the identity is in `names`
  CertificateId id;
  std::string spki_sha256;  // hex, of the SubjectPublicKeyInfo: the key under any certificate
  std::string thumbprint;   // base64url of SHA-256 over the certificate: x5t#S256 of RFC 8705 3.1
  Time not_after;           // the certificate's own
  Time chain_not_after;     // the earliest of the chain, anchor included
  std::vector<ChainLink> chain;          // the peer's first
  bool revocation_list_required = true;  // its anchor's policy
};

/// What will not be valid for long.
struct Expiry {
  std::string what;  // "trust anchor CN=... (serial ...)"
  Time when;
  Time since;  // valid from
};

/// RFC 4514 text, UTF-8, with control characters escaped.
std::string NameText(const X509_NAME* name);
/// Upper-case hex, two digits an octet, "-" before a negative one.
std::string SerialText(const ASN1_INTEGER* serial);
/// Subject and serial, as every message names a certificate; long subjects are cut.
std::string Describe(const X509* certificate);
/// std::nullopt for what is no time.
std::optional<Time> TimeOf(const ASN1_TIME* time);
/// "2026-01-31T00:00:00Z", for messages.
std::string TimeText(Time time);

std::string HexSha256(std::string_view bytes);
AuthorityId AuthorityOf(const X509* ca);
CertificateId IdOf(const X509* certificate);

/// The alternative names of the given kinds. A name that two readers could take for different ones
/// (control characters, a zero octet, not ASCII, empty), or that is a pattern and names no one, is
/// an error, whose text says what is wrong.
tl::expected<std::vector<AlternativeName>, std::string> AlternativeNames(
    const X509* certificate, std::span<const NameKind> kinds);

/// All but `chain`, `chain_not_after` and `revocation_list_required`, which only a verified chain
/// can tell.
CertificateIdentity Read(const X509* certificate, std::vector<AlternativeName> names);

}  // namespace portcullis::identity
