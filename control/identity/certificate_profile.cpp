#include "control/identity/certificate_profile.hpp"

#include <openssl/core_names.h>
#include <openssl/rsa.h>

#include <algorithm>

#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity {
namespace {

using BignumPtr = OpensslPtr<BIGNUM, BN_free>;
using PssPtr = OpensslPtr<RSA_PSS_PARAMS, RSA_PSS_PARAMS_free>;
using Wrong = tl::unexpected<std::string>;

tl::expected<void, std::string> CheckRsa(EVP_PKEY* key) {
  constexpr int kLeastBits = 2048;  // TS 33.310 6.1.1
  constexpr int kMostBits = 8192;   // more would cost us milliseconds for each stranger
  const int bits = EVP_PKEY_get_bits(key);
  if (bits < kLeastBits || bits > kMostBits) {
    return Wrong(fmt::format("an RSA key of {} bits, not {} to {}", bits, kLeastBits, kMostBits));
  }
  BIGNUM* exponent = nullptr;
  EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent);
  const BignumPtr owner(exponent);
  constexpr int kLeastExponentBits = 17;  // FIPS 186-4 B.3.1: more than 2^16
  constexpr int kMostExponentBits = OPENSSL_RSA_MAX_PUBEXP_BITS;  // OpenSSL's, above 3072 bits
  if (exponent == nullptr || BN_is_odd(exponent) == 0 ||
      BN_num_bits(exponent) < kLeastExponentBits || BN_num_bits(exponent) > kMostExponentBits) {
    return Wrong(fmt::format("an RSA key whose exponent is even or not of {} to {} bits",
                             kLeastExponentBits, kMostExponentBits));
  }
  return {};
}

tl::expected<void, std::string> CheckEc(EVP_PKEY* key) {
  std::array<char, 64> curve{};
  size_t length = 0;
  EVP_PKEY_get_group_name(key, curve.data(), curve.size(), &length);
  int written_out = 1;
  EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &written_out);
  if (written_out != 0) return Wrong("an elliptic curve that is written out, not named");
  switch (OBJ_txt2nid(curve.data())) {
    case NID_X9_62_prime256v1:
    case NID_secp384r1:
    case NID_secp521r1:
      return {};
    default:
      return Wrong(fmt::format("the curve {}, not P-256, P-384 or P-521", curve.data()));
  }
}

int DigestOf(const X509_ALGOR* algorithm) {
  const ASN1_OBJECT* object = nullptr;
  const void* parameter = nullptr;
  int type = 0;
  X509_ALGOR_get0(&object, &type, &parameter, algorithm);
  const int scheme = OBJ_obj2nid(object);
  if (scheme == NID_ED25519 || scheme == NID_ED448) return scheme;
  if (scheme == NID_rsassaPss) {
    // RFC 4055 3.1: the digest is a parameter, and SHA-1 when it is left out.
    const PssPtr pss(type == V_ASN1_SEQUENCE ? static_cast<RSA_PSS_PARAMS*>(ASN1_item_unpack(
                                                   static_cast<const ASN1_STRING*>(parameter),
                                                   ASN1_ITEM_rptr(RSA_PSS_PARAMS)))
                                             : nullptr);
    if (!pss || pss->hashAlgorithm == nullptr) return NID_sha1;
    return OBJ_obj2nid(pss->hashAlgorithm->algorithm);
  }
  int digest = NID_undef;
  OBJ_find_sigid_algs(scheme, &digest, nullptr);
  return digest;
}

bool IsRepeated(const X509* certificate) {
  for (int i = 0; i < X509_get_ext_count(certificate); ++i) {
    const ASN1_OBJECT* id = X509_EXTENSION_get_object(X509_get_ext(certificate, i));
    if (X509_get_ext_by_OBJ(certificate, id, i) >= 0) return true;
  }
  return false;
}

