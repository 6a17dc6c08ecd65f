// Packets by verdict. Each has one writer, a worker; anybody may read.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "dataplane/packet/verdict.hpp"

namespace portcullis {

struct CounterValues {
  std::array<uint64_t, kVerdictCount> packets{};
  uint64_t bytes = 0;  // of accepted inner packets

  CounterValues& operator+=(const CounterValues& other) {
    for (size_t i = 0; i < kVerdictCount; ++i) packets[i] += other.packets[i];
    bytes += other.bytes;
    return *this;
  }
};

class Counters {
 public:
  void Count(Verdict verdict, uint64_t packets = 1) noexcept {
    Add(packets_[static_cast<size_t>(verdict)], packets);
  }
  void CountBytes(uint64_t bytes) noexcept { Add(bytes_, bytes); }

  [[nodiscard]] CounterValues Read() const noexcept {
    CounterValues values;
    for (size_t i = 0; i < kVerdictCount; ++i) {
      values.packets[i] = packets_[i].load(std::memory_order_relaxed);
    }
    values.bytes = bytes_.load(std::memory_order_relaxed);
    return values;
  }

 private:
  // One writer: a load and a store, no locked instruction.
  static void Add(std::atomic<uint64_t>& to, uint64_t n) noexcept {
    to.store(to.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::atomic<uint64_t> bytes_ = 0;  // beside `accepted`, the first verdict: one line for both
  std::array<std::atomic<uint64_t>, kVerdictCount> packets_{};
};

}  // namespace portcullis
