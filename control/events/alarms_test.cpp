#include "control/events/alarms.hpp"

#include <gtest/gtest.h>

namespace portcullis {
namespace {

using namespace std::chrono_literals;
using std::chrono::days;

class AlarmsTest : public testing::Test {
 protected:
  static constexpr Alarms::Time kNow{days(20'000)};

  /// A thing that has `left`, of a life of `life`.
  static Alarms::Ending Thing(std::chrono::seconds left, std::chrono::seconds life = days(365)) {
    return {"certificate x", kNow + left - life, kNow + left};
  }
  /// Texts of the alarms since the last call.
  std::vector<std::string> Heard() {
    std::vector<std::string> texts;
    for (const Event* event : events_.After(heard_)) {
      if (event->kind.starts_with("alarm")) texts.push_back(event->text);
    }
    heard_ = events_.Last();
    return texts;
  }

  Events events_;
  Alarms alarms_{events_, {720h, 168h, 24h}};
  uint64_t heard_ = 0;
};

TEST_F(AlarmsTest, OncePerThresholdAndOnceAtTheEnd) {
  alarms_.Set("guard", {Thing(days(31))}, kNow);
  EXPECT_TRUE(Heard().empty());
  alarms_.Check(kNow + days(1) + 1h);
  const auto first = Heard();
  ASSERT_EQ(first.size(), 1U);
  EXPECT_NE(first[0].find("guard: certificate x ends in 29 days, at 20"), std::string::npos)
      << first[0];
  alarms_.Check(kNow + days(10));
  EXPECT_TRUE(Heard().empty());
  alarms_.Check(kNow + days(25));
  EXPECT_EQ(Heard().size(), 1U);
  alarms_.Check(kNow + days(30) + 1h);
  EXPECT_EQ(Heard().size(), 1U);
  alarms_.Check(kNow + days(31));
  const auto last = Heard();
  ASSERT_EQ(last.size(), 1U);
  EXPECT_NE(last[0].find("ended at"), std::string::npos);
  alarms_.Check(kNow + days(40));
  EXPECT_TRUE(Heard().empty());
}

TEST_F(AlarmsTest, WhatIsSeenLateIsToldOnceNotForEachThreshold) {
  alarms_.Set("guard", {Thing(12h)}, kNow);
  EXPECT_EQ(Heard().size(), 1U);
  alarms_.Set("guard", {Thing(12h)}, kNow + 1h);  // the same again
  EXPECT_TRUE(Heard().empty());
  alarms_.Set("guard", {Thing(12h + 1s)}, kNow + 1h);  // the same, by a clock that wavers
  EXPECT_TRUE(Heard().empty());
}

TEST_F(AlarmsTest, ANewOneInItsPlaceIsAnnouncedAnew) {
  alarms_.Set("guard", {Thing(12h)}, kNow);
  EXPECT_EQ(Heard().size(), 1U);
  alarms_.Set("guard", {Thing(days(90))}, kNow);
  EXPECT_TRUE(Heard().empty());
  alarms_.Check(kNow + days(80));
  EXPECT_EQ(Heard().size(), 1U);
  alarms_.Set("guard", {}, kNow);  // and none is none
  alarms_.Check(kNow + days(100));
  EXPECT_TRUE(Heard().empty());
  EXPECT_TRUE(alarms_.All().empty());
}

TEST_F(AlarmsTest, WhatIsRenewedBitByBitIsANewOneInTheEnd) {
  const auto key_set = [](std::chrono::seconds at) {
    return Alarms::Ending{"keys", kNow + at - 1h, kNow + at};
  };
  alarms_.Set("guard", {key_set(10min)}, kNow);  // it could not be fetched for long
  EXPECT_EQ(Heard().size(), 1U);
  for (int i = 1; i <= 100; ++i) {
    alarms_.Set("guard", {key_set(10min + i * 30s)}, kNow);
  }
  EXPECT_TRUE(alarms_.All()[0].told == false);
  Heard();
  alarms_.Check(kNow + 50min);
  EXPECT_EQ(Heard().size(), 1U);
}

TEST_F(AlarmsTest, WhatIsRenewedEachDayIsNotAnnouncedEachDay) {
  alarms_.Set("guard", {Thing(23h, days(1))}, kNow);
  EXPECT_TRUE(Heard().empty());
  alarms_.Check(kNow + 17h + 1min);  // a quarter of its life is left
  EXPECT_EQ(Heard().size(), 1U);
  alarms_.Check(kNow + 23h);
  EXPECT_EQ(Heard().size(), 1U);
}

TEST_F(AlarmsTest, FaultsAreToldWhenTheyComeAndWhenTheyGo) {
  alarms_.SetFaults("guard", {{"list a", "no route"}});
  EXPECT_EQ(Heard(), std::vector<std::string>{"list a cannot be renewed: no route"});
  alarms_.SetFaults("guard", {{"list a", "still no route"}});
  EXPECT_TRUE(Heard().empty());
  alarms_.SetFaults("guard", {});
  EXPECT_EQ(Heard(), std::vector<std::string>{"list a was renewed"});
}

TEST_F(AlarmsTest, AllOfBothSourcesTheNextFirst) {
  alarms_.Set("guard", {Thing(days(50))}, kNow);
  alarms_.Set("control", {Thing(days(40))}, kNow);
  const auto all = alarms_.All();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].source, "control");
  EXPECT_FALSE(all[0].told);
  alarms_.Check(kNow + days(15));
  EXPECT_TRUE(alarms_.All()[0].told);
  EXPECT_FALSE(alarms_.All()[1].told);
  EXPECT_EQ(all[1].source, "guard");
}

}  // namespace
}  // namespace portcullis
