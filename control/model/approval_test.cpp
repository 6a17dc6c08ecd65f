#include "control/model/approval.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/model/difference.hpp"
#include "control/model/json.hpp"

namespace portcullis::model {
namespace {

using nlohmann::json;
using enum ApprovedChange;

Document With(std::vector<ApprovalRule> rules) {
  Document d;
  d.peers.push_back({.name = "csmf-1", .identity = "csmf-1.example", .role = "csmf"});
  d.interfaces.push_back({.name = "nsmf"});
  d.policies.push_back({.name = "manage", .role = "csmf", .interface = "nsmf"});
  d.approval = std::move(rules);
  return d;
}

std::optional<Cover> Cover(const Document& before, const Document& after) {
  return CoverOf(before.approval, DifferenceOf(before, after));
}

TEST(ApprovalTest, WithoutARuleOnePersonWillDo) {
  const Document before = With({});
  Document after = before;
  after.peers.clear();
  EXPECT_FALSE(Cover(before, after));
  after.approval = {{"first", {peers}}};
  EXPECT_FALSE(Cover(before, after));  // the first rule, and what comes with it
}

TEST(ApprovalTest, ARuleCoversItsKindsAndNoOthers) {
  const Document before = With({{"people", {peers}, 600}});
  Document after = before;
  EXPECT_FALSE(Cover(before, after));  // nothing changes
  after.policies.clear();
  EXPECT_FALSE(Cover(before, after));
  for (const auto& change : std::vector<std::function<void(Document&)>>{
           [](Document& d) { d.peers.clear(); }, [](Document& d) { d.peers[0].enabled = false; },
           [](Document& d) { d.peers.push_back({.name = "csmf-2"}); }}) {
    after = before;
    change(after);
    const auto cover = Cover(before, after);
    ASSERT_TRUE(cover);
    EXPECT_EQ(cover->rules, std::vector<std::string>{"people"});
    EXPECT_EQ(cover->expires_seconds, 600U);
  }
}

TEST(ApprovalTest, EachRuleThatCoversIsNamedAndTheShortestWaitHolds) {
  const Document before = With({{"a", {peers}, 900}, {"b", {interfaces}}, {"c", {peers}, 300}});
  Document after = before;
  after.peers.clear();
  const auto cover = Cover(before, after);
  ASSERT_TRUE(cover);
  EXPECT_EQ(cover->rules, (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(cover->expires_seconds, 300U);
}

TEST(ApprovalTest, TheRulesAreCoveredThemselves) {
  const Document before = With({{"a", {policies}, 900}});
  Document after = before;
  after.approval.push_back({"b", {interfaces}});  // the twin: it only asks for more
  EXPECT_FALSE(Cover(before, after));
  for (const auto& change : std::vector<std::function<void(Document&)>>{
           [](Document& d) { d.approval.clear(); },
           [](Document& d) { d.approval[0].name = "renamed"; },
           [](Document& d) { d.approval[0].expires_seconds = 86400; },
           [](Document& d) { d.approval[0].changes = {peers}; }}) {
    after = before;
    change(after);
    EXPECT_TRUE(Cover(before, after));
  }
}

TEST(ApprovalTest, RevokingNeedsNobodyElseAndTakingBackMay) {
  const std::vector<ApprovalRule> all{{"all", {interfaces, peers, policies, readmission}}};
  EXPECT_FALSE(CoverOf(all, OneDifference("added", "revocation", "csmf-1")));
  EXPECT_TRUE(CoverOf(all, OneDifference("removed", "revocation", "csmf-1")));
  EXPECT_FALSE(CoverOf({{"some", {peers}}}, OneDifference("removed", "revocation", "csmf-1")));
}

// With: printf 'portcullis change 1\nPUT\n/v1/policy\n{}' | sha256sum
TEST(ApprovalTest, DigestIsWhatAnybodyCanCompute) {
  const std::string digest = ChangeDigest("PUT", "/v1/policy", "{}");
  EXPECT_EQ(digest, "768b3e7f73cc11c6d22d6186b7ed0cf33ec16c7ac5aeaa1c6d98c3341ee161c7");
  EXPECT_NE(digest, ChangeDigest("PUT", "/v1/policy", "{} "));
  EXPECT_NE(digest, ChangeDigest("POST", "/v1/policy", "{}"));
  EXPECT_NE(digest, ChangeDigest("PUT", "/v1/policy/", "{}"));
}

TEST(ApprovalTest, ReadsWhatItWrites) {
  const json body = {
      {"name", "people"}, {"changes", {"peers", "readmission"}}, {"expires_seconds", 3600}};
  const auto rule = ParseApprovalRule(body);
  ASSERT_TRUE(rule) << rule.error().Text();
  EXPECT_EQ(ToJson(*rule), body);
  for (const auto& [pointer, value] :
       std::vector<std::pair<const char*, json>>{{"/name", "Two Words"},
                                                 {"/changes", json::array()},
                                                 {"/changes/0", "revocation"},
                                                 {"/changes/1", 7},
                                                 {"/expires_seconds", 59},
                                                 {"/expires_seconds", 2592001},
                                                 {"/approvers", json::array({"bob"})}}) {
    json wrong = body;
    wrong[json::json_pointer(pointer)] = value;
    const auto refused = ParseApprovalRule(wrong, "/approval/0");
    ASSERT_FALSE(refused) << pointer;
    EXPECT_EQ(refused.error().where, std::string("/approval/0") + pointer);
  }
}

TEST(ApprovalTest, ADocumentMayLeaveTheRulesAsTheyAre) {
  json document = {
      {"interfaces", json::array()}, {"peers", json::array()}, {"policies", json::array()}};
  ASSERT_TRUE(ParseDocument(document));
  EXPECT_FALSE(Says(document, "approval"));
  document["approval"] = json::array();
  ASSERT_TRUE(ParseDocument(document));
  EXPECT_TRUE(Says(document, "approval"));
  document["approval"] = {{{"name", "a"}, {"changes", {"peers"}}}};
  EXPECT_EQ(ParseDocument(document)->approval.size(), 1U);
  document["approval"] = "none";
  EXPECT_FALSE(ParseDocument(document));
}

}  // namespace
}  // namespace portcullis::model
