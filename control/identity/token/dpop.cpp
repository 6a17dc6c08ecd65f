#include "control/identity/token/dpop.hpp"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <optional>

#include "control/identity/token/compact_jws.hpp"
#include "control/identity/token/public_key.hpp"
#include "control/identity/token/url.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

using model::Describe;

namespace {

constexpr size_t kLongestProof = 8192;
constexpr size_t kLongestJti = 256;
constexpr size_t kLongestNonce = 64;
constexpr size_t kLongestUrl = 2048;
constexpr size_t kLongestMethod = 32;
constexpr size_t kLongestDigest = 64;

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, "proof: " + std::move(detail)});
}

struct Claims {
  std::string htm, htu, ath, nonce, jti;
  std::chrono::system_clock::time_point issued;
};

// RFC 9449 4.2; `ath` is required here, since every proof comes with a token. Of a missing `nonce`,
// who made the proof is told as of one that is not good any more.
Result<Claims> Read(const nlohmann::json& payload) {
  std::optional<Error> error;
  model::Fields fields(payload, "payload", error);
  Claims claims;
  claims.htm = fields.Text("htm", kLongestMethod);
  claims.htu = fields.Text("htu", kLongestUrl);
  claims.ath = fields.Text("ath", kLongestDigest);
  claims.nonce = fields.Text("nonce", kLongestNonce, model::Fields::Presence::optional);
  claims.jti = fields.Text("jti", kLongestJti);
  claims.issued += std::chrono::seconds(fields.Number("iat", 0, kLastSecond));
  if (error) return tl::unexpected(*error);
  return claims;
}

tl::expected<void, Refusal> CheckRequest(const Claims& claims, const ProofContext& context) {
  if (claims.htm != context.method) {
    return Refuse(Reason::dpop_fail,
                  fmt::format("htm: expected {}; found {}", context.method, Describe(claims.htm)));
  }
  const auto wanted = NormalisedTarget(context.url);
  if (!wanted || NormalisedTarget(claims.htu) != wanted) {
    return Refuse(Reason::dpop_fail,
                  fmt::format("htu: expected {}; found {}", wanted.value_or("the request's URL"),
                              Describe(claims.htu)));
  }
  const auto ath = DecodeSha256(claims.ath);
  if (!ath || !EqualInConstantTime(*ath, DigestOf(context.access_token))) {
    return Refuse(Reason::dpop_fail, "ath: made for another access token");
  }
  return {};
}

}  // namespace

std::string NonceIssuer::Issue(const Moment& now) {
  std::array<uint8_t, 16> random{};
  // Without randomness there is nothing to go on with.
  if (RAND_bytes(random.data(), random.size()) != 1) throw std::bad_alloc();
  if (outstanding_.size() == kMostOpen) outstanding_.pop_front();
  outstanding_.emplace_back(EncodeBase64Url(random), now.steady + life_);
  return outstanding_.back().first;
}

bool NonceIssuer::Take(std::string_view nonce, const Moment& now) {
  const auto found = std::find_if(outstanding_.begin(), outstanding_.end(),
                                  [&](const auto& known) { return known.first == nonce; });
  if (found == outstanding_.end()) return false;
  const bool in_time = now.steady < found->second;
  outstanding_.erase(found);
  return in_time;
}

size_t ReplayCache::Hash::operator()(const Sha256& id) const {
  size_t first = 0;
  std::memcpy(&first, id.data(), sizeof(first));
  return first;
}

ReplayCache::Answer ReplayCache::Add(const Sha256& id, const Moment& now) {
  const std::lock_guard lock(mutex_);
  while (!by_age_.empty() && by_age_.front().first < now.steady) {
    seen_.erase(by_age_.front().second);
    by_age_.pop_front();
  }
  if (seen_.contains(id)) return Answer::seen;
  if (seen_.size() >= most_) return Answer::full;
  seen_.insert(id);
  by_age_.emplace_back(now.steady + life_, id);
  return Answer::fresh;
}

tl::expected<void, Refusal> VerifyProof(std::string_view proof, const ProofContext& context,
                                        const ProofRules& rules, NonceIssuer& nonces,
                                        ReplayCache& used, const Moment& now) {
  const auto jws = ParseCompact(proof, kLongestProof);
  if (!jws) return Refuse(Reason::dpop_fail, jws.error().Text());
  if (jws->Header("typ") != "dpop+jwt") {
    return Refuse(Reason::dpop_fail, "header/typ: expected dpop+jwt; found " +
                                         Describe(std::string(jws->Header("typ"))));
  }
  const auto algorithm = AlgorithmOf(jws->Header("alg"));
  if (!algorithm) {
    return Refuse(Reason::dpop_fail, "header/alg: expected RS256, PS256, ES256 or ES384; found " +
                                         Describe(std::string(jws->Header("alg"))));
  }
  // Here, and only here, the key may come with the message: that it is the token's is checked
  // below.
  const auto key = PublicKey::FromJwk(jws->header.value("jwk", nlohmann::json()), "header/jwk");
  if (!key) return Refuse(Reason::dpop_fail, key.error().Text());
  if (!context.binding.proof_key ||
      !EqualInConstantTime(key->thumbprint(), *context.binding.proof_key)) {
    return Refuse(Reason::token_binding_fail, "made with another key than the token is bound to");
  }
  if (!key->Verifies(*algorithm, jws->signing_input, jws->signature)) {
    return Refuse(Reason::dpop_fail, "the signature is wrong");
  }

  const auto claims = Read(jws->payload);
  if (!claims) return Refuse(Reason::dpop_fail, claims.error().Text());
  const bool nonce_good = nonces.Take(claims->nonce, now);
  if (auto good = CheckRequest(*claims, context); !good) return good;
  if (claims->issued + rules.longest_age < now.wall || claims->issued > now.wall + rules.leeway) {
    return Refuse(Reason::dpop_fail, "iat: too old, or ahead of the gate's clock");
  }
  if (!nonce_good) {
    return Refuse(Reason::dpop_nonce_fail, "nonce: not one that is open on this connection");
  }
  // A jti is only unique to the key that chose it.
  std::string id(reinterpret_cast<const char*>(key->thumbprint().data()), sizeof(Sha256));
  switch (used.Add(DigestOf(id + claims->jti), now)) {
    case ReplayCache::Answer::fresh:
      return {};
    case ReplayCache::Answer::seen:
      return Refuse(Reason::token_replay, "this jti was used before");
    case ReplayCache::Answer::full:
      break;
  }
  return Refuse(Reason::dpop_fail, "no room to remember it; try again later");
}

}  // namespace portcullis::identity
