#include <gtest/gtest.h>

#include "control/registry/test_store.hpp"

namespace portcullis {
namespace {

using model::UsedToken;
using namespace std::chrono_literals;

const UsedToken::Time kMoment{std::chrono::seconds(1'700'000'000)};

class StoreUsedTokensTest : public InAFolder {
 protected:
  static model::Used Token(const std::string& jti, std::chrono::seconds life = 0s) {
    return {UsedToken{"i", jti, kMoment + life}, {}};
  }
};

TEST_F(StoreUsedTokensTest, WhatWasUsedIsKnownOverARestart) {
  {
    Store store = OpenStore();
    EXPECT_FALSE(*store.IsUsed("i", "1"));
    ASSERT_TRUE(store.UseUp({Token("1", 60s), Token("2", 60s)}));
  }
  Store store = OpenStore();
  EXPECT_TRUE(*store.IsUsed("i", "1"));
  EXPECT_FALSE(*store.IsUsed("i", "3"));
  EXPECT_FALSE(*store.IsUsed("j", "1"));  // another issuer's of the same number
  EXPECT_EQ(*store.CountUsedTokens(), 2U);
}

TEST_F(StoreUsedTokensTest, AllOrNone) {
  Store store = OpenStore();
  ASSERT_TRUE(store.UseUp({Token("1")}));
  const auto again = store.UseUp({Token("2"), Token("1")});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kConflict);
  EXPECT_FALSE(*store.IsUsed("i", "2"));
  EXPECT_TRUE(store.UseUp({Token("2")}));  // the twin
}

TEST_F(StoreUsedTokensTest, WhatHasExpiredIsForgottenByARightClockOnly) {
  Store store = OpenStore();
  ASSERT_TRUE(store.UseUp({Token("1"), Token("2", 60s)}));
  ASSERT_TRUE(store.ForgetUsedTokens(TimeVerdict::stepped_back, kMoment + 1h));
  EXPECT_EQ(*store.CountUsedTokens(), 2U);
  ASSERT_TRUE(store.ForgetUsedTokens(TimeVerdict::ok, kMoment + 1s));
  EXPECT_FALSE(*store.IsUsed("i", "1"));
  EXPECT_TRUE(*store.IsUsed("i", "2"));
}

}  // namespace
}  // namespace portcullis
