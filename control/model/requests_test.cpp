// What policy says of single requests. Every refusal starts from one document that passes.
#include "control/model/requests.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/model/approval.hpp"
#include "control/model/difference.hpp"
#include "control/model/json.hpp"
#include "control/model/test_refusal.hpp"
#include "control/model/validate.hpp"

namespace portcullis::model {
namespace {

using nlohmann::json;
using test::Check;
using test::ExpectPointsAtTheField;
using test::Refusal;

json Good() {
  return json::parse(R"({
    "interfaces": [
      {"name":"nsmf","type":"management-exposure","side":"local","prefixes":["10.2.0.10/32"],
       "ports":[{"protocol":"tcp","first":443,"last":443}],"zone":"external","protection":"tls"},
      {"name":"oam","type":"other","side":"local","prefixes":["10.2.0.20/32"],
       "ports":[{"protocol":"tcp","first":22,"last":22}],"zone":"internal","protection":"esp"}],
    "peers": [
      {"name":"csmf-1","identity":"csmf-1.example","role":"csmf","tenant":"a","caller_id":"as-1",
       "callbacks":["https://as-1.example/"],
       "prefixes":["10.1.0.0/24"],"enabled":true,
       "token":{"issuer":"https://as.example","client_id":"client-1"}},
      {"name":"csmf-2","identity":"csmf-2.example","role":"csmf","tenant":"b",
       "prefixes":["10.1.1.0/24"],"enabled":true,
       "token":{"issuer":"https://as.example","client_id":"client-2"}}],
    "policies": [
      {"name":"manage","role":"csmf","interface":"nsmf","scope":"nsi:manage",
       "operations":["nsi:create","nsi:read"],"one_time":true,
       "quotas":[{"operation":"nsi:create","count":5,"seconds":60},
                 {"operation":"nsi:create","count":50,"seconds":86400}]},
      {"name":"packets","role":"csmf","interface":"oam","scope":"oam"}],
    "request_blocks": [
      {"name":"cve-1","interface":"nsmf","peer":"csmf-1","method":"PATCH","path":"/nsi/*"}]})");
}

TEST(Requests, GoodOnePassesAndReadsBackAsWritten) {
  ASSERT_TRUE(Check(Good())) << Check(Good()).error().Text();
  EXPECT_EQ(ToJson(*ParseDocument(Good())), Good());
  EXPECT_TRUE(Says(Good(), "request_blocks"));
}

class RequestRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(RequestRefusals, PointAtTheField) {
  ExpectPointsAtTheField(Good(), GetParam());
}

constexpr auto kInvalid = ErrorKind::kInvalid;
constexpr auto kConflict = ErrorKind::kConflict;

INSTANTIATE_TEST_SUITE_P(
    Each, RequestRefusals,
    testing::Values(
        Refusal{"OneTimeIsNoFlag", "/policies/0/one_time", "1", kInvalid, "/policies/0/one_time",
                "true or false"},
        Refusal{"OneTimeWithoutOperations", "/policies/1/one_time", "true", kInvalid,
                "/policies/1/one_time", "without operations"},
        Refusal{"OperationInCapitals", "/policies/0/operations/1", "\"Nsi:read\"", kInvalid,
                "/policies/0/operations/1", "Nsi:read"},
        Refusal{"OperationIsAWildcard", "/policies/0/operations/1", "\"*\"", kInvalid,
                "/policies/0/operations/1", "[a-z0-9]"},
        Refusal{"OperationTwice", "/policies/0/operations/1", "\"nsi:create\"", kConflict,
                "/policies/0/operations/1", "twice"},
        Refusal{"OperationsWherePacketsAreJudged", "/policies/1/operations", "[\"oam:read\"]",
                kInvalid, "/policies/1/operations", "protection esp"},
        Refusal{"QuotaOfWhatIsNotGiven", "/policies/0/quotas/0/operation", "\"nsi:delete\"",
                kInvalid, "/policies/0/quotas/0/operation", "nsi:delete"},
        Refusal{"QuotaOfNothing", "/policies/0/quotas/0/count", "0", kInvalid,
                "/policies/0/quotas/0/count", "from 1"},
        Refusal{"QuotaForEver", "/policies/0/quotas/0/seconds", "99999999", kInvalid,
                "/policies/0/quotas/0/seconds", "2678400"},
        Refusal{"QuotaTwice", "/policies/0/quotas/1/seconds", "60", kConflict,
                "/policies/0/quotas/1/operation", "one of them"},
        Refusal{"CallerIsAPath", "/peers/0/caller_id", "\"as/1\"", kInvalid, "/peers/0/caller_id",
                "segment"},
        Refusal{"CallerIsAnotherTenants", "/peers/0/caller_id", "\"client-2\"", kConflict,
                "/peers/0/caller_id", "'csmf-2'"},
        Refusal{"CallbackIsNoPrefix", "/peers/0/callbacks/0", "\"https://as-1.example/x\"",
                kInvalid, "/peers/0/callbacks/0", "does not end with '/'"},
        Refusal{"CallbackIsNoText", "/peers/0/callbacks/0", "7", kInvalid, "/peers/0/callbacks/0",
                "no text"},
        Refusal{"CallbackOnTheGateItself", "/peers/0/callbacks/0", "\"https://127.0.0.1/\"",
                kInvalid, "/peers/0/callbacks/0", "loopback"},
        Refusal{"CallbackWithinAnothers", "/peers/1/callbacks", "[\"https://as-1.example/x/\"]",
                kConflict, "/peers/1/callbacks/0", "'csmf-1' and 'csmf-2'"},
        Refusal{"CallbackOfAnother", "/peers/1/callbacks", "[\"https://as-1.example/\"]", kConflict,
                "/peers/1/callbacks/0", "share no address"},
        Refusal{"BlockOfNoPath", "/request_blocks/0/path", "\"nsi\"", kInvalid,
                "/request_blocks/0/path", "begins with '/'"},
        Refusal{"BlockWithAQuery", "/request_blocks/0/path", "\"/nsi?a=b\"", kInvalid,
                "/request_blocks/0/path", "without query"},
        Refusal{"BlockWithAStarWithin", "/request_blocks/0/path", "\"/nsi/*/x\"", kInvalid,
                "/request_blocks/0/path", "at its end"},
        Refusal{"BlockOfNoMethod", "/request_blocks/0/method", "\"patch\"", kInvalid,
                "/request_blocks/0/method", "capital"},
        Refusal{"BlockOnNoInterface", "/request_blocks/0/interface", "\"nsfm\"", kInvalid,
                "/request_blocks/0/interface", "nsfm"},
        Refusal{"BlockWherePacketsAreJudged", "/request_blocks/0/interface", "\"oam\"", kInvalid,
                "/request_blocks/0/interface", "protection esp"},
        Refusal{"BlockOfNobody", "/request_blocks/0/peer", "\"csmf-9\"", kInvalid,
                "/request_blocks/0/peer", "csmf-9"},
        Refusal{"BlockTwice", "/request_blocks/1",
                R"({"name":"cve-1","interface":"nsmf","path":"/"})", kConflict,
                "/request_blocks/1/name", "/request_blocks/0"}),
    [](const auto& info) { return info.param.name; });

TEST(Requests, TwoOfOneTenantMayCallThemselvesTheSame) {
  json document = Good();
  document["peers"][1]["caller_id"] = "as-1";
  EXPECT_FALSE(Check(document));
  document["peers"][1]["tenant"] = "a";
  EXPECT_TRUE(Check(document));
}

TEST(Requests, AnAddressBelongsToOnePeer) {
  json document = Good();
  document["peers"][0]["callbacks"] = {"https://as-1.example/a/", "https://as-1.example/a/b/"};
  document["peers"][1]["callbacks"] = {"https://as-1.example/b/", "https://as-1.example:8443/"};
  EXPECT_TRUE(Check(document)) << Check(document).error().Text();
  document["peers"][1]["callbacks"] = {"https://as-1.example/a/c/"};
  EXPECT_FALSE(Check(document));
}

TEST(Requests, WhoCouldNotProveWhoHeIsIsNotCalled) {
  json document = Good();
  document["peers"][0]["authentication"] = "psk";
  document["peers"][0]["token"]["key_thumbprint"] = std::string(43, 'A');
  const auto refused = Check(document);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().where, "/peers/0/callbacks");
  document["peers"][0].erase("callbacks");
  EXPECT_TRUE(Check(document)) << Check(document).error().Text();
}

