#include "control/identity/revocation_list.hpp"

#include <fmt/ranges.h>
#include <openssl/pem.h>

#include <limits>
#include <tuple>

#include "control/identity/certificate_profile.hpp"

namespace portcullis::identity {
namespace {

using IntegerPtr = OpensslPtr<ASN1_INTEGER, ASN1_INTEGER_free>;
using ScopePtr = OpensslPtr<ISSUING_DIST_POINT, ISSUING_DIST_POINT_free>;

CrlPtr Decode(std::string_view bytes) {
  if (bytes.size() > std::numeric_limits<int>::max()) return nullptr;
  if (bytes.starts_with("-----BEGIN ")) {
    return CrlPtr(PEM_read_bio_X509_CRL(Reader(bytes).get(), nullptr, nullptr, nullptr));
  }
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto* end = at + bytes.size();
  CrlPtr list(d2i_X509_CRL(nullptr, &at, static_cast<long>(bytes.size())));  // NOLINT: its type
  return at == end ? std::move(list) : nullptr;
}

std::string NameOf(X509_EXTENSION* extension) {
  std::array<char, 80> text{};
  OBJ_obj2txt(text.data(), text.size(), X509_EXTENSION_get_object(extension), 0);
  return text.data();
}

// Empty when nothing in the list changes what it means to be, or not to be, on it.
std::string Oddity(const X509_CRL* list) {
  if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0) {
    return "it is a delta list (RFC 5280 5.2.4), not a complete one";
  }
  if (X509_CRL_get_ext_by_NID(list, NID_issuing_distribution_point, -1) >= 0) {
    const ScopePtr scope(static_cast<ISSUING_DIST_POINT*>(
        X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, nullptr, nullptr)));
    if (scope && scope->indirectCRL > 0) {
      return "it is an indirect list (RFC 5280 5.2.5): it speaks for other CAs than its signer";
    }
    return "it has an issuing distribution point (RFC 5280 5.2.5): it may cover only a part of the "
           "CA's certificates";
  }
  for (int i = 0; i < X509_CRL_get_ext_count(list); ++i) {
    X509_EXTENSION* extension = X509_CRL_get_ext(list, i);
    const int id = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
    const bool known = id == NID_crl_number || id == NID_authority_key_identifier;
    if (!known && X509_EXTENSION_get_critical(extension) != 0) {
      return "it has an unknown critical extension: " + NameOf(extension);
    }
  }
  return {};
}

// RFC 5280 5.3: with an entry that is not understood, the list says nothing of any certificate.
std::string Oddity(const X509_REVOKED* entry) {
  for (int i = 0; i < X509_REVOKED_get_ext_count(entry); ++i) {
    X509_EXTENSION* extension = X509_REVOKED_get_ext(entry, i);
    if (X509_EXTENSION_get_critical(extension) != 0) {
      return fmt::format("its entry of serial {} has an unknown critical extension: {}",
                         SerialText(X509_REVOKED_get0_serialNumber(entry)), NameOf(extension));
    }
  }
  return {};
}

std::string DigestOf(const X509_CRL* list) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  X509_CRL_digest(list, EVP_sha256(), digest.data(), &length);
  return fmt::format("{:02X}", fmt::join(digest.begin(), digest.begin() + length, ""));
}

Result<X509*> FindSigner(X509_CRL* list, const Authorities& authorities, const std::string& where) {
  const auto candidates = authorities.Named(X509_CRL_get_issuer(list));
  const auto issuer = NameText(X509_CRL_get_issuer(list));
  if (candidates.empty()) {
    return tl::unexpected(Error{ErrorKind::kNotFound, "no configured CA issues this list", where,
                                "an anchor or intermediate", "'" + issuer + "'"});
  }
  const X509_ALGOR* algorithm = nullptr;
  X509_CRL_get0_signature(list, nullptr, &algorithm);
  if (const auto strong = CheckSignature(algorithm); !strong) {
    return Invalid(where, "it has " + strong.error());
  }
  for (X509* ca : candidates) {
    if (X509_CRL_verify(list, X509_get0_pubkey(ca)) != 1) continue;
    // Absent key usage means every usage to OpenSSL, but Authorities admits no CA without.
    if ((X509_get_key_usage(ca) & KU_CRL_SIGN) == 0) {
      return Invalid(where, Describe(ca) + " may not sign lists", "key usage cRLSign");
    }
    return ca;
  }
  ERR_clear_error();
  return Invalid(where, "its signature is not of the CA that it names", "one of '" + issuer + "'");
}

}  // namespace

Result<std::shared_ptr<const RevocationList>> RevocationList::Read(std::string_view bytes,
                                                                   const Authorities& authorities,
                                                                   const std::string& where) {
  const CrlPtr list = Decode(bytes);
  if (!list) {
    ERR_clear_error();
    return Invalid(where, "it is no revocation list", "one X.509 CRL, DER or PEM",
                   fmt::format("{} bytes", bytes.size()));
  }
  const auto signer = FindSigner(list.get(), authorities, where);
  if (!signer) return tl::unexpected(signer.error());
  if (const auto oddity = Oddity(list.get()); !oddity.empty()) return Invalid(where, oddity);

  const std::shared_ptr<RevocationList> read(new RevocationList());
  const auto this_update = TimeOf(X509_CRL_get0_lastUpdate(list.get()));
  const auto next_update = TimeOf(X509_CRL_get0_nextUpdate(list.get()));
  if (!this_update || !next_update) {
    return Invalid(where, "it does not say from when until when it is good",
                   "thisUpdate and nextUpdate (RFC 5280 5.1.2)");
  }
  const IntegerPtr number(static_cast<ASN1_INTEGER*>(
      X509_CRL_get_ext_d2i(list.get(), NID_crl_number, nullptr, nullptr)));
  if (!number || ASN1_STRING_type(number.get()) != V_ASN1_INTEGER) {
    return Invalid(where, "it has no number, so that an older one could not be told from it",
                   "the extension CRL number (RFC 5280 5.2.3)");
  }
  read->authority_ = AuthorityOf(*signer);
  read->issuer_ = NameText(X509_CRL_get_issuer(list.get()));
  read->number_ = SerialText(number.get());
  read->digest_ = DigestOf(list.get());
  read->this_update_ = *this_update;
  read->next_update_ = *next_update;
  STACK_OF(X509_REVOKED)* entries = X509_CRL_get_REVOKED(list.get());
  const int count = sk_X509_REVOKED_num(entries);  // -1 when there are none at all
  if (count > 0) read->serials_.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    const X509_REVOKED* entry = sk_X509_REVOKED_value(entries, i);
    if (const auto oddity = Oddity(entry); !oddity.empty()) return Invalid(where, oddity);
    read->serials_.insert(SerialText(X509_REVOKED_get0_serialNumber(entry)));
  }
  return read;
}

bool RevocationList::IsOlderThan(const RevocationList& other) const {
  // No leading zeros, so that the longer number is the greater.
  return std::tuple(number_.size(), number_) < std::tuple(other.number_.size(), other.number_);
}

}  // namespace portcullis::identity
