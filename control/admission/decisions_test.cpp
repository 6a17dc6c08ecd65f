#include "control/admission/decisions.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace portcullis::admission {
namespace {

using What = Decision::What;

Decision Refusal(const std::string& reference, bool stranger = false) {
  Decision d;
  d.id = reference;
  d.reason = "token_expired";
  d.peer = stranger ? "" : "csmf-1";
  d.stranger = stranger;
  return d;
}

Decision Of(const std::string& session, What what) {
  Decision d;
  d.what = what;
  d.id = session;
  d.peer = "csmf-1";
  d.generation = 1;
  return d;
}

TEST(DecisionsTest, ASessionHasAHistoryAndAReferenceOneReason) {
  Decisions decisions;
  decisions.Add(Of("s-1", What::admitted));
  decisions.Add(Refusal("r-1"));
  decisions.Add(Of("s-2", What::admitted));
  decisions.Add(Of("s-1", What::in_force));
  decisions.Add(Of("s-1", What::ended));

  const auto session = decisions.Of("s-1");
  ASSERT_EQ(session.size(), 3U);
  EXPECT_EQ(session[0]->what, What::admitted);
  EXPECT_EQ(session[2]->what, What::ended);
  ASSERT_EQ(decisions.Of("r-1").size(), 1U);
  EXPECT_EQ(decisions.Of("r-1")[0]->reason, "token_expired");
  EXPECT_TRUE(decisions.Of("r-2").empty());
}

TEST(DecisionsTest, NewestFirstAndOnlyWhatFits) {
  Decisions decisions;
  for (int i = 0; i < 3; ++i) decisions.Add(Refusal("r-" + std::to_string(i)));
  decisions.Add(Refusal("stranger", true));
  decisions.Add(Of("s-1", What::in_force));
  const auto newest = decisions.Newest({}, 3);
  ASSERT_EQ(newest.size(), 3U);
  EXPECT_EQ(newest[0]->id, "s-1");
  EXPECT_EQ(newest[1]->id, "stranger");
  EXPECT_EQ(newest[2]->id, "r-2");
  EXPECT_EQ(decisions.Newest({"csmf-1", ""}, 10).size(), 4U);
  EXPECT_EQ(decisions.Newest({"", "token_expired"}, 10).size(), 4U);
  EXPECT_EQ(decisions.Newest({"", "in_force"}, 10).size(), 1U);
  EXPECT_TRUE(decisions.Newest({"nobody", ""}, 10).empty());
}

TEST(DecisionsTest, AFloodOfStrangersMakesNobodyForgetAPeer) {
  Decisions decisions;
  decisions.Add(Refusal("asked-for"));
  decisions.Add(Of("s-1", What::in_force));
  for (size_t i = 0; i < Decisions::kKept + 10; ++i) {
    decisions.Add(Refusal("x" + std::to_string(i), true));
  }
  EXPECT_EQ(decisions.Of("asked-for").size(), 1U);
  EXPECT_EQ(decisions.Of("s-1").size(), 1U);
  EXPECT_TRUE(decisions.Of("x9").empty());
  EXPECT_EQ(decisions.Of("x10").size(), 1U);
  EXPECT_EQ(decisions.Newest({}, 100'000).size(), Decisions::kKept + 2);
}

TEST(DecisionsTest, OneIdManyTimesIsForgottenOneByOne) {
  Decisions decisions;
  for (size_t i = 0; i < Decisions::kKept + 5; ++i) decisions.Add(Of("s-1", What::renewed));
  const auto all = decisions.Of("s-1");
  ASSERT_EQ(all.size(), Decisions::kKept);
  EXPECT_EQ(all.front()->number, 6U);
}

TEST(DecisionsTest, JsonSaysWhatIsKnown) {
  Decisions decisions;
  const auto refused = ToJson(decisions.Add(Refusal("r-1")));
  EXPECT_EQ(refused["what"], "refused");
  EXPECT_EQ(refused["reason"], "token_expired");
  EXPECT_FALSE(refused.contains("generation"));
  EXPECT_FALSE(refused.contains("source"));
  EXPECT_EQ(ToJson(decisions.Add(Of("s-1", What::in_force)))["generation"], 1);
}

}  // namespace
}  // namespace portcullis::admission