TEST(Requests, APeerIsItsClientUnlessPolicySaysOtherwise) {
  const Document d = *ParseDocument(Good());
  EXPECT_EQ(CallerIdOf(d.peers[0]), "as-1");
  EXPECT_EQ(CallerIdOf(d.peers[1]), "client-2");
}

TEST(Requests, ABlockMatchesWhatItSaysAndNoMore) {
  EXPECT_TRUE(Matches("PATCH", "/nsi/7", "PATCH", "/nsi/7"));
  EXPECT_FALSE(Matches("PATCH", "/nsi/7", "GET", "/nsi/7"));
  EXPECT_FALSE(Matches("PATCH", "/nsi/7", "PATCH", "/nsi/70"));
  EXPECT_TRUE(Matches("", "/nsi/*", "GET", "/nsi/7/x"));
  EXPECT_TRUE(Matches("", "/nsi/*", "GET", "/nsi/"));
  EXPECT_FALSE(Matches("", "/nsi/*", "GET", "/nsi"));
}

TEST(Requests, DifferenceNamesBlocksAndOperations) {
  json after = Good();
  after["policies"][0]["operations"].push_back("nsi:update");
  after["request_blocks"][0]["name"] = "cve-2";
  const json d = DifferenceOf(*ParseDocument(Good()), *ParseDocument(after));
  EXPECT_EQ(d["added"], json::parse(R"([{"kind":"request-block","name":"cve-2"}])"));
  EXPECT_EQ(d["removed"], json::parse(R"([{"kind":"request-block","name":"cve-1"}])"));
  EXPECT_EQ(d["changed"], json::parse(R"([{"kind":"policy","name":"manage","fields":[
      {"field":"/operations/2","to":"nsi:update"}]}])"));
}

TEST(Requests, OnePersonBlocksAndTakingItBackIsAChangeOfPolicies) {
  const Document with = *ParseDocument(Good());
  Document without = with;
  without.blocks.clear();
  Document weaker = with;
  weaker.blocks[0].method = "TRACE";
  const std::vector<ApprovalRule> all{{"all", {ApprovedChange::policies}}};
  const std::vector<ApprovalRule> others{{"some", {ApprovedChange::peers}}};
  EXPECT_FALSE(CoverOf(all, DifferenceOf(without, with)));
  EXPECT_TRUE(CoverOf(all, DifferenceOf(with, without)));
  EXPECT_TRUE(CoverOf(all, DifferenceOf(with, weaker)));
  EXPECT_FALSE(CoverOf(others, DifferenceOf(with, without)));
}

}  // namespace
}  // namespace portcullis::model