// What holds for every certificate of a chain.
Verdict CheckForm(X509* certificate) {
  const auto wrong = [&](std::string_view rule) {
    return Refuse(Reason::cert_profile_fail, certificate, rule);
  };
  if (X509_get_version(certificate) != X509_VERSION_3) return wrong("must be of version 3");
  if ((X509_get_extension_flags(certificate) & EXFLAG_INVALID) != 0) {
    return wrong("has an extension that cannot be read");
  }
  if (IsRepeated(certificate)) return wrong("has an extension twice (RFC 5280 4.2)");
  // RFC 5280 4.1.2.2: positive, at most 20 octets, the sign's included.
  const ASN1_INTEGER* serial = X509_get0_serialNumber(certificate);
  constexpr int kMostOctets = 20;
  constexpr int kHeader = 2;  // tag and length
  constexpr int kNumber = V_ASN1_INTEGER;
  const auto* first = ASN1_STRING_get0_data(serial);
  const bool zero = ASN1_STRING_length(serial) == 1 && first[0] == 0;
  if (ASN1_STRING_type(serial) != kNumber || zero ||
      i2d_ASN1_INTEGER(serial, nullptr) > kMostOctets + kHeader) {
    return wrong("must have a positive serial number of at most 20 octets");
  }
  return {};
}

Verdict CheckStrength(const X509* certificate, bool ed25519, bool signature_too) {
  const auto key = CheckKey(X509_get0_pubkey(certificate), ed25519);
  if (!key) return Refuse(Reason::weak_alg_refused, certificate, "has " + key.error());
  if (!signature_too) return {};
  const X509_ALGOR* algorithm = nullptr;
  X509_get0_signature(nullptr, &algorithm, certificate);
  const auto signature = CheckSignature(algorithm);
  if (!signature) return Refuse(Reason::weak_alg_refused, certificate, "has " + signature.error());
  return {};
}

bool AllowsUsage(X509* certificate, const CertificateProfile& profile) {
  uint32_t wanted = profile.usage == Usage::client ? XKU_SSL_CLIENT : XKU_SSL_SERVER;
  if (profile.any_extended_key_usage) wanted |= XKU_ANYEKU;
  return (X509_get_extended_key_usage(certificate) & wanted) != 0;
}

std::string UsageName(const CertificateProfile& profile) {
  return profile.usage == Usage::client ? "clientAuth" : "serverAuth";
}

bool LiesBelow(const AlternativeName& name, const std::string& root) {
  if (name.text == root) return true;
  const size_t extra = name.text.size() - std::min(name.text.size(), root.size());
  if (extra == 0) return false;
  switch (name.kind) {
    case NameKind::dns:
      return name.text.ends_with(root) && name.text[extra - 1] == '.';
    case NameKind::uri:
      return name.text.starts_with(root) &&
             (name.text[root.size()] == '/' || name.text[root.size()] == ':');
    case NameKind::ip:
      return false;
  }
  return false;
}

Verdict CheckLife(const X509* certificate, const CertificateProfile& profile) {
  const auto from = TimeOf(X509_get0_notBefore(certificate));
  const auto to = TimeOf(X509_get0_notAfter(certificate));
  if (!from || !to) {
    return Refuse(Reason::cert_profile_fail, certificate, "has a validity that cannot be read");
  }
  if (profile.longest_life && *to - *from > *profile.longest_life) {
    return Refuse(Reason::cert_profile_fail, certificate,
                  fmt::format("must not be valid for more than {} days; it is valid for {}",
                              profile.longest_life->count(),
                              std::chrono::ceil<std::chrono::days>(*to - *from).count()));
  }
  return {};
}

tl::expected<std::vector<AlternativeName>, Refusal> CheckNames(const X509* certificate,
                                                               const CertificateProfile& profile) {
  auto names = AlternativeNames(certificate, profile.name_kinds);
  if (!names) return Refuse(Reason::cert_profile_fail, certificate, "has " + names.error());
  if (names->empty()) {
    return Refuse(Reason::cert_profile_fail, certificate,
                  "must have a subject alternative name of the kind that the profile asks for");
  }
  for (const AlternativeName& name : *names) {
    const auto& roots = profile.name_roots;
    if (!roots.empty() && std::none_of(roots.begin(), roots.end(), [&](const std::string& root) {
          return LiesBelow(name, root);
        })) {
      return Refuse(Reason::cert_profile_fail, certificate,
                    fmt::format("has the name '{}', which is not one of this role", name.text));
    }
  }
  return std::move(*names);
}

}  // namespace

