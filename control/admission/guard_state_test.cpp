#include "control/admission/guard_state.hpp"

#include <gtest/gtest.h>

namespace portcullis::admission {
namespace {

using namespace std::chrono_literals;

class GuardStateTest : public testing::Test {
 protected:
  static uint64_t In(std::chrono::seconds time) {
    return static_cast<uint64_t>(
        std::chrono::system_clock::to_time_t(std::chrono::system_clock::now() + time));
  }
  static Expiring Thing(const std::string& what, std::chrono::seconds left) {
    Expiring thing;
    thing.set_what(what);
    thing.set_since(In(-24h * 300));
    thing.set_when(In(left));
    return thing;
  }
  [[nodiscard]] size_t Alarmed() const {
    size_t alarms = 0;
    for (const Event* event : events_.After(0)) alarms += event->kind == "alarm" ? 1 : 0;
    return alarms;
  }

  Events events_;
  Alarms alarms_{events_, {720h}};
  GuardState state_{alarms_};
};

TEST_F(GuardStateTest, IsThereWhileItIsConnected) {
  EXPECT_FALSE(state_.connected());
  state_.Connected();
  EXPECT_TRUE(state_.since());
  state_.Connected();  // its successor, before the old one's end is noticed
  state_.Gone();
  EXPECT_TRUE(state_.connected());
  EXPECT_TRUE(state_.since());
  state_.Gone();
  EXPECT_FALSE(state_.connected());
  EXPECT_FALSE(state_.since());
}

TEST_F(GuardStateTest, WhatEndsSoonIsAnAlarmAndWhatDoesNotIsNone) {
  Status status;
  *status.add_expiring() = Thing("certificate", 24h * 40);
  state_.Take(status);
  EXPECT_EQ(Alarmed(), 0U);
  *status.mutable_expiring(0) = Thing("certificate", 24h * 20);
  state_.Take(status);
  EXPECT_EQ(Alarmed(), 1U);
}

TEST_F(GuardStateTest, WhatCannotBeFetchedIsAnAlarm) {
  Status status;
  status.add_issuers()->set_what("https://as.example");
  state_.Take(status);
  EXPECT_EQ(Alarmed(), 0U);
  status.mutable_issuers(0)->set_error("no route");
  state_.Take(status);
  EXPECT_EQ(Alarmed(), 1U);
  EXPECT_EQ(state_.status()->issuers(0).error(), "no route");
}

TEST_F(GuardStateTest, KeepsNoMoreThanItShould) {
  Status status;
  for (int i = 0; i < 1000; ++i) {
    *status.add_expiring() = Thing("thing " + std::to_string(i), 24h * 400);
    status.add_lists()->set_what(std::string(2000, 'x') + "\n");
    status.add_listeners();
  }
  status.add_refusals()->set_name("token_expired");
  status.add_refusals()->set_name("token_expired");
  status.add_refusals()->set_name("a_label\"} 1\nof_its_own");
  state_.Take(status);
  EXPECT_EQ(state_.status()->expiring_size(), 100);
  EXPECT_EQ(alarms_.All().size(), 100U);
  EXPECT_LE(state_.status()->lists_size(), 40);
  EXPECT_LE(state_.status()->lists(0).what().size(), 512U);
  EXPECT_LE(state_.status()->listeners_size(), 64);
  ASSERT_EQ(state_.status()->refusals_size(), 1);
  EXPECT_EQ(state_.status()->refusals(0).name(), "token_expired");
}

TEST_F(GuardStateTest, TextIsShownPlain) {
  EXPECT_EQ(Plain("two\nlines\x7f"), "two?lines?");
  EXPECT_EQ(Plain(std::string(1000, 'x')).size(), 512U);
}

}  // namespace
}  // namespace portcullis::admission
