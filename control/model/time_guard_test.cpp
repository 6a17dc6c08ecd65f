#include "control/model/time_guard.hpp"

#include <gtest/gtest.h>

namespace portcullis {
namespace {

using namespace std::chrono_literals;
using Wall = TimeGuard::Wall;
using V = TimeVerdict;

constexpr Wall kDay{1'700'000'000s};

// A machine: its wall clock can be set, its boot-time clock cannot.
class TimeGuardTest : public testing::Test {
 protected:
  V Pass(std::chrono::milliseconds time) {
    wall_ += time;
    boot_ += time;
    return guard_.Check(wall_, boot_);
  }
  V Step(std::chrono::milliseconds by) {
    wall_ += by;
    return guard_.Check(wall_, boot_);
  }
  void Restart() { guard_ = TimeGuard({}, guard_.state(), boot_id_); }
  void Reboot(std::chrono::milliseconds off) {
    wall_ += off;
    boot_ = 20s;
    boot_id_ += "'";
    Restart();
  }

  Wall wall_ = kDay;
  TimeGuard::Boot boot_ = 100s;
  std::string boot_id_ = "first";
  TimeGuard guard_{{}, {}, boot_id_};
};

TEST_F(TimeGuardTest, TimeThatPassesIsOk) {
  EXPECT_EQ(Pass(0s), V::ok);
  EXPECT_EQ(Pass(1s), V::ok);
  EXPECT_EQ(Pass(1000h), V::ok);  // suspended, or nobody asked: boot time went on
  EXPECT_EQ(guard_.state().mark, wall_);
}

TEST_F(TimeGuardTest, SmallCorrectionsAreOk) {
  Pass(0s);
  EXPECT_EQ(Step(30s), V::ok);
  EXPECT_EQ(Step(-1s), V::ok);
}

TEST_F(TimeGuardTest, StepBackIsSeenUntilItIsMadeGood) {
  Pass(1h);
  const Wall mark = guard_.state().mark;
  EXPECT_EQ(Step(-1h), V::stepped_back);
  EXPECT_EQ(Pass(10min), V::stepped_back);
  EXPECT_EQ(guard_.state().mark, mark + 10min);  // by boot time
  EXPECT_EQ(Step(1h), V::ok);
}

// Nobody asked for an hour, and then the clock is half an hour behind: above the mark, but too
// late.
TEST_F(TimeGuardTest, StepBackAboveTheMarkIsSeenByBootTime) {
  Pass(0s);
  wall_ += 30min;
  boot_ += 1h;
  EXPECT_EQ(guard_.Check(wall_, boot_), V::stepped_back);
}

TEST_F(TimeGuardTest, StepForwardHasAGraceAndMovesNoMark) {
  Pass(0s);
  EXPECT_EQ(Step(1h), V::stepped_forward_in_grace);
  EXPECT_EQ(guard_.state().mark, kDay);
  EXPECT_EQ(Pass(59min), V::stepped_forward_in_grace);
  EXPECT_EQ(Pass(1min), V::stepped_forward);
  EXPECT_EQ(Pass(100h), V::stepped_forward);
  EXPECT_EQ(Step(-1h), V::ok);  // the right time again: no step back
  EXPECT_EQ(Step(1h), V::stepped_forward_in_grace);
}

TEST_F(TimeGuardTest, ManySmallStepsCountTogether) {
  Pass(0s);
  EXPECT_EQ(Step(40s), V::ok);
  EXPECT_EQ(Pass(1h), V::ok);
  EXPECT_EQ(Step(40s), V::stepped_forward_in_grace);
}

TEST_F(TimeGuardTest, RestartForgetsNothing) {
  Pass(1h);
  Step(2h);
  Pass(59min);
  Restart();
  EXPECT_EQ(Pass(0s), V::stepped_forward_in_grace);
  EXPECT_EQ(Pass(2min), V::stepped_forward);  // the grace did not begin anew
  Restart();
  EXPECT_EQ(Step(-3h), V::stepped_back);
  Restart();
  EXPECT_EQ(Step(1h), V::ok);
}

TEST_F(TimeGuardTest, AfterARebootTheMarkHolds) {
  Pass(1h);
  Reboot(-2h);
  EXPECT_EQ(Pass(0s), V::stepped_back);
  EXPECT_EQ(Step(3h), V::ok);  // NTP was there: the first time that is believed
  EXPECT_EQ(Step(-1h), V::stepped_back);
  Step(1h);
  Reboot(1000h);  // was off for long
  EXPECT_EQ(Pass(0s), V::ok);
}

TEST_F(TimeGuardTest, OperatorsConfirmationEndsBothSteps) {
  Pass(0s);
  EXPECT_EQ(Step(1000h), V::stepped_forward_in_grace);
  guard_.Confirm(wall_, boot_);
  EXPECT_EQ(Pass(1s), V::ok);
  EXPECT_EQ(Step(-1000h), V::stepped_back);
  guard_.Confirm(wall_, boot_);
  EXPECT_EQ(Pass(1s), V::ok);
  EXPECT_EQ(guard_.state().mark, wall_);
}

TEST_F(TimeGuardTest, SavingIsDueWhenSomethingChangedOrNowAndThen) {
  Pass(0s);
  EXPECT_TRUE(guard_.Due());
  guard_.Saved();
  EXPECT_FALSE(guard_.Due());
  Pass(9s);
  EXPECT_FALSE(guard_.Due());
  Pass(1s);
  EXPECT_TRUE(guard_.Due());
  guard_.Saved();
  Step(1h);
  EXPECT_TRUE(guard_.Due());
  guard_.Saved();
  guard_.Confirm(kDay, boot_);
  EXPECT_TRUE(guard_.Due());
}

}  // namespace
}  // namespace portcullis
