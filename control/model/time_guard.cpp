#include "control/model/time_guard.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace portcullis {

const TimeVerdictInfo& Info(TimeVerdict verdict) {
  static constexpr std::array<TimeVerdictInfo, 4> kInfo{{
      // in the enum's order
      {"ok", "the wall clock goes with boot time"},
      {"stepped_back", "the wall clock was set back"},
      {"stepped_forward_in_grace", "the wall clock was set forward"},
      {"stepped_forward", "the wall clock was set forward and not put right in time"},
  }};
  return kInfo[static_cast<size_t>(verdict)];
}

TimeGuard::TimeGuard(Settings settings, const State& stored, std::string boot_id)
    : settings_(settings), boot_id_(std::move(boot_id)), state_(stored), saved_(stored) {
  if (state_.boot_id != boot_id_) state_ = {stored.mark, {}, {}, {}};
}

TimeVerdict TimeGuard::Judge(Wall wall, Boot boot) {
  if (wall < state_.mark - settings_.back) return TimeVerdict::stepped_back;
  if (state_.boot_id.empty()) {  // the first time in this boot that can be believed
    state_.boot_id = boot_id_;
    state_.offset = wall.time_since_epoch() - boot;
  }
  const Wall expected(state_.offset + boot);
  if (wall < expected - settings_.back) return TimeVerdict::stepped_back;
  if (wall <= expected + settings_.forward) return TimeVerdict::ok;
  if (!state_.forward_since) state_.forward_since = boot;
  return boot - *state_.forward_since < settings_.grace ? TimeVerdict::stepped_forward_in_grace
                                                        : TimeVerdict::stepped_forward;
}

TimeVerdict TimeGuard::Check(Wall wall, Boot boot) {
  const TimeVerdict verdict = Judge(wall, boot);
  if (verdict == TimeVerdict::ok) {
    state_.mark = std::max(state_.mark, wall);
    state_.forward_since.reset();
  } else if (!state_.boot_id.empty()) {
    // A clock that is not believed must not move the mark, or one step forward would make the right
    // time a step back for ever. Boot time goes on meanwhile.
    state_.mark = std::max(state_.mark, Wall(state_.offset + boot));
  }
  return verdict;
}

void TimeGuard::Confirm(Wall wall, Boot boot) {
  state_ = {wall, boot_id_, wall.time_since_epoch() - boot, {}};
}

bool TimeGuard::Due() const {
  constexpr std::chrono::seconds kOften{10};
  State same = state_;
  same.mark = saved_.mark;
  return same != saved_ || state_.mark >= saved_.mark + kOften || state_.mark < saved_.mark;
}

}  // namespace portcullis
