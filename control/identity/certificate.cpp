#include "control/identity/certificate.hpp"

#include <fmt/chrono.h>
#include <fmt/ranges.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cctype>
#include <ctime>

#include "base/ip.hpp"
#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity {
namespace {

using NamesPtr = OpensslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;
using Digest = std::array<uint8_t, SHA256_DIGEST_LENGTH>;

constexpr size_t kMostDescribedBytes = 256;
constexpr size_t kMostSerialDigits = 40;  // RFC 5280 4.1.2.2: 20 octets

Digest Sha256(std::string_view bytes) {
  Digest digest{};
  SHA256(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

std::string Hex(std::span<const uint8_t> bytes) {
  return fmt::format("{:02X}", fmt::join(bytes, ""));
}

std::string Base64Url(std::span<const uint8_t> bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends with a zero
  const int length = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(text.data()), bytes.data(),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  text.erase(text.find_last_not_of('=') + 1);
  return text;
}

// DER, as i2d_*() writes it into a buffer that it allocates.
template <class Object, class Encode>
std::string Der(Object* object, const Encode& encode) {
  unsigned char* bytes = nullptr;
  const int length = encode(object, &bytes);
  if (length < 0) return {};
  const std::string der(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
  OPENSSL_free(bytes);
  return der;
}

std::string_view Octets(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<size_t>(ASN1_STRING_length(text))};
}

std::optional<NameKind> KindOf(const GENERAL_NAME* name) {
  switch (name->type) {
    case GEN_DNS:
      return NameKind::dns;
    case GEN_URI:
      return NameKind::uri;
    case GEN_IPADD:
      return NameKind::ip;
    default:
      return {};
  }
}

tl::expected<std::string, std::string> IpText(std::string_view octets) {
  if (octets.size() == 4) return Address::V4(octets.data()).Text();
  if (octets.size() == 16) return Address::V6(octets.data()).Text();
  return tl::unexpected(
      fmt::format("an alternative name that is an address of {} octets", octets.size()));
}

tl::expected<std::string, std::string> HostOrUri(NameKind kind, std::string_view octets) {
  const bool plain = !octets.empty() && std::all_of(octets.begin(), octets.end(),
                                                    [](char c) { return c > ' ' && c < 127; });
  if (!plain)
    return tl::unexpected<std::string>("an alternative name that is empty or not plain ASCII");
  std::string text(octets);
  if (kind == NameKind::dns) {
    // A pattern names no one.
    if (text.find('*') != std::string::npos) {
      return tl::unexpected<std::string>("an alternative name with a wildcard");
    }
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  }
  return text;
}

}  // namespace

Result<CertificateId> CertificateId::Parse(std::string_view issuer, std::string_view serial) {
  std::string digits;
  for (const char c : serial) {
    if (c == ':') continue;
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) {
      return Invalid("serial", "not a serial number", "hex digits", std::string(serial));
    }
    digits += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  digits.erase(0, digits.find_first_not_of('0'));
  if (digits.size() % 2 != 0) digits.insert(0, "0");
  if (digits.empty() || digits.size() > kMostSerialDigits) {
    return Invalid("serial", "not a serial number", "1 to 20 octets, not all zero",
                   std::string(serial));
  }
  if (issuer.empty()) return Invalid("issuer", "the issuer's name is missing");
  return CertificateId{std::string(issuer), digits};
}

std::string NameText(const X509_NAME* name) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  constexpr unsigned long kFlags = XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB;  // NOLINT: its type
  X509_NAME_print_ex(memory.get(), name, 0, kFlags);
  return Written(memory.get());
}

std::string SerialText(const ASN1_INTEGER* serial) {
  const auto octets = Octets(serial);
  const bool negative = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
  return (negative ? "-" : "") +
         Hex({reinterpret_cast<const uint8_t*>(octets.data()), octets.size()});
}

std::string Describe(const X509* certificate) {
  return fmt::format("certificate '{}' (serial {})",
                     NameText(X509_get_subject_name(certificate)).substr(0, kMostDescribedBytes),
                     SerialText(X509_get0_serialNumber(certificate)).substr(0, kMostSerialDigits));
}

std::optional<Time> TimeOf(const ASN1_TIME* time) {
  std::tm fields{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &fields) != 1) return {};
  return std::chrono::system_clock::from_time_t(timegm(&fields));
}

std::string TimeText(Time time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::string HexSha256(std::string_view bytes) {
  return Hex(Sha256(bytes));
}

AuthorityId AuthorityOf(const X509* ca) {
  return HexSha256(Der(X509_get_subject_name(ca), i2d_X509_NAME) +
                   Der(X509_get_X509_PUBKEY(ca), i2d_X509_PUBKEY));
}

CertificateId IdOf(const X509* certificate) {
  return {NameText(X509_get_issuer_name(certificate)),
          SerialText(X509_get0_serialNumber(certificate))};
}

tl::expected<std::vector<AlternativeName>, std::string> AlternativeNames(
    const X509* certificate, std::span<const NameKind> kinds) {
  std::vector<AlternativeName> all;
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    const auto kind = KindOf(name);
    if (!kind || std::find(kinds.begin(), kinds.end(), *kind) == kinds.end()) continue;
    const auto octets = Octets(static_cast<ASN1_STRING*>(GENERAL_NAME_get0_value(name, nullptr)));
    auto text = *kind == NameKind::ip ? IpText(octets) : HostOrUri(*kind, octets);
    if (!text) return tl::unexpected(text.error());
    all.push_back({*kind, std::move(*text)});
  }
  return all;
}

CertificateIdentity Read(const X509* certificate, std::vector<AlternativeName> names) {
  CertificateIdentity identity;
  identity.names = std::move(names);
  identity.subject = NameText(X509_get_subject_name(certificate));
  identity.id = IdOf(certificate);
  identity.spki_sha256 = HexSha256(Der(X509_get_X509_PUBKEY(certificate), i2d_X509_PUBKEY));
  identity.thumbprint = Base64Url(Sha256(Der(certificate, i2d_X509)));
  identity.not_after = TimeOf(X509_get0_notAfter(certificate)).value_or(Time{});
  return identity;
}

}  // namespace portcullis::identity