tl::unexpected<Refusal> Refuse(Reason reason, const X509* certificate, std::string_view rule) {
  return tl::unexpected(Refusal{reason, fmt::format("{} {}", Describe(certificate), rule)});
}

tl::expected<void, std::string> CheckKey(EVP_PKEY* key, bool ed25519) {
  switch (key == nullptr ? EVP_PKEY_NONE : EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
      return CheckRsa(key);
    case EVP_PKEY_EC:
      return CheckEc(key);
    case EVP_PKEY_ED25519:
      if (ed25519) return {};
      return Wrong("an Ed25519 key, which the profile does not admit");
    default:
      return Wrong("a key that is neither RSA nor ECDSA");
  }
}

tl::expected<void, std::string> CheckSignature(const X509_ALGOR* algorithm) {
  const int digest = DigestOf(algorithm);
  switch (digest) {
    case NID_sha256:
    case NID_sha384:
    case NID_sha512:
    case NID_ED25519:  // whether the key is admitted is its issuer's affair
      return {};
    default:
      return Wrong(fmt::format("a signature with {}, not SHA-256 or longer",
                               digest == NID_undef ? "an unknown digest" : OBJ_nid2ln(digest)));
  }
}

tl::expected<std::vector<AlternativeName>, Refusal> CheckEntity(X509* certificate,
                                                                const CertificateProfile& profile) {
  const auto wrong = [&](std::string_view rule) {
    return Refuse(Reason::cert_profile_fail, certificate, rule);
  };
  if (auto form = CheckForm(certificate); !form) return tl::unexpected(form.error());
  if (auto strong = CheckStrength(certificate, profile.ed25519, true); !strong) {
    return tl::unexpected(strong.error());
  }
  const uint32_t has = X509_get_extension_flags(certificate);
  const uint32_t may = (has & EXFLAG_KUSAGE) == 0 ? 0 : X509_get_key_usage(certificate);
  // Either mark is enough: X509_check_ca() wants both.
  if ((has & EXFLAG_CA) != 0 || (may & KU_KEY_CERT_SIGN) != 0) {
    return wrong("is a CA's, not an entity's");
  }
  if ((may & KU_DIGITAL_SIGNATURE) == 0) return wrong("must have key usage digitalSignature");
  if ((has & EXFLAG_XKUSAGE) == 0 || !AllowsUsage(certificate, profile)) {
    return wrong("must have extended key usage " + UsageName(profile));
  }
  if (profile.distribution_point_required &&
      X509_get_ext_by_NID(certificate, NID_crl_distribution_points, -1) < 0) {
    return wrong("must name a distribution point of its revocation list");
  }
  if (auto life = CheckLife(certificate, profile); !life) return tl::unexpected(life.error());
  return CheckNames(certificate, profile);
}

Verdict CheckAuthority(X509* certificate, const CertificateProfile& profile, bool is_anchor) {
  const auto wrong = [&](std::string_view rule) {
    return Refuse(Reason::cert_profile_fail, certificate, rule);
  };
  if (auto form = CheckForm(certificate); !form) return form;
  if (auto strong = CheckStrength(certificate, profile.ed25519, !is_anchor); !strong) {
    return strong;
  }
  const uint32_t has = X509_get_extension_flags(certificate);
  if ((has & EXFLAG_CA) == 0) return wrong("must be a CA's (CA:TRUE)");
  if ((has & EXFLAG_KUSAGE) == 0 || (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0) {
    return wrong("must have key usage keyCertSign");
  }
  const int usage = X509_get_ext_by_NID(certificate, NID_key_usage, -1);
  if (X509_EXTENSION_get_critical(X509_get_ext(certificate, usage)) == 0) {
    return wrong("must mark its key usage critical");
  }
  // A CA that is restricted to some usages cannot hand on others.
  if ((has & EXFLAG_XKUSAGE) != 0 && !AllowsUsage(certificate, profile) &&
      (X509_get_extended_key_usage(certificate) & XKU_ANYEKU) == 0) {
    return wrong("is of a CA that may not issue for " + UsageName(profile));
  }
  return {};
}

}  // namespace portcullis::identity
