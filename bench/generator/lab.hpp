// Who there is in the laboratory: keys, SPIs and addresses of each security association, all from
// the options, and the documents that tell a gate the same (portcullisctl policy apply, sas add).
#pragma once

#include <memory>
#include <vector>

#include "bench/generator/options.hpp"

namespace portcullis::generator {

/// `direction` is the gate's view: it opens what is inbound. SPIs of both directions alternate from
/// kFirstSpi on, so that a table of 2 * sas + 256 has a slot for each.
inline constexpr uint32_t kFirstSpi = 0x50000100;
inline constexpr uint32_t kUnknownBit = 0x01000000;  // makes any of them nobody's

constexpr Spi SpiOf(uint32_t sa, Direction direction) {
  return Spi{kFirstSpi + 2 * sa + static_cast<uint32_t>(direction)};
}

/// Key material for the SA: SHA-256(seed || algorithm || direction || sa || block).
std::vector<uint8_t> KeyOf(const Options& options, uint32_t sa, Direction direction);

/// The expanded keys of one direction; read by all threads.
class Keys {
 public:
  Keys(const Options& options, const Engine& engine);
  [[nodiscard]] const KeySchedule& of(uint32_t sa) const { return schedules_[sa]; }

 private:
  std::vector<KeySchedule> schedules_;
};

/// Writes policy.json, sas.json and generator.conf to the folder, which must not exist: keys that
/// were used are refused, so every laboratory has a seed of its own.
void WriteLab(Options options);

}  // namespace portcullis::generator
