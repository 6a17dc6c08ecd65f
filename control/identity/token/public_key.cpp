#include "control/identity/token/public_key.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "control/identity/openssl_ptr.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

using model::Describe;
using nlohmann::json;

namespace {

using Bignum = OpensslPtr<BIGNUM, BN_free>;
using KeyContext = OpensslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using Params = OpensslPtr<OSSL_PARAM, OSSL_PARAM_free>;
using ParamBuilder = OpensslPtr<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using EcdsaSignature = OpensslPtr<ECDSA_SIG, ECDSA_SIG_free>;

struct Curve {
  PublicKey::Type type;
  const char* jose;     // RFC 7518 6.2.1.1
  const char* openssl;  // its name of the group
  size_t bytes;         // of a coordinate
};
constexpr auto kCurves = std::to_array<Curve>(
    {{PublicKey::Type::p256, "P-256", "P-256", 32}, {PublicKey::Type::p384, "P-384", "P-384", 48}});

const Curve* CurveOf(PublicKey::Type type) {
  const auto* found = std::find_if(kCurves.begin(), kCurves.end(),
                                   [&](const Curve& curve) { return curve.type == type; });
  return found == kCurves.end() ? nullptr : found;
}

struct AlgorithmInfo {
  Algorithm algorithm;
  std::string_view name;
  PublicKey::Type type;
};
constexpr auto kAlgorithms =
    std::to_array<AlgorithmInfo>({{Algorithm::rs256, "RS256", PublicKey::Type::rsa},
                                  {Algorithm::ps256, "PS256", PublicKey::Type::rsa},
                                  {Algorithm::es256, "ES256", PublicKey::Type::p256},
                                  {Algorithm::es384, "ES384", PublicKey::Type::p384}});

constexpr const AlgorithmInfo& Info(Algorithm algorithm) {
  return kAlgorithms[static_cast<size_t>(algorithm)];
}

std::string_view TextOf(const json& object, const char* member) {
  const auto found = object.find(member);
  return found != object.end() && found->is_string() ? found->get_ref<const std::string&>()
                                                     : std::string_view();
}

std::optional<PublicKey::Type> TypeOf(const json& jwk) {
  const std::string_view kty = TextOf(jwk, "kty");
  if (kty == "RSA") return PublicKey::Type::rsa;
  if (kty != "EC") return {};
  for (const auto& curve : kCurves) {
    if (TextOf(jwk, "crv") == curve.jose) return curve.type;
  }
  return {};
}

Result<std::string> Decoded(const json& jwk, const char* member, const std::string& where) {
  const std::string_view text = TextOf(jwk, member);
  auto decoded = DecodeBase64Url(text);
  if (text.empty() || !decoded) {
    return Invalid(where + "/" + member, "not a number of a key", "base64url without padding",
                   jwk.contains(member) ? Describe(jwk.at(member)) : "nothing");
  }
  return std::move(*decoded);
}

// Two ways of writing one number would be two thumbprints of one key (RFC 7518 2, Base64urlUInt).
Result<Bignum> Number(const json& jwk, const char* member, const std::string& where) {
  const auto bytes = Decoded(jwk, member, where);
  if (!bytes) return tl::unexpected(bytes.error());
  if (bytes->front() == '\0') {
    return Invalid(where + "/" + member, "the number starts with a zero byte",
                   "as few bytes as it needs");
  }
  return Bignum(BN_bin2bn(Bytes(*bytes).data(), static_cast<int>(bytes->size()), nullptr));
}

EVP_PKEY* Build(const char* type, OSSL_PARAM_BLD* builder) {
  const Params params(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    ERR_clear_error();
    return nullptr;
  }
  return key;
}

Result<EVP_PKEY*> RsaKey(const json& jwk, const std::string& where) {
  const auto n = Number(jwk, "n", where);
  if (!n) return tl::unexpected(n.error());
  const auto e = Number(jwk, "e", where);
  if (!e) return tl::unexpected(e.error());
  constexpr int kLeastBits = 2048;
  constexpr int kMostBits = 4096;
  constexpr int kMostExponentBits = 32;
  const int bits = BN_num_bits(n->get());
  if (bits < kLeastBits || bits > kMostBits) {
    return tl::unexpected(Error{ErrorKind::kForbidden, "an RSA key of a size that is not allowed",
                                where + "/n", fmt::format("{} to {} bits", kLeastBits, kMostBits),
                                fmt::format("{} bits", bits)});
  }
  if (BN_is_odd(e->get()) == 0 || BN_num_bits(e->get()) > kMostExponentBits ||
      BN_get_word(e->get()) < RSA_F4) {
    return tl::unexpected(Error{ErrorKind::kForbidden, "an RSA exponent that is not allowed",
                                where + "/e", "odd, from 65537 to 32 bits", "another"});
  }
  const ParamBuilder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n->get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e->get());
  return Build("RSA", builder.get());
}

