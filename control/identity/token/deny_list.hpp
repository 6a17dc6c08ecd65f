// What was revoked before it ended by itself: single tokens, signing keys, whole issuers. Consulted
// with every token, also with one whose check is cached. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <tuple>

#include "base/result.hpp"

namespace portcullis::identity {

struct Denial {
  enum class What : uint8_t { token, key, issuer };
  What what = What::token;
  std::string issuer;  // as in `iss`
  std::string id;      // jti, kid; empty for an issuer
};

/// The same, to ask with.
struct DenialView {
  Denial::What what = Denial::What::token;
  std::string_view issuer;
  std::string_view id;
};

class DenyList {
 public:
  using Until = std::optional<std::chrono::system_clock::time_point>;

  explicit DenyList(size_t most = kMost) : most_(most) {}

  /// `until`: when the thing itself is no longer accepted, leeway included; nothing: never
  /// forgotten. Said twice, the later end holds. kExhausted: full, and nothing is forgotten to make
  /// room.
  Result<void> Add(const Denial& denial, Until until);
  [[nodiscard]] bool Denies(const DenialView& what) const;
  /// Forgets what has ended before `now`.
  void Purge(std::chrono::system_clock::time_point now);
  /// Grows with each new entry. Who decides reads it first and compares it when the decision is
  /// committed; another number means: ask again.
  [[nodiscard]] uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }

 private:
  static constexpr size_t kMost = 1'000'000;

  struct Less {
    using is_transparent = void;  // NOLINT(readability-identifier-naming): the library's name
    static auto Key(const auto& d) {
      return std::tuple<Denial::What, std::string_view, std::string_view>(d.what, d.issuer, d.id);
    }
    bool operator()(const auto& a, const auto& b) const { return Key(a) < Key(b); }
  };

  size_t most_;
  mutable std::shared_mutex mutex_;
  std::map<Denial, Until, Less> entries_;
  std::atomic<uint64_t> epoch_{1};
};

}  // namespace portcullis::identity
