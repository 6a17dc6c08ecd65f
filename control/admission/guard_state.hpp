// What control knows of the guard: is it there, and how does it say it fares. The guard parses
// hostile bytes and may be taken over, so what it says is bounded and checked before it is kept.
// One thread.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "control/admission/admission.pb.h"
#include "control/events/alarms.hpp"

namespace portcullis::admission {

class GuardState {
 public:
  using Time = std::chrono::system_clock::time_point;

  /// `alarms` outlives this.
  explicit GuardState(Alarms& alarms) : alarms_(alarms) {}

  void Connected();
  void Gone();
  void Take(const Status& status);

  [[nodiscard]] bool connected() const { return connections_ > 0; }
  /// When it connected, the latest time; empty while it is away.
  [[nodiscard]] std::optional<Time> since() const { return since_; }
  /// The last that was heard, also of a guard that is away; none yet: null.
  [[nodiscard]] const Status* status() const { return status_ ? &*status_ : nullptr; }
  [[nodiscard]] Time heard() const { return heard_; }

 private:
  Alarms& alarms_;
  unsigned connections_ = 0;  // two for a moment, when it restarts
  std::optional<Time> since_;
  std::optional<Status> status_;
  Time heard_{};
};

/// Text of the guard's, fit to be shown: of bounded length, without control characters.
std::string Plain(std::string_view text);
/// UNIX seconds of the guard's: far enough for anybody, and no overflow on the way to nanoseconds.
std::chrono::system_clock::time_point GuardTime(uint64_t seconds);

}  // namespace portcullis::admission
