// Is the wall clock right? Asked each second; what changes is told, what must survive is stored,
// and revocations of things that have expired by a right clock are forgotten.
#include <fmt/format.h>

#include <utility>

#include "control/core/gate.hpp"

namespace portcullis {

void Gate::CheckTime(TimeGuard::Wall wall, TimeGuard::Boot boot) {
  constexpr std::chrono::hours kPruneEvery{1};
  const TimeVerdict before = clock_;
  clock_ = time_guard_.Check(wall, boot);
  if (clock_ != before) events_.Tell("time_step", Info(clock_).text);
  // What cannot be stored now is stored the next time; /readyz tells of a store that does not
  // write.
  if (time_guard_.Due() && store_.WriteTimeGuard(time_guard_.state())) time_guard_.Saved();
  if (boot - pruned_ < kPruneEvery) return;
  const auto forgotten = store_.Prune(clock_, wall);
  if (!forgotten) return;
  pruned_ = boot;
  if (*forgotten == 0) return;
  if (auto left = store_.ReadDenied()) denials_.Replace(std::move(*left));
}

Result<TimeVerdict> Gate::ConfirmTime(TimeGuard::Wall wall, TimeGuard::Boot boot,
                                      const Wish& wish) {
  if (wish.dry_run) return clock_;
  TimeGuard confirmed = time_guard_;
  confirmed.Confirm(wall, boot);
  if (auto stored = store_.WriteTimeGuard(confirmed.state()); !stored) {
    return tl::unexpected(stored.error());
  }
  confirmed.Saved();
  time_guard_ = std::move(confirmed);
  const TimeVerdict before = std::exchange(clock_, time_guard_.Check(wall, boot));
  events_.Tell(
      "time_confirmed",
      fmt::format("an operator says that it is {}; before, {}", TimeText(wall), Info(before).text),
      wish.operator_name);
  return before;
}

}  // namespace portcullis
