// Proof of possession (DPoP, RFC 9449) for peers that show no certificate: each proof is made for
// one request, one token and one connection of this gate, and serves once.
#pragma once

#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_set>
#include <utility>

#include "control/identity/refusal.hpp"
#include "control/identity/token/access_token.hpp"
#include "control/identity/token/encoding.hpp"
#include "control/identity/token/moment.hpp"

namespace portcullis::identity {

/// The nonces of one connection (RFC 9449 9). Belongs to that connection, so that a proof made for
/// another is worth nothing here. One thread.
class NonceIssuer {
 public:
  explicit NonceIssuer(std::chrono::seconds life = std::chrono::seconds(60)) : life_(life) {}

  /// For as many requests as run on a connection at a time.
  static constexpr size_t kMostOpen = 100;

  /// 128 random bits. With more than kMostOpen outstanding the oldest is forgotten.
  std::string Issue(const Moment& now);
  /// True once for each nonce that this issued and that has not expired.
  bool Take(std::string_view nonce, const Moment& now);

 private:
  std::chrono::seconds life_;
  std::deque<std::pair<std::string, std::chrono::steady_clock::time_point>> outstanding_;
};

/// The proofs that were used. Bounded; when it is full, a proof is refused rather than another one
/// forgotten. Any thread.
class ReplayCache {
 public:
  enum class Answer { fresh, seen, full };

  /// `life`: for as long as a proof could be accepted again.
  ReplayCache(size_t most, std::chrono::seconds life) : most_(most), life_(life) {}

  Answer Add(const Sha256& id, const Moment& now);

 private:
  struct Hash {
    size_t operator()(const Sha256& id) const;
  };
  size_t most_;
  std::chrono::seconds life_;
  std::mutex mutex_;
  std::unordered_set<Sha256, Hash> seen_;
  std::deque<std::pair<std::chrono::steady_clock::time_point, Sha256>> by_age_;
};

struct ProofRules {
  std::chrono::seconds longest_age{60};
  std::chrono::seconds leeway{30};  // how far `iat` may be ahead
  /// For how long a ReplayCache must remember.
  [[nodiscard]] std::chrono::seconds Life() const { return longest_age + leeway; }
};

/// What a proof is for: the request as it came, and the token with it.
struct ProofContext {
  std::string_view method;
  std::string_view url;           // absolute, as this gate is called from outside
  std::string_view access_token;  // as it came
  const Binding& binding;         // of that token, once it is verified
};

/// token_binding_fail: a proof by another key than the token's. token_replay: used before.
/// dpop_nonce_fail: sound, but for its nonce. dpop_fail: all else. A nonce that comes in a
/// correctly signed proof is spent, whatever else is wrong.
tl::expected<void, Refusal> VerifyProof(std::string_view proof, const ProofContext& context,
                                        const ProofRules& rules, NonceIssuer& nonces,
                                        ReplayCache& used, const Moment& now);

}  // namespace portcullis::identity
