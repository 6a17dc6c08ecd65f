// Can the wall clock be believed? (GS NFV-SEC Runtime-24.) Expiry, not-before and revocation are
// judged by it, and whoever can set it could make old certificates and tokens valid again or end
// everybody's at once.
//
// Two things are known that nobody can set: how much time has passed since boot (CLOCK_BOOTTIME,
// suspension included), and that time does not run backwards past what was already seen, which is
// kept as a high-water mark across restarts. NTP slews both clocks alike, so within one boot their
// difference changes only when the wall clock is stepped. It is compared with the first difference
// of that boot and not with the last one, so many small steps count together.
//
// After a reboot nobody knows how long the machine was off: a step forward across a reboot cannot
// be seen, a step back below the mark can. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace portcullis {

enum class TimeVerdict : uint8_t {
  ok,
  stepped_back,              // below the mark or behind boot time: admit nobody, extend nothing
  stepped_forward_in_grace,  // too far ahead: alarm, admit nobody new, let who is in renew
  stepped_forward,           // the same, and the grace is over
};
struct TimeVerdictInfo {
  const char* name;
  const char* text;  // for people
};
const TimeVerdictInfo& Info(TimeVerdict verdict);

class TimeGuard {
 public:
  using Wall = std::chrono::sys_time<std::chrono::milliseconds>;
  using Boot = std::chrono::milliseconds;  // CLOCK_BOOTTIME

  struct Settings {
    std::chrono::milliseconds back = std::chrono::seconds(2);     // what NTP may step back
    std::chrono::milliseconds forward = std::chrono::minutes(1);  // what it may step forward
    std::chrono::milliseconds grace = std::chrono::hours(1);      // since the step forward was seen
  };

  /// What must survive a restart of the process.
  struct State {
    Wall mark{};          // the latest time that was believed
    std::string boot_id;  // of the boot that the rest belongs to; empty: nothing was believed in it
    std::chrono::milliseconds offset{};  // wall minus boot-time clock
    std::optional<Boot> forward_since;   // when the step forward was seen

    bool operator==(const State&) const = default;
  };

  /// `stored`: as it was last saved, or State{} on the very first start. `boot_id`: of this boot.
  TimeGuard(Settings settings, const State& stored, std::string boot_id);

  TimeVerdict Check(Wall wall, Boot boot);
  /// An operator says that the wall clock is right now, whatever was seen. The only way in which
  /// the mark goes down: a clock that was wrong by years at the first start must not shut the gate
  /// for years.
  void Confirm(Wall wall, Boot boot);

  [[nodiscard]] const State& state() const { return state_; }
  /// Saving is due: something changed, or the mark moved on by 10 s.
  [[nodiscard]] bool Due() const;
  void Saved() { saved_ = state_; }

 private:
  [[nodiscard]] TimeVerdict Judge(Wall wall, Boot boot);

  Settings settings_;
  std::string boot_id_;
  State state_;
  State saved_;
};

}  // namespace portcullis
