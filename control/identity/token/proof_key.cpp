#include "control/identity/token/proof_key.hpp"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <array>
#include <chrono>
#include <new>
#include <nlohmann/json.hpp>

#include "control/identity/private_file.hpp"
#include "control/identity/token/encoding.hpp"
#include "control/identity/token/public_key.hpp"

namespace portcullis::identity {

using nlohmann::json;

namespace {

using MdContext = OpensslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;
using Signature = OpensslPtr<ECDSA_SIG, ECDSA_SIG_free>;
using Number = OpensslPtr<BIGNUM, BN_free>;

constexpr size_t kWidth = 32;  // of P-256's numbers, RFC 7518 6.2.1.2

std::string Coordinate(const EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  std::array<uint8_t, kWidth> bytes{};
  EVP_PKEY_get_bn_param(key, name, &number);
  const Number owner(number);
  if (number == nullptr || BN_bn2binpad(number, bytes.data(), kWidth) < 0) throw std::bad_alloc();
  return EncodeBase64Url(bytes);
}

// RFC 7518 3.4: both numbers at full width, where OpenSSL writes DER.
std::string Sign(EVP_PKEY* key, std::string_view input) {
  const MdContext context(EVP_MD_CTX_new());
  std::array<uint8_t, 128> der{};  // at most 72
  size_t size = der.size();
  if (!context || EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), der.data(), &size, Bytes(input).data(), input.size()) != 1) {
    throw std::bad_alloc();
  }
  const uint8_t* at = der.data();
  const Signature pair(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));  // NOLINT
  std::array<uint8_t, 2 * kWidth> both{};
  if (!pair || BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), both.data(), kWidth) < 0 ||
      BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), both.data() + kWidth, kWidth) < 0) {
    throw std::bad_alloc();
  }
  return EncodeBase64Url(both);
}

}  // namespace

Result<ProofKey> ProofKey::Load(const std::string& path, const std::string& where) {
  const auto pem = ReadPrivateFile(path, where);
  if (!pem) return tl::unexpected(pem.error());
  const auto bytes = pem->bytes();
  const BioPtr reader = Reader({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  // An empty password instead of OpenSSL's prompt at the terminal.
  std::string no_password;
  KeyPtr key(PEM_read_bio_PrivateKey(reader.get(), nullptr, nullptr, no_password.data()));
  ERR_clear_error();
  std::array<char, 32> curve{};
  size_t length = 0;
  if (key) EVP_PKEY_get_group_name(key.get(), curve.data(), curve.size(), &length);
  if (!key || OBJ_txt2nid(curve.data()) != NID_X9_62_prime256v1) {
    ERR_clear_error();
    return Invalid(where, "not a key for proofs of possession: " + path,
                   "a P-256 private key in PEM, without a password");
  }
  const json jwk = {{"kty", "EC"},
                    {"crv", "P-256"},
                    {"x", Coordinate(key.get(), OSSL_PKEY_PARAM_EC_PUB_X)},
                    {"y", Coordinate(key.get(), OSSL_PKEY_PARAM_EC_PUB_Y)}};
  const auto own = PublicKey::FromJwk(jwk, where);
  if (!own) return tl::unexpected(own.error());
  return ProofKey(std::move(key), jwk.dump(), EncodeBase64Url(own->thumbprint()));
}

std::string ProofKey::Prove(const ProofRequest& request) const {
  std::array<uint8_t, 16> random{};
  if (RAND_bytes(random.data(), random.size()) != 1) throw std::bad_alloc();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  json payload = {{"htm", request.method},
                  {"htu", request.url},
                  {"iat", std::chrono::duration_cast<std::chrono::seconds>(now).count()},
                  {"jti", EncodeBase64Url(random)}};
  if (!request.nonce.empty()) payload["nonce"] = request.nonce;
  if (!request.access_token.empty()) {
    payload["ath"] = EncodeBase64Url(DigestOf(request.access_token));
  }
  const json header = {{"alg", "ES256"}, {"typ", "dpop+jwt"}, {"jwk", json::parse(jwk_)}};
  // A nonce is the server's text: what is not UTF-8 comes back as something else, and is refused.
  const std::string said = payload.dump(-1, ' ', false, json::error_handler_t::replace);
  const std::string input =
      EncodeBase64Url(Bytes(header.dump())) + "." + EncodeBase64Url(Bytes(said));
  return input + "." + Sign(key_.get(), input);
}

}  // namespace portcullis::identity
