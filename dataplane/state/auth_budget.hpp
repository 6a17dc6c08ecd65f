// What a flood of forgeries may cost. A forged packet with a live SPI costs one integrity check;
// the budget bounds how many, without ever becoming a way to switch a peer off by spoofing its SPI:
// the SA stays up, only strangers' packets, and own ones far above the contract, are refused
// before crypto while it is suspect (design: Auth-failure budget).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/ip.hpp"
#include "bpf/shared.h"
#include "dataplane/state/policer.hpp"

namespace portcullis {

// Enough for a peer behind a NAT that moved to show itself, too little to load a core.
inline constexpr uint64_t kStrangersPerSecond = PORTCULLIS_STRANGERS_PER_SECOND;

struct AuthLimits {
  uint64_t failures_per_second = 100;  // above this an SA is suspect
  uint32_t suspect_seconds = 10;       // for how long after the last excess
  uint32_t cpu_percent = 10;           // of a worker, for integrity checks that fail
};

class AuthBudget {
 public:
  AuthBudget() = default;
  /// `contracted_pps`: the rate of the SA or else of its peer, 0: none.
  AuthBudget(const AuthLimits& limits, uint64_t contracted_pps, uint64_t tsc_hz)
      : failures_(limits.failures_per_second, tsc_hz, tsc_hz, 1),
        strangers_(kStrangersPerSecond, tsc_hz / 10, tsc_hz, 1),
        own_(contracted_pps * kOwnFactor, tsc_hz / 10, tsc_hz, 1),
        suspect_cycles_(limits.suspect_seconds * tsc_hz) {}

  /// True when this failure makes the SA suspect that was not.
  bool Failed(uint64_t now) noexcept {
    if (failures_.Take(now, 1)) return false;
    const bool was = Suspect(now);
    suspect_until_.store(now + suspect_cycles_, std::memory_order_relaxed);
    return !was;
  }
  [[nodiscard]] bool Suspect(uint64_t now) const noexcept { return now < suspect_until(); }
  [[nodiscard]] uint64_t suspect_until() const noexcept {  // TSC
    return suspect_until_.load(std::memory_order_relaxed);
  }
  /// Before crypto, while suspect or `capped`: the worker's share for failures is used up.
  bool Admits(uint64_t now, bool own_endpoint, bool capped) noexcept {
    if (own_endpoint) return own_.Take(now, 1);
    return !capped && strangers_.Take(now, 1);
  }

 private:
  static constexpr uint64_t kOwnFactor = 4;

  std::atomic<uint64_t> suspect_until_ = 0;  // TSC; first, since every packet asks
  Bucket failures_;
  Bucket strangers_;
  Bucket own_;
  uint64_t suspect_cycles_ = 0;
};

/// What the first line was told of a suspect SA: as long as that holds, whoever is not at the SA's
/// endpoint has a tiny bucket before anything is spent on them. The owning worker tells; where the
/// first line is the pipeline's own, any worker asks.
struct Suspicion {
  std::atomic<uint64_t> until = 0;          // TSC
  std::atomic<uint64_t> strangers_due = 0;  // TSC: when their bucket's debts are paid
  // The owner's: what was told last, and when it is told again though nothing is new.
  Address endpoint;
  uint64_t again = 0;  // TSC

  [[nodiscard]] bool Holds(uint64_t now) const noexcept {
    return now < until.load(std::memory_order_relaxed);
  }
  /// One packet. Workers may race for one: then a few more than the limit pass, and nothing else
  /// happens. As bpf/decide.h has it.
  bool AdmitsStranger(uint64_t now, uint64_t tsc_hz) noexcept {
    const uint64_t each = tsc_hz / kStrangersPerSecond;
    const uint64_t due = std::max(strangers_due.load(std::memory_order_relaxed), now);
    if (due > now + (PORTCULLIS_STRANGERS_BURST - 1) * each) return false;
    strangers_due.store(due + each, std::memory_order_relaxed);
    return true;
  }
};

}  // namespace portcullis
