#include "control/registry/audit/repeats.hpp"

#include <gtest/gtest.h>

namespace portcullis::audit {
namespace {

using namespace std::chrono_literals;

TEST(RepeatsTest, TheFirstFewOfAMinuteAreSinglyTheRestANumber) {
  Repeats repeats(2);
  const Repeats::Clock::time_point start{1h};
  EXPECT_TRUE(repeats.Singly("a", start));
  EXPECT_TRUE(repeats.Singly("a", start + 1s));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(repeats.Singly("a", start + 2s));
  EXPECT_TRUE(repeats.Singly("b", start + 30s));  // each kind by itself

  EXPECT_TRUE(repeats.Over(start + 59s).empty());
  const auto over = repeats.Over(start + 60s);
  ASSERT_EQ(over.size(), 1U);
  EXPECT_EQ(over[0].kind, "a");
  EXPECT_EQ(over[0].more, 5U);
  EXPECT_TRUE(repeats.Over(start + 95s).empty());  // of "b" there was no more than one
}

TEST(RepeatsTest, TheNextMinuteBeginsAnew) {
  Repeats repeats(1);
  const Repeats::Clock::time_point start{1h};
  EXPECT_TRUE(repeats.Singly("a", start));
  EXPECT_FALSE(repeats.Singly("a", start));
  EXPECT_EQ(repeats.Over(start + 60s).size(), 1U);
  EXPECT_TRUE(repeats.Singly("a", start + 61s));
  EXPECT_FALSE(repeats.Singly("a", start + 62s));
  EXPECT_TRUE(repeats.Over(start + 62s).empty());
}

}  // namespace
}  // namespace portcullis::audit
