// Rate limits as the generic cell rate algorithm (ITU-T I.371 annex A, virtual scheduling): the
// state is one time, the cost of a packet is a time, there is no division and no timer. Two of
// them make a policer: packets and bits. One writer: the worker that owns the SA or the peer.
#pragma once

#include <algorithm>
#include <cstdint>

namespace portcullis {

struct Rate {
  uint64_t packets_per_second = 0;  // 0: unlimited
  uint64_t bits_per_second = 0;     // 0: unlimited
  uint32_t burst_ms = 100;          // how much may come at once, as time at the full rate

  bool operator==(const Rate&) const = default;
};

/// One bucket; times and costs in TSC cycles with `kFraction` fractional bits for the unit cost.
class Bucket {
 public:
  Bucket() = default;
  /// `units_per_second` 0: unlimited. At least one packet of 64 Kbit always fits the burst.
  Bucket(uint64_t units_per_second, uint64_t burst_cycles, uint64_t tsc_hz, uint64_t most_units)
      : unit_cost_(units_per_second == 0 ? 0 : Cost(units_per_second, tsc_hz)),
        tolerance_(std::max(burst_cycles, (unit_cost_ * most_units) >> kFraction)) {}

  [[nodiscard]] bool Admits(uint64_t now, uint64_t units) const noexcept {
    return EarlyEnough(After(now, units), now);
  }
  void Debit(uint64_t now, uint64_t units) noexcept { due_ = After(now, units); }
  /// When the bucket will be empty of debts, these units included; it admits them if that is early
  /// enough, and has admitted them once it is set.
  [[nodiscard]] uint64_t After(uint64_t now, uint64_t units) const noexcept {
    return Due(now) + Cycles(units);
  }
  [[nodiscard]] bool EarlyEnough(uint64_t after, uint64_t now) const noexcept {
    return after <= now + tolerance_;
  }
  void Set(uint64_t after) noexcept { due_ = after; }
  /// Both in one, for a bucket that stands alone.
  bool Take(uint64_t now, uint64_t units) noexcept {
    if (!Admits(now, units)) return false;
    Debit(now, units);
    return true;
  }

 private:
  static constexpr unsigned kFraction = 16;
  static uint64_t Cost(uint64_t units_per_second, uint64_t tsc_hz) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(tsc_hz) << kFraction) /
                                 units_per_second);
  }
  [[nodiscard]] uint64_t Due(uint64_t now) const noexcept { return std::max(due_, now); }
  [[nodiscard]] uint64_t Cycles(uint64_t units) const noexcept {
    return (unit_cost_ * units) >> kFraction;
  }

  uint64_t due_ = 0;        // when the bucket will be empty of debts
  uint64_t unit_cost_ = 0;  // cycles a unit, << kFraction
  uint64_t tolerance_ = 0;
};

class Policer {
 public:
  Policer() = default;
  Policer(const Rate& rate, uint64_t tsc_hz)
      : packets_(rate.packets_per_second, BurstCycles(rate, tsc_hz), tsc_hz, 1),
        bits_(rate.bits_per_second, BurstCycles(rate, tsc_hz), tsc_hz, kLargestPacketBits) {}

  /// Debits both or, when either does not admit so much, neither. `bytes` of all the packets
  /// together.
  static bool Take(Policer& a, Policer& b, uint64_t now, uint32_t packets,
                   uint32_t bytes) noexcept {
    const uint64_t bits = uint64_t{bytes} * 8;
    const uint64_t after[] = {a.packets_.After(now, packets), a.bits_.After(now, bits),
                              b.packets_.After(now, packets), b.bits_.After(now, bits)};
    const bool admitted =
        a.packets_.EarlyEnough(after[0], now) && a.bits_.EarlyEnough(after[1], now) &&
        b.packets_.EarlyEnough(after[2], now) && b.bits_.EarlyEnough(after[3], now);
    if (!admitted) return false;
    a.packets_.Set(after[0]);
    a.bits_.Set(after[1]);
    b.packets_.Set(after[2]);
    b.bits_.Set(after[3]);
    return true;
  }

 private:
  // A burst shorter than one packet would admit nothing at all.
  static constexpr uint64_t kLargestPacketBits = 9000UL * 8;
  static uint64_t BurstCycles(const Rate& rate, uint64_t tsc_hz) {
    return tsc_hz / 1000 * (rate.burst_ms == 0 ? 100 : rate.burst_ms);
  }
  Bucket packets_;
  Bucket bits_;
};

}  // namespace portcullis
