#include "control/admission/quotas.hpp"

#include <gtest/gtest.h>

namespace portcullis::admission {
namespace {

using namespace std::chrono_literals;

class QuotasTest : public testing::Test {
 protected:
  bool Take(const std::string& tenant, const std::vector<const model::Quota*>& quotas,
            std::chrono::milliseconds after, const std::string& peer = "p") {
    return quotas_.Take({tenant, peer, "nsmf"}, quotas, start_ + after) == nullptr;
  }

  const model::Quota few_{"nsi:create", 2, 10};
  const model::Quota many_{"nsi:create", 3, 100};
  const model::Quota other_{"nsi:read", 1, 10};
  const Quotas::Clock::time_point start_ = Quotas::Clock::now();
  Quotas quotas_;
};

TEST_F(QuotasTest, NoMoreThanItSaysInAnySuchTime) {
  EXPECT_TRUE(Take("a", {&few_}, 0s));
  EXPECT_TRUE(Take("a", {&few_}, 9s));
  EXPECT_FALSE(Take("a", {&few_}, 9900ms));  // the third in 10 s
  EXPECT_TRUE(Take("a", {&few_}, 10s));      // the first counts no more
  EXPECT_FALSE(Take("a", {&few_}, 18900ms));
  EXPECT_TRUE(Take("a", {&few_}, 19s));
}

TEST_F(QuotasTest, EachTenantHasItsOwnAndAPeerWithoutOneToo) {
  EXPECT_TRUE(Take("a", {&other_}, 0s, "p1"));
  EXPECT_FALSE(Take("a", {&other_}, 0s, "p2"));  // of the same tenant
  EXPECT_TRUE(Take("b", {&other_}, 0s));
  EXPECT_TRUE(Take("", {&other_}, 0s, "p1"));
  EXPECT_FALSE(Take("", {&other_}, 0s, "p1"));
  EXPECT_TRUE(Take("", {&other_}, 0s, "p2"));
}

TEST_F(QuotasTest, AllOfThemHoldAndWhatIsRefusedUsesUpNothing) {
  EXPECT_TRUE(Take("a", {&few_, &many_}, 0s));
  EXPECT_TRUE(Take("a", {&few_, &many_}, 1s));
  EXPECT_FALSE(Take("a", {&few_, &many_}, 2s));
  EXPECT_FALSE(Take("a", {&few_, &other_}, 2s));
  EXPECT_TRUE(Take("a", {&other_}, 2s));  // it was refused for the other's sake
  EXPECT_TRUE(Take("a", {&few_, &many_}, 12s));
  EXPECT_FALSE(Take("a", {&few_, &many_}, 50s));  // the fourth in 100 s
  EXPECT_TRUE(Take("a", {&few_, &many_}, 100s));
}

TEST_F(QuotasTest, WhatCountsNoMoreIsForgotten) {
  EXPECT_TRUE(Take("a", {&few_}, 0s));
  EXPECT_TRUE(Take("b", {&many_}, 0s));
  quotas_.Prune(start_ + 9s);
  EXPECT_EQ(quotas_.remembered(), 2U);
  quotas_.Prune(start_ + 10s);
  EXPECT_EQ(quotas_.remembered(), 1U);
}

}  // namespace
}  // namespace portcullis::admission
