// What may come again and again, and must not fill the disk: somebody's refusals. Of each kind the
// first few in a minute are recorded one by one; of the rest only how many they were, once the
// minute is over. Nothing is lost but the detail of what was said a few times already. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace portcullis::audit {

class Repeats {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::minutes kWindow{1};

  /// `most`: one by one, of each kind in each minute.
  explicit Repeats(unsigned most) : most_(most) {}

  /// True: this one is to be recorded by itself. False: it was counted. There should be few kinds:
  /// a reason's name, an operator's, never what a stranger makes up.
  bool Singly(const std::string& kind, Clock::time_point now);

  struct Count {
    std::string kind;
    uint64_t more = 0;  // beside those that were recorded one by one
  };
  /// Of the minutes that are over by `now`, which begin anew; those with nothing more are left out.
  std::vector<Count> Over(Clock::time_point now);

 private:
  struct Minute {
    Clock::time_point began;
    uint64_t seen = 0;
  };
  unsigned most_;
  std::map<std::string, Minute> minutes_;
};

}  // namespace portcullis::audit
