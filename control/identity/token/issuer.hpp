// An authorization server that this gate believes, and the keys that it is known to sign with now.
// Fetching them is KeyFetcher's business; here they are only held and swapped.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/identity/token/access_token.hpp"
#include "control/identity/token/key_set.hpp"
#include "control/identity/token/moment.hpp"

namespace portcullis::identity {

struct IssuerConfig {
  ClaimRules claims;
  std::vector<Algorithm>
      algorithms;  // the only ones; the first that fits serves keys without `alg`
  /// Where the key set is: an absolute path or an https URL; http only with a loopback address.
  std::string keys;
  std::string keys_ca;  // PEM file, whom an https URL is believed by; the system's are not used
  std::chrono::milliseconds refresh_every{300'000};
  std::chrono::milliseconds refresh_gap{30'000};  // between two fetches, whatever asks for them
  std::chrono::milliseconds fetch_timeout{5'000};
  std::chrono::milliseconds keep_for{3'600'000};  // how long a set serves when none can be fetched
};

/// `where` is the configuration's own name for this issuer, in errors.
Result<void> Check(const ClaimRules& rules, const std::string& where);
Result<void> Check(const IssuerConfig& config, const std::string& where);

class Issuer {
 public:
  explicit Issuer(IssuerConfig config) : config_(std::move(config)) {}

  [[nodiscard]] const IssuerConfig& config() const { return config_; }

  /// Null: there never were any, or the last are older than `keep_for`. Any thread.
  [[nodiscard]] std::shared_ptr<const KeySet> Keys(const Moment& now) const;
  /// Answers which kids vanished: the grants that they signed must end. Any thread.
  std::vector<std::string> Replace(KeySet keys, const Moment& fetched);

  /// When the present keys were fetched; nothing: there never were any. Any thread.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> fetched() const;

  /// A token names a key that is not there: it may be a new one. Any thread; cheap, however often.
  void WantKeys() const;
  /// Whom WantKeys() tells; it may be called from any thread. Not to be changed while others
  /// verify.
  void OnWantKeys(std::function<void()> tell) { tell_ = std::move(tell); }

 private:
  IssuerConfig config_;
  std::function<void()> tell_;
  mutable std::mutex mutex_;
  std::shared_ptr<const KeySet> keys_;
  std::chrono::steady_clock::time_point fetched_;
};

}  // namespace portcullis::identity
