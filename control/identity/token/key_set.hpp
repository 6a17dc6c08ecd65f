// An issuer's public keys (JWKS, RFC 7517 5), read strictly: what is wrong with the set as a whole
// refuses it, so that the last good one stays; a key that is merely of no use here is left out with
// a note. Each key has one algorithm, for good (RFC 8725 3.1): a token cannot choose another.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "control/identity/token/public_key.hpp"

namespace portcullis::identity {

struct SigningKey {
  std::string kid;
  Algorithm algorithm;
  PublicKey key;
};

class KeySet {
 public:
  /// `allowed`: a key that names no `alg` gets the first of these that fits it. Refused: not JSON,
  /// a member twice, a key without `kid` or two with the same, a private or symmetric key, a
  /// malformed one, more than 100. Left out with a note: unknown types and curves, keys that are
  /// not for signatures, algorithms that are not allowed, RSA keys of another size than PublicKey
  /// admits.
  static Result<KeySet> Parse(std::string_view text, const std::vector<Algorithm>& allowed);

  /// Null: there is none.
  [[nodiscard]] const SigningKey* Find(std::string_view kid) const;
  [[nodiscard]] const std::vector<SigningKey>& keys() const { return keys_; }
  /// What was left out and why, for operators.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  std::vector<SigningKey> keys_;
  std::vector<std::string> notes_;
};

/// The kids of `before` under which `after` has no key, or another one: what they signed must end.
std::vector<std::string> Vanished(const KeySet& before, const KeySet& after);

}  // namespace portcullis::identity
