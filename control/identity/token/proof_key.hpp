// The client's side of DPoP (RFC 9449): the key that an access token is bound to, and proofs made
// with it. The gate's side is dpop.hpp.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity {

/// What one proof is for.
struct ProofRequest {
  std::string_view method;
  std::string_view url;           // without query and fragment (RFC 9449 4.2)
  std::string_view access_token;  // empty: for the token endpoint, which has not given one yet
  std::string_view nonce;         // the server's; empty: none yet
};

class ProofKey {
 public:
  /// A PEM file with a P-256 key, without a password; see ReadPrivateFile. `where` is the setting
  /// that names it, for messages.
  static Result<ProofKey> Load(const std::string& path, const std::string& where);

  /// A JWT of type dpop+jwt, signed with ES256, with a jti of its own. Throws std::bad_alloc when
  /// OpenSSL has no memory or no random numbers.
  [[nodiscard]] std::string Prove(const ProofRequest& request) const;

  /// RFC 7638, base64url: what `jkt` in the token and key_thumbprint in the gate's policy say.
  [[nodiscard]] const std::string& thumbprint() const { return thumbprint_; }

 private:
  ProofKey(KeyPtr key, std::string jwk, std::string thumbprint)
      : key_(std::move(key)), jwk_(std::move(jwk)), thumbprint_(std::move(thumbprint)) {}

  KeyPtr key_;
  std::string jwk_;  // the public half, as JSON
  std::string thumbprint_;
};

}  // namespace portcullis::identity
