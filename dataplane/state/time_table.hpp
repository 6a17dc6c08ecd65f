// For each key one time, in a table of fixed size. A time that has passed is as good as none, which
// holds for a token bucket (GCRA: when its debts are paid) and for a ban alike. Where a key finds
// no room, the earliest time in its set goes: the one that is past, or else has the least left.
// Whoever floods a table with keys of their own thus pushes out what tells least. One writer.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "base/ip.hpp"

namespace portcullis {

class TimeTable {
 public:
  /// Room for `keys`, a power of two.
  explicit TimeTable(size_t keys) : sets_(keys / kWays) {
    std::random_device random;
    for (uint64_t& secret : secrets_) secret = uint64_t{random()} << 32U | random();
  }

  /// 0: none.
  [[nodiscard]] uint64_t Find(const Address& key) const noexcept {
    const Set& set = sets_[IndexOf(key)];
    for (size_t way = 0; way < kWays; ++way) {
      if (set.keys[way] == key) return set.times[way];
    }
    return 0;
  }
  /// To be written; 0 where the key was not there. Takes the place of another.
  uint64_t& At(const Address& key) noexcept {
    Set& set = sets_[IndexOf(key)];
    const auto found = std::ranges::find(set.keys, key);
    if (found != set.keys.end()) return set.times[static_cast<size_t>(found - set.keys.begin())];
    const auto earliest = std::ranges::min_element(set.times);
    set.keys[static_cast<size_t>(earliest - set.times.begin())] = key;
    *earliest = 0;
    return *earliest;
  }

 private:
  static constexpr size_t kWays = 4;
  struct alignas(64) Set {
    std::array<Address, kWays> keys;
    std::array<uint64_t, kWays> times{};
  };
  // Senders choose their sources: without the secrets they would choose those that share a set.
  [[nodiscard]] size_t IndexOf(const Address& key) const noexcept {
    const auto product =
        static_cast<unsigned __int128>(key.Half(0) ^ secrets_[0]) * (key.Half(1) ^ secrets_[1]);
    const uint64_t folded = static_cast<uint64_t>(product >> 64U) ^ static_cast<uint64_t>(product);
    return (folded * 0x9e3779b97f4a7c15) >> 32U & (sets_.size() - 1);
  }

  std::vector<Set> sets_;
  std::array<uint64_t, 2> secrets_{};
};

}  // namespace portcullis
