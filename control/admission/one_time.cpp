#include "control/admission/one_time.hpp"

#include <fmt/format.h>

#include "control/admission/applicant.hpp"
#include "control/admission/standing.hpp"

namespace portcullis::admission {

using identity::Reason;
using model::UsedToken;

namespace {

constexpr size_t kLongestJti = 255;  // each is kept
// More than any guard lets a token outlive its expiry (identity/token/access_token.hpp).
constexpr std::chrono::minutes kLeeway{1};
constexpr std::chrono::minutes kPruneEvery{1};

}  // namespace

tl::expected<void, identity::Refusal> CheckOneTime(Store& store, const Token& token) {
  if (token.jti().empty() || token.jti().size() > kLongestJti) {
    return Decline(Reason::token_claims_fail,
                   fmt::format("policy makes it good for one request: expected a jti of 1 to {} "
                               "bytes, found {}",
                               kLongestJti, token.jti().size()));
  }
  const auto used = store.IsUsed(token.issuer(), token.jti());
  if (!used) return Decline(Reason::gate_unavailable, used.error().Text());
  if (!*used) return {};
  return Decline(Reason::token_used, "policy makes it good for one request");
}

Result<void> OneTimeTokens::Restore() {
  const auto count = store_.CountUsedTokens();
  if (!count) return tl::unexpected(count.error());
  count_ = *count;
  return {};
}

tl::expected<void, identity::Refusal> OneTimeTokens::Check(const Token& token) {
  if (auto fresh = CheckOneTime(store_, token); !fresh) return fresh;
  if (being_used_.contains({token.issuer(), token.jti()})) {
    return Decline(Reason::token_used, "a request with it is being made");
  }
  if (count_ + being_used_.size() < kMost) return {};
  return Decline(Reason::gate_unavailable,
                 fmt::format("{} used tokens have not expired yet: no more can be kept", kMost));
}

UsedToken OneTimeTokens::Begin(const Token& token) {
  being_used_.emplace(token.issuer(), token.jti());
  const auto expires = ApplicantOf({}, token, "").token_expiry + kLeeway;
  return {token.issuer(), token.jti(), expires};
}

void OneTimeTokens::End(const UsedToken& token, bool written) {
  being_used_.erase({token.issuer, token.jti});
  if (written) ++count_;
}

void OneTimeTokens::Prune(TimeVerdict clock, UsedToken::Time now) {
  if (now - pruned_ < kPruneEvery && now >= pruned_) return;
  pruned_ = now;
  if (!store_.ForgetUsedTokens(clock, now)) return;  // /readyz tells of a store that fails
  if (const auto left = store_.CountUsedTokens()) count_ = *left;
}

}  // namespace portcullis::admission
