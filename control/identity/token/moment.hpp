// Now, on both clocks: what others wrote down (expiry, issue) is judged by the wall clock, what
// only we remember (age of a key set, life of a nonce) by one that nobody can set. Who asks passes
// it in; a wall clock that went back is refused before, by whoever keeps its high-water mark.
#pragma once

#include <chrono>
#include <cstdint>

namespace portcullis::identity {

struct Moment {
  std::chrono::system_clock::time_point wall;
  std::chrono::steady_clock::time_point steady;

  static Moment Now() {
    return {std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
  }
};

/// The last NumericDate (RFC 7519 2) that is admitted, in the year 2255: the system clock counts
/// nanoseconds in 64 bits, and leeway must still fit.
inline constexpr uint64_t kLastSecond = 9'000'000'000;

}  // namespace portcullis::identity
