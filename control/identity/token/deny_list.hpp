// What was revoked before it ended by itself: single tokens, signing keys, whole issuers. Consulted
// with every token, also with one whose check is cached. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <shared_mutex>
#include <string>

#include "base/result.hpp"

namespace portcullis::identity {

struct Denial {
  enum class What : uint8_t { token, key, issuer };
  What what = What::token;
  std::string issuer;  // as in `iss`
  std::string id;      // jti, kid; empty for an issuer

  auto operator<=>(const Denial&) const = default;
};

class DenyList {
 public:
  using Until = std::optional<std::chrono::system_clock::time_point>;

  explicit DenyList(size_t most = kMost) : most_(most) {}

  /// `until`: when the thing itself is no longer accepted, leeway included; nothing: never
  /// forgotten. Said twice, the later end holds. kExhausted: full, and nothing is forgotten to make
  /// room.
  Result<void> Add(const Denial& denial, Until until);
  [[nodiscard]] bool Denies(const Denial& denial) const;
  /// Forgets what has ended before `now`.
  void Purge(std::chrono::system_clock::time_point now);
  /// Grows with each new entry. Who decides reads it first and compares it when the decision is
  /// committed; another number means: ask again.
  [[nodiscard]] uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }

 private:
  static constexpr size_t kMost = 1'000'000;

  size_t most_;
  mutable std::shared_mutex mutex_;
  std::map<Denial, Until> entries_;
  std::atomic<uint64_t> epoch_{1};
};

}  // namespace portcullis::identity
