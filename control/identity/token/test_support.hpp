// An authorization server and a client for tests: real keys, and a signer that signs any text as
// header and payload, also what no library would put there.
#pragma once

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "control/identity/token/encoding.hpp"
#include "control/identity/token/public_key.hpp"
#include "control/identity/token/verifier.hpp"

namespace portcullis::identity::test {

using nlohmann::json;

class TestKey {
 public:
  static TestKey Ec(const char* curve = "P-256") { return TestKey(EVP_EC_gen(curve), curve); }
  static TestKey Rsa(unsigned bits = 2048) { return TestKey(EVP_RSA_gen(bits), nullptr); }

  /// The public half, without kid, alg and use.
  [[nodiscard]] json Jwk() const {
    if (curve_ == nullptr) {
      return {{"kty", "RSA"}, {"n", Number("n", 0)}, {"e", Number("e", 0)}};
    }
    return {
        {"kty", "EC"}, {"crv", curve_}, {"x", Number("qx", Width())}, {"y", Number("qy", Width())}};
  }

  [[nodiscard]] EVP_PKEY* evp() const { return key_.get(); }

  /// As OpenSSL writes it.
  [[nodiscard]] std::string EvpSignature(Algorithm algorithm, const std::string& input) const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free);
    EVP_PKEY_CTX* options = nullptr;
    EVP_DigestSignInit(context.get(), &options,
                       algorithm == Algorithm::es384 ? EVP_sha384() : EVP_sha256(), nullptr,
                       key_.get());
    if (algorithm == Algorithm::ps256) {
      EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING);
      EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST);
    }
    std::string signature(1024, '\0');
    size_t size = signature.size();
    EXPECT_EQ(EVP_DigestSign(context.get(), reinterpret_cast<uint8_t*>(signature.data()), &size,
                             Bytes(input).data(), input.size()),
              1);
    signature.resize(size);
    return signature;
  }

  /// As JOSE writes it.
  [[nodiscard]] std::string Sign(Algorithm algorithm, const std::string& input) const {
    const std::string signature = EvpSignature(algorithm, input);
    if (curve_ == nullptr) return signature;
    const uint8_t* der = Bytes(signature).data();
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> pair(
        d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(signature.size())),
        ECDSA_SIG_free);  // NOLINT
    std::string both(2 * Width(), '\0');
    auto* out = reinterpret_cast<uint8_t*>(both.data());
    BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), out, static_cast<int>(Width()));
    BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), out + Width(), static_cast<int>(Width()));
    return both;
  }

  /// A compact JWS over these texts, whatever they are.
  [[nodiscard]] std::string Jws(Algorithm algorithm, std::string_view header,
                                std::string_view payload) const {
    const std::string input =
        EncodeBase64Url(Bytes(header)) + "." + EncodeBase64Url(Bytes(payload));
    return input + "." + EncodeBase64Url(Bytes(Sign(algorithm, input)));
  }

 private:
  TestKey(EVP_PKEY* key, const char* curve) : key_(key, EVP_PKEY_free), curve_(curve) {}

  [[nodiscard]] size_t Width() const {
    return static_cast<size_t>(EVP_PKEY_get_bits(key_.get()) + 7) / 8;
  }
  [[nodiscard]] std::string Number(const char* name, size_t width) const {
    BIGNUM* number = nullptr;
    EXPECT_EQ(EVP_PKEY_get_bn_param(key_.get(), name, &number), 1) << name;
    std::string bytes(width == 0 ? static_cast<size_t>(BN_num_bytes(number)) : width, '\0');
    BN_bn2binpad(number, reinterpret_cast<uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
    BN_free(number);
    return EncodeBase64Url(Bytes(bytes));
  }

  std::shared_ptr<EVP_PKEY> key_;
  const char* curve_;
};

/// Making RSA keys takes long: one for all tests of a run.
inline const TestKey& RsaKey() {
  static const TestKey key = TestKey::Rsa();
  return key;
}

inline json With(json jwk, const char* kid, const json& more = json::object()) {
  jwk["kid"] = kid;
  jwk.update(more);
  return jwk;
}

inline std::string Thumbprint(const TestKey& key) {
  return EncodeBase64Url(PublicKey::FromJwk(key.Jwk(), "")->thumbprint());
}

inline constexpr const char* kIssuer = "https://as.operator.example";
inline constexpr const char* kAudience = "https://gate.operator.example/exposure";
inline constexpr const char* kInterface = "exposure";
inline constexpr int64_t kNow = 1'800'000'000;  // seconds since 1970

inline Moment At(int64_t second) {
  return {std::chrono::system_clock::time_point(std::chrono::seconds(second)),
          std::chrono::steady_clock::time_point(std::chrono::seconds(second))};
}

inline IssuerConfig Config() {
  IssuerConfig config;
  config.claims.issuer = kIssuer;
  config.claims.audiences = {{kInterface, kAudience},
                             {"administration", "https://gate.operator.example/admin"}};
  config.algorithms = {Algorithm::es256, Algorithm::rs256, Algorithm::es384, Algorithm::ps256};
  config.keys = "/etc/portcullis/as.jwks";
  return config;
}

inline json Header(const char* algorithm = "ES256", const char* kid = "es256-1") {
  return {{"alg", algorithm}, {"typ", "at+jwt"}, {"kid", kid}};
}

/// Sound at kNow; bound to a certificate whose DER is the text "certificate".
inline json Claims() {
  return {{"iss", kIssuer},
          {"sub", "csmf-1.tenant-a.example"},
          {"client_id", "csmf-1"},
          {"aud", {kAudience}},
          {"iat", kNow - 60},
          {"nbf", kNow - 60},
          {"exp", kNow + 840},
          {"jti", "4f1f3c1e-7f5a"},
          {"scope", "slice:create slice:monitor"},
          {"cnf", {{"x5t#S256", EncodeBase64Url(DigestOf("certificate"))}}}};
}

inline void Keep(Issuer& issuer, const std::vector<json>& keys, int64_t at = kNow) {
  auto set = KeySet::Parse(json({{"keys", keys}}).dump(), issuer.config().algorithms);
  ASSERT_TRUE(set) << set.error().Text();
  issuer.Replace(std::move(*set), At(at));
}

}  // namespace portcullis::identity::test
