// Now, on both clocks: what others wrote down (expiry, issue) is judged by the wall clock, what
// only we remember (age of a key set, life of a nonce) by one that nobody can set. Who asks passes
// it in; a wall clock that went back is refused before, by whoever keeps its high-water mark.
#pragma once

#include <chrono>

namespace portcullis::identity {

struct Moment {
  std::chrono::system_clock::time_point wall;
  std::chrono::steady_clock::time_point steady;

  static Moment Now() {
    return {std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
  }
};

}  // namespace portcullis::identity
