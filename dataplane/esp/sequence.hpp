// From the 32 bits on the wire to the full sequence number (RFC 4303 appendix A2).
//
// The RFC takes whatever is left of the window for a packet 2^32 ahead, so that each old replay
// would cost a decryption, only to fail as a forgery. We deviate: an apparent jump of more than
// 2^31 is stale and reaches no crypto. What remains is one rule: of all numbers with these lower 32
// bits take the one nearest to the highest accepted so far; it must not lie left of the window. A
// peer that really lost more than 2^31 packets in a row has to re-key.
#pragma once

#include <cstdint>

#include "dataplane/packet/bytes.hpp"

namespace portcullis {

/// `highest`: the highest number accepted so far, 0 when none. `window` in packets; 0 (no
/// anti-replay) infers without a left edge. kNoSequence: stale (sequence number 0, left of the
/// window, or implausibly far ahead). Without `esn` only 0 is refused here; the window check
/// does the rest.
constexpr Sequence InferSequence(uint64_t highest, uint32_t window, bool esn,
                                 uint32_t low) noexcept {
  if (!esn) return Sequence{low};
  constexpr uint32_t kFarthest = uint32_t{1} << 31;
  const uint32_t ahead = low - static_cast<uint32_t>(highest);  // modulo 2^32
  if (ahead <= kFarthest) {
    const uint64_t full = highest + ahead;
    return full < highest ? kNoSequence : Sequence{full};  // past the end of all numbers
  }
  const uint32_t behind = 0 - ahead;
  if (window != 0 && behind >= window) return kNoSequence;
  if (behind >= highest) return kNoSequence;  // would be 0 or negative
  return Sequence{highest - behind};
}

constexpr uint32_t High(Sequence s) {
  return static_cast<uint32_t>(Value(s) >> 32);
}
constexpr uint32_t Low(Sequence s) {
  return static_cast<uint32_t>(Value(s));
}

}  // namespace portcullis
