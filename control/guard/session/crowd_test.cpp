#include "control/guard/session/crowd.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace portcullis::guard {
namespace {

class CrowdTest : public testing::Test {
 protected:
  std::unique_ptr<Crowd::Place> Enter(const std::string& source, const std::string& name) {
    return std::make_unique<Crowd::Place>(crowd_, *Prefix::Parse(source),
                                          [this, name] { closed_.push_back(name); });
  }
  Crowd crowd_{4, 3};
  std::vector<std::string> closed_;
};

TEST_F(CrowdTest, ThereIsRoomUntilItIsFull) {
  const auto a = Enter("192.0.2.1", "a");
  const auto b = Enter("192.0.2.1", "b");
  const auto c = Enter("192.0.2.2", "c");
  const auto d = Enter("192.0.2.3", "d");
  EXPECT_EQ(crowd_.size(), 4U);
  EXPECT_TRUE(closed_.empty());
}

TEST_F(CrowdTest, WhenFullTheOldestOfTheBusiestSourceMakesWay) {
  const auto old = Enter("192.0.2.9", "old");
  const auto a = Enter("192.0.2.1", "a");
  const auto b = Enter("192.0.2.1", "b");
  const auto c = Enter("192.0.2.2", "c");
  const auto d = Enter("192.0.2.3", "d");
  EXPECT_EQ(closed_, std::vector<std::string>{"a"});
  EXPECT_TRUE(a->evicted());
  EXPECT_FALSE(old->evicted());
  EXPECT_EQ(crowd_.size(), 4U);
}

TEST_F(CrowdTest, AmongEquallyBusySourcesTheOldest) {
  std::vector<std::unique_ptr<Crowd::Place>> all;
  for (int i = 9; i > 3; --i) {
    all.push_back(Enter("192.0.2." + std::to_string(i), std::to_string(i)));
  }
  EXPECT_EQ(closed_, (std::vector<std::string>{"9", "8"}));
}

TEST_F(CrowdTest, ASourceMakesWayForItself) {
  const auto other = Enter("192.0.2.9", "other");
  const auto a = Enter("192.0.2.1", "a");
  const auto b = Enter("192.0.2.1", "b");
  auto c = Enter("192.0.2.1", "c");
  const auto d = Enter("192.0.2.1", "d");
  EXPECT_EQ(closed_, std::vector<std::string>{"a"});
  c.reset();
  const auto e = Enter("192.0.2.1", "e");
  EXPECT_EQ(closed_.size(), 1U);
}

TEST_F(CrowdTest, WhoLeavesMakesRoom) {
  for (int i = 0; i < 100; ++i) {
    const auto one = Enter("192.0.2.1", "one");
    EXPECT_EQ(crowd_.size(), 1U);
  }
  EXPECT_TRUE(closed_.empty());
  EXPECT_EQ(crowd_.size(), 0U);
}

TEST_F(CrowdTest, AllCanBeClosed) {
  const auto a = Enter("192.0.2.1", "a");
  const auto b = Enter("192.0.2.2", "b");
  crowd_.CloseAll();
  EXPECT_EQ(closed_, (std::vector<std::string>{"a", "b"}));
}

}  // namespace
}  // namespace portcullis::guard
