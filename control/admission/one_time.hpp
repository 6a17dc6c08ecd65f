// Access tokens that policy makes good for one request. Which were used is on the disk before their
// request is made, and kept until nobody accepts them anyway: a token that was used is refused the
// second time, whatever dies in between. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "control/admission/admission.pb.h"
#include "control/identity/refusal.hpp"
#include "control/model/used_token.hpp"
#include "control/registry/store.hpp"

namespace portcullis::admission {

/// It says which one it is (RFC 9068 2.2, jti), and was not used before.
tl::expected<void, identity::Refusal> CheckOneTime(Store& store, const Token& token);

class OneTimeTokens {
 public:
  static constexpr uint64_t kMost = 1'000'000;  // that have not expired

  /// `store` outlives this.
  explicit OneTimeTokens(Store& store) : store_(store) {}

  Result<void> Restore();

  /// May it be used now? Refused as well: the request before it is still being written down.
  tl::expected<void, identity::Refusal> Check(const Token& token);
  /// It is being used: Check() refuses it from now on.
  model::UsedToken Begin(const Token& token);
  /// `written`: it is on the disk. Otherwise it may be used yet.
  void End(const model::UsedToken& token, bool written);

  /// Forgets what has expired, now and then.
  void Prune(TimeVerdict clock, model::UsedToken::Time now);

 private:
  Store& store_;
  std::set<std::pair<std::string, std::string>> being_used_;  // issuer, jti
  uint64_t count_ = 0;
  model::UsedToken::Time pruned_{};
};

}  // namespace portcullis::admission
