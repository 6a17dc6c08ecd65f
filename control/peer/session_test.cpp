#include "control/peer/session.hpp"

#include <gtest/gtest.h>

namespace portcullis::peer {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Pause, GrowsIsRandomAndBounded) {
  constexpr seconds kLongest{60};
  EXPECT_EQ(PauseAfter(0, kLongest, 1), seconds(1));
  EXPECT_EQ(PauseAfter(3, kLongest, 1), seconds(8));
  EXPECT_EQ(PauseAfter(3, kLongest, 0.5), seconds(4));
  EXPECT_EQ(PauseAfter(6, kLongest, 1), kLongest);
  EXPECT_EQ(PauseAfter(4'000'000'000U, kLongest, 1), kLongest);
  EXPECT_EQ(PauseAfter(5, kLongest, 0), milliseconds(100));  // never a busy loop
}

TEST(Renewal, IsWellBeforeTheEndAndNotOfAllPeersAtOnce) {
  for (const double random : {0.0, 0.3, 0.999}) {
    const auto at = RenewAfter(seconds(900), random);
    EXPECT_LE(at, seconds(600));
    EXPECT_GE(at, seconds(500));
  }
  EXPECT_NE(RenewAfter(seconds(900), 0.1), RenewAfter(seconds(900), 0.2));
}

}  // namespace
}  // namespace portcullis::peer