Result<EVP_PKEY*> EcKey(const json& jwk, const Curve& curve, const std::string& where) {
  std::string point(1, POINT_CONVERSION_UNCOMPRESSED);
  for (const char* member : {"x", "y"}) {
    const auto coordinate = Decoded(jwk, member, where);
    if (!coordinate) return tl::unexpected(coordinate.error());
    if (coordinate->size() != curve.bytes) {  // RFC 7518 6.2.1.2: all of them, zeros included
      return Invalid(where + "/" + member, "a coordinate of the wrong length",
                     fmt::format("{} bytes", curve.bytes),
                     fmt::format("{} bytes", coordinate->size()));
    }
    point += *coordinate;
  }
  const ParamBuilder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.openssl, 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  // OpenSSL refuses a point that is not on the curve; these curves have no small subgroups.
  return Build("EC", builder.get());
}

// RFC 7518 3.4: R and S side by side; OpenSSL wants them in DER. Empty: not of that form.
std::string ToDer(std::string_view signature, size_t coordinate) {
  if (signature.size() != 2 * coordinate) return {};
  const auto half = [&](size_t at) {
    return BN_bin2bn(Bytes(signature).data() + at, static_cast<int>(coordinate), nullptr);
  };
  const EcdsaSignature pair(ECDSA_SIG_new());
  ECDSA_SIG_set0(pair.get(), half(0), half(coordinate));
  std::string der(static_cast<size_t>(i2d_ECDSA_SIG(pair.get(), nullptr)), '\0');
  auto* out = reinterpret_cast<unsigned char*>(der.data());
  i2d_ECDSA_SIG(pair.get(), &out);
  return der;
}

}  // namespace

std::string_view Name(Algorithm algorithm) {
  return Info(algorithm).name;
}

std::optional<Algorithm> AlgorithmOf(std::string_view name) {
  for (const auto& info : kAlgorithms) {
    if (info.name == name) return info.algorithm;
  }
  return {};
}

Result<PublicKey> PublicKey::FromJwk(const json& jwk, const std::string& where) {
  if (!jwk.is_object()) return Invalid(where, "not a key", "a JWK object", Describe(jwk));
  // RFC 7518 6.2.2, 6.3.2, 6.4: a private or symmetric key in public must not be used any more.
  for (const char* secret : {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}) {
    if (jwk.contains(secret)) {
      return Invalid(where + "/" + secret, "a member of a private or symmetric key",
                     "a public key only");
    }
  }
  const auto type = TypeOf(jwk);
  if (!type) {
    return tl::unexpected(Error{ErrorKind::kNotFound, "a key of an unknown type", where,
                                "RSA, or EC on P-256 or P-384",
                                fmt::format("kty {}, crv {}", Describe(jwk.value("kty", json())),
                                            Describe(jwk.value("crv", json())))});
  }
  const Curve* curve = CurveOf(*type);
  const auto key = curve == nullptr ? RsaKey(jwk, where) : EcKey(jwk, *curve, where);
  if (!key) return tl::unexpected(key.error());
  if (*key == nullptr) {
    return Invalid(where, "OpenSSL does not accept this key", "a valid public key");
  }
  // RFC 7638 3: the required members only, sorted, without white space, which is how json dumps.
  using Members = std::vector<const char*>;
  json required;
  for (const char* member :
       curve == nullptr ? Members{"e", "kty", "n"} : Members{"crv", "kty", "x", "y"}) {
    required[member] = jwk.at(member);
  }
  return PublicKey(*type, *key, DigestOf(required.dump()));
}

bool PublicKey::Fits(Algorithm algorithm) const {
  return Info(algorithm).type == type_;
}

bool PublicKey::Verifies(Algorithm algorithm, std::string_view input,
                         std::string_view signature) const {
  if (!Fits(algorithm)) return false;
  std::string der;
  if (const Curve* curve = CurveOf(type_)) {
    der = ToDer(signature, curve->bytes);
    if (der.empty()) return false;
    signature = der;
  }
  Context context(EVP_MD_CTX_new());
  if (ready_ == nullptr) {
    context = NewContext(algorithm);
  } else if (EVP_MD_CTX_copy_ex(context.get(), ready_.get()) != 1) {
    context.reset();
  }
  const bool good =
      context && EVP_DigestVerify(context.get(), Bytes(signature).data(), signature.size(),
                                  Bytes(input).data(), input.size()) == 1;
  if (!good) ERR_clear_error();
  return good;
}

PublicKey::PublicKey(Type type, EVP_PKEY* key, const Sha256& thumbprint)
    : type_(type), key_(key), thumbprint_(thumbprint) {
  if (type_ != Type::rsa) {
    ready_ = NewContext(type_ == Type::p384 ? Algorithm::es384 : Algorithm::es256);
  }
}

PublicKey::Context PublicKey::NewContext(Algorithm algorithm) const {
  Context context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* options = nullptr;
  const EVP_MD* digest = algorithm == Algorithm::es384 ? EVP_sha384() : EVP_sha256();
  bool good =
      context && EVP_DigestVerifyInit(context.get(), &options, digest, nullptr, key_.get()) == 1;
  if (good && algorithm == Algorithm::ps256) {  // RFC 7518 3.5: the salt as long as the digest
    good = EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) == 1;
  }
  if (!good) context.reset();
  return context;
}

}  // namespace portcullis::identity
