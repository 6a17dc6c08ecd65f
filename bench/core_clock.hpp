// Time that this thread had its core: where others want the core too, what they take is not the
// gate's. On a core of one's own it is the time on the wall. Reading it is a system call, so it is
// read around laps, not around bursts.
#pragma once

#include <ctime>

namespace portcullis::bench {

class CoreClock {
 public:
  void Start() { begin_ = Now(); }
  void Stop() { ns_ += Now() - begin_; }
  [[nodiscard]] double ns() const { return ns_; }

 private:
  static double Now() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
  }
  double begin_ = 0;
  double ns_ = 0;
};

}  // namespace portcullis::bench
