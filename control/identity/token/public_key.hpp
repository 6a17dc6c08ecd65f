// A public key as JOSE writes it (a JWK, RFC 7517 and RFC 7518 6) and the four signature algorithms
// that tokens and proofs may carry. Signatures are verified with EVP; cjose is the second opinion
// of the tests. It would parse header and payload a second time, costs more than the tenth of an
// ES256 verification that a whole token check may take, and accepts any `crit`.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/identity/token/encoding.hpp"

namespace portcullis::identity {

/// RFC 7518 3.1. No other is known here: not `none`, and nothing symmetric (RFC 8725 2.1).
enum class Algorithm : uint8_t { rs256, ps256, es256, es384 };
std::string_view Name(Algorithm algorithm);
std::optional<Algorithm> AlgorithmOf(std::string_view name);

class PublicKey {
 public:
  enum class Type : uint8_t { rsa, p256, p384 };

  /// `where` is the JSON pointer of `jwk`. kInvalid: not well-formed, or with members of a private
  /// or symmetric key. kNotFound: `kty` or `crv` is none of ours. kForbidden: RSA outside 2048 to
  /// 4096 bits, or with an exponent below 65537 or above 32 bits (who sends a proof chooses its
  /// key, and with that what verifying it costs).
  static Result<PublicKey> FromJwk(const nlohmann::json& jwk, const std::string& where);

  [[nodiscard]] Type type() const { return type_; }
  [[nodiscard]] bool Fits(Algorithm algorithm) const;
  /// False as well when the algorithm does not fit the key. Any thread.
  [[nodiscard]] bool Verifies(Algorithm algorithm, std::string_view input,
                              std::string_view signature) const;
  /// RFC 7638, with SHA-256.
  [[nodiscard]] const Sha256& thumbprint() const { return thumbprint_; }

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  struct FreeContext {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  using Context = std::unique_ptr<EVP_MD_CTX, FreeContext>;
  PublicKey(Type type, EVP_PKEY* key, const Sha256& thumbprint);
  [[nodiscard]] Context NewContext(Algorithm algorithm) const;

  Type type_;
  std::unique_ptr<EVP_PKEY, Free> key_;
  Context ready_;  // EC: for its one algorithm; copying is cheaper than beginning anew
  Sha256 thumbprint_;
};

}  // namespace portcullis::identity
