#include "control/events/events.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace portcullis {
namespace {

TEST(Events, ReplayStartsAfterTheIdThatTheClientSaw) {
  Events events;
  for (const char* text : {"one", "two", "three"}) events.Tell("operator", text);
  const std::string seen = events.IdOf(*events.After(0)[0]);
  const auto missed = events.After(events.NumberOf(seen));
  ASSERT_EQ(missed.size(), 2U);
  EXPECT_EQ(missed[0]->text, "two");
  EXPECT_EQ(events.After(events.Last()).size(), 0U);
}

TEST(Events, IdOfAnotherRunReplaysAll) {
  Events before;
  Events now;
  before.Tell("operator", "old");
  before.Tell("operator", "old");
  now.Tell("operator", "new");
  EXPECT_EQ(now.NumberOf(before.IdOf(*before.After(1)[0])), 0U);
  for (const char* wrong : {"", "x", "-", "5", "zz-5"}) EXPECT_EQ(now.NumberOf(wrong), 0U);
}

TEST(Events, RingIsBounded) {
  Events events;
  for (size_t i = 0; i < Events::kKept + 10; ++i) events.Tell("operator", "again");
  const auto kept = events.After(0);
  EXPECT_EQ(kept.size(), Events::kKept);
  EXPECT_EQ(kept.front()->number, 11U);
}

TEST(Events, WakesUntilUnsubscribed) {
  Events events;
  int woken = 0;
  {
    const Events::Subscription subscription(events, [&] { ++woken; });
    events.Tell("operator", "heard");
  }
  events.Tell("operator", "unheard");
  EXPECT_EQ(woken, 1);
}

TEST(Events, JsonLeavesOutWhatIsEmpty) {
  Events events;
  events.Publish({0, std::chrono::system_clock::time_point(std::chrono::milliseconds(1500)),
                  "dataplane", "sa_added", "p", "", "", "added"});
  const auto json = events.ToJson(*events.After(0)[0]);
  EXPECT_EQ(json["time"], "1970-01-01T00:00:01.500Z");
  EXPECT_EQ(json["peer"], "p");
  EXPECT_FALSE(json.contains("sa"));
}

}  // namespace
}  // namespace portcullis
