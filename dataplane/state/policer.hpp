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

  [[nodiscard]] bool unlimited() const { return unit_cost_ == 0; }
  [[nodiscard]] bool Admits(uint64_t now, uint64_t units) const noexcept {
    return Due(now) + Cycles(units) <= now + tolerance_;
  }
  void Debit(uint64_t now, uint64_t units) noexcept { due_ = Due(now) + Cycles(units); }
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

  /// `bytes` of all the packets together.
  [[nodiscard]] bool Admits(uint64_t now, uint32_t packets, uint32_t bytes) const noexcept {
    return packets_.Admits(now, packets) && bits_.Admits(now, uint64_t{bytes} * 8);
  }
  void Debit(uint64_t now, uint32_t packets, uint32_t bytes) noexcept {
    packets_.Debit(now, packets);
    bits_.Debit(now, uint64_t{bytes} * 8);
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
