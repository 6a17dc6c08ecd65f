// The first line: what is admitted, what is refused and where, what a change of it looks like, and
// what the dataplane gets.
#include "control/model/first_line.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/model/approval.hpp"
#include "control/model/compile.hpp"
#include "control/model/difference.hpp"
#include "control/model/json.hpp"
#include "control/model/validate.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::model {
namespace {

using nlohmann::json;

json Good() {
  return json::parse(R"({
    "admit_strangers": false,
    "admit": ["192.0.2.0/24", "2001:db8::/32"],
    "deny": ["192.0.2.66/32"],
    "ipv4_length": 24,
    "ipv6_length": 56,
    "packets": {"per_second": 10000, "burst": 500},
    "handshakes": {"per_second": 5, "burst": 10},
    "strangers": {"per_second": 100, "burst": 200},
    "sessions": [{"protocol":"tcp","first":4433,"last":4434}],
    "host": [{"protocol":"tcp","first":22,"last":22}, {"protocol":"icmp"}]})");
}

Document With(const json& line) {
  json document = {{"interfaces", json::array()},
                   {"peers", json::array()},
                   {"policies", json::array()},
                   {"first_line", line}};
  document["peers"].push_back({{"name", "csmf"},
                               {"identity", "csmf"},
                               {"role", "csmf"},
                               {"endpoint", "203.0.113.7"},
                               {"prefixes", {"10.1.0.2/32"}}});
  return *ParseDocument(document);
}

Result<std::vector<Warning>> Check(const json& line) {
  const auto parsed = ParseFirstLine(line, "/first_line");
  if (!parsed) return tl::unexpected(parsed.error());
  return Validate(With(line), false);
}

using Texts = std::vector<std::string>;

Texts Sources(const steer::FirstLine& line) {
  Texts out;
  for (const auto& rule : line.sources()) {
    out.push_back((rule.deny() ? "deny " : "admit ") +
                  steer::FromMessage(rule.prefix(), "")->Text());
  }
  return out;
}

TEST(FirstLine, AGoodOnePassesWithoutAWarningAndReadsBackAsWritten) {
  const auto checked = Check(Good());
  ASSERT_TRUE(checked) << checked.error().Text();
  EXPECT_TRUE(checked->empty());
  EXPECT_EQ(ToJson(*ParseFirstLine(Good())), Good());
  EXPECT_EQ(ToJson(With(Good()))["first_line"], Good());
}

TEST(FirstLine, AnEmptyOneAdmitsEverybody) {
  const auto line = ParseFirstLine(json::object());
  ASSERT_TRUE(line);
  EXPECT_TRUE(line->admit_strangers);
  EXPECT_FALSE(line->host);
  EXPECT_EQ(line->packets.per_second, 0U);
  // None of the host's services, on the other hand, is said by an empty list.
  EXPECT_TRUE(ParseFirstLine({{"host", json::array()}})->host);
}

TEST(FirstLine, ADocumentMayLeaveItOutOrSayThatThereIsNone) {
  json document = json::parse(R"({"interfaces": [], "peers": [], "policies": []})");
  EXPECT_FALSE(Says(document, "first_line"));
  EXPECT_FALSE(ParseDocument(document)->first_line);
  document["first_line"] = nullptr;
  EXPECT_TRUE(Says(document, "first_line"));
  EXPECT_FALSE(ParseDocument(document)->first_line);
  document["first_line"] = 7;
  EXPECT_EQ(ParseDocument(document).error().where, "/first_line");
}

struct Refusal {
  const char* name;
  const char* pointer;
  const char* value;
  const char* where;
};
class FirstLineRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(FirstLineRefusals, PointAtTheField) {
  json line = Good();
  line[json::json_pointer(GetParam().pointer)] = json::parse(GetParam().value);
  const auto outcome = Check(line);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().where, std::string("/first_line") + GetParam().where);
  EXPECT_FALSE(outcome.error().expected.empty());
  EXPECT_FALSE(outcome.error().found.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Each, FirstLineRefusals,
    testing::Values(Refusal{"HostBits", "/deny/0", "\"192.0.2.66/30\"", "/deny/0"},
                    Refusal{"BothAdmittedAndDenied", "/deny/0", "\"192.0.2.0/24\"", "/deny"},
                    Refusal{"NoBurst", "/packets", R"({"per_second": 5})", "/packets/burst"},
                    Refusal{"BurstOfNone", "/packets/burst", "0", "/packets/burst"},
                    Refusal{"NoRate", "/packets", R"({"burst": 5})", "/packets/per_second"},
                    Refusal{"FasterThanABucketCounts", "/strangers/per_second", "100000001",
                            "/strangers/per_second"},
                    Refusal{"LengthIpv4", "/ipv4_length", "33", "/ipv4_length"},
                    Refusal{"LengthIpv4Short", "/ipv4_length", "7", "/ipv4_length"},
                    Refusal{"LengthIpv6", "/ipv6_length", "129", "/ipv6_length"},
                    Refusal{"Strangers", "/admit_strangers", "\"no\"", "/admit_strangers"},
                    Refusal{"SessionsByIcmp", "/sessions/0", R"({"protocol":"icmp"})",
                            "/sessions/0/protocol"},
                    Refusal{"Unknown", "/colour", "1", "/colour"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(FirstLine, SixteenServicesAndNotOneMore) {
  json line = Good();
  line["host"] = json::array();
  for (int port = 1; port <= 15; ++port) {
    line["host"].push_back({{"protocol", "tcp"}, {"first", port}, {"last", port}});
  }
  EXPECT_TRUE(Check(line));
  line["host"].push_back({{"protocol", "icmp"}});
  EXPECT_EQ(Check(line).error().found, "17");
}

TEST(FirstLine, AsManyPrefixesAsADocumentMayHave) {
  Document d = With(Good());
  d.first_line->deny.clear();
  d.first_line->admit.clear();
  for (uint32_t i = 0; i < FirstLine::kMostPrefixes; ++i) {
    const std::array<uint8_t, 4> bytes = {10, static_cast<uint8_t>(i >> 16U),
                                          static_cast<uint8_t>(i >> 8U), static_cast<uint8_t>(i)};
    d.first_line->deny.emplace_back(Address::V4(bytes.data()), 128);
  }
  EXPECT_TRUE(Validate(d, false));
  d.first_line->admit.push_back(*Prefix::Parse("192.0.2.0/24"));
  EXPECT_EQ(Validate(d, false).error().found, "65537");
}

TEST(FirstLine, WarnsOfWhatWasHardlyMeant) {
  const auto warned = [](const json& line, const auto& change) {
    Document d = With(line);
    change(d);
    const auto warnings = Validate(d, false);
    EXPECT_EQ(warnings->size(), 1U);
    return warnings->empty() ? "" : warnings->front().text;
  };
  json line = Good();
  line.erase("sessions");
  EXPECT_NE(warned(line, [](Document&) {}).find("handshakes are limited"), std::string::npos);
  EXPECT_NE(warned(Good(), [](Document& d) { d.peers[0].endpoint.reset(); })
                .find("peer 'csmf' without endpoint"),
            std::string::npos);
  line = Good();
  line["deny"] = {"203.0.113.7/32"};
  EXPECT_NE(warned(line, [](Document&) {}).find("its endpoint is denied"), std::string::npos);
}

TEST(FirstLine, ADifferenceNamesThePrefixesThatComeAndGo) {
  const Document before = With(Good());
  EXPECT_TRUE(IsEmpty(DifferenceOf(before, before)));
  json line = Good();
  line["admit"] = {"2001:db8::/32", "198.51.100.0/24"};
  line["packets"]["burst"] = 600;
  line.erase("host");
  const json changed = DifferenceOf(before, With(line))["changed"];
  ASSERT_EQ(changed.size(), 1U);
  EXPECT_EQ(changed[0]["kind"], "first-line");
  EXPECT_EQ(changed[0]["fields"], json::parse(R"([{"field":"/admit","from":"192.0.2.0/24"},
                            {"field":"/admit","to":"198.51.100.0/24"},
                            {"field":"/host","from":[{"protocol":"tcp","first":22,"last":22},
                                                     {"protocol":"icmp"}]},
                            {"field":"/packets","from":{"per_second":10000,"burst":500},
                                                "to":{"per_second":10000,"burst":600}}])"));
  EXPECT_EQ(DifferenceOf(With(nullptr), before)["added"][0]["kind"], "first-line");
  EXPECT_EQ(DifferenceOf(before, With(nullptr))["removed"][0]["kind"], "first-line");
}

TEST(FirstLine, AChangeOfItIsCoveredByItsOwnRule) {
  Document before = With(Good());
  before.approval = {{"doors", {ApprovedChange::first_line}}};
  Document after = before;
  after.peers.clear();
  EXPECT_FALSE(CoverOf(before.approval, DifferenceOf(before, after)));
  after = before;
  after.first_line.reset();
  EXPECT_TRUE(CoverOf(before.approval, DifferenceOf(before, after)));
  EXPECT_EQ(ParseApprovalRule(ToJson(before.approval[0]))->changes[0], ApprovedChange::first_line);
}

TEST(FirstLine, PeersAreAdmittedByNameUnlessExactlyTheyAreDenied) {
  json line = {{"deny", {"203.0.113.0/24"}}};
  EXPECT_EQ(Sources(CompileFirstLine(With(line))),
            (Texts{"admit 203.0.113.7/32", "deny 203.0.113.0/24"}));
  line["deny"] = {"203.0.113.7/32"};
  EXPECT_EQ(Sources(CompileFirstLine(With(line))), Texts{"deny 203.0.113.7/32"});
  line = {{"admit", {"203.0.113.7/32"}}};
  EXPECT_EQ(Sources(CompileFirstLine(With(line))), Texts{"admit 203.0.113.7/32"}) << "once";
  Document d = With(json::object());
  EXPECT_EQ(Sources(CompileFirstLine(d)), Texts{"admit 203.0.113.7/32"});
  d.peers[0].enabled = false;
  EXPECT_EQ(Sources(CompileFirstLine(d)), Texts{});
}

TEST(FirstLine, CompiledWhole) {
  const steer::FirstLine line = CompileFirstLine(With(Good()));
  EXPECT_TRUE(line.deny_strangers());
  EXPECT_TRUE(line.some_of_host());
  EXPECT_EQ(line.ipv4_length(), 24U);
  EXPECT_EQ(line.ipv6_length(), 56U);
  EXPECT_EQ(line.packets().per_second(), 10000U);
  EXPECT_EQ(line.strangers().burst(), 200U);
  ASSERT_EQ(line.sessions_size(), 1);
  EXPECT_EQ(line.sessions(0).protocol(), 6U);
  EXPECT_EQ(line.sessions(0).ports().last(), 4434U);
  ASSERT_EQ(line.host_size(), 2);
  EXPECT_FALSE(line.host(1).has_ports());
  EXPECT_FALSE(CompileFirstLine(With(nullptr)).deny_strangers());
}

TEST(FirstLine, AChangeCarriesItOnlyWhereItDiffers) {
  const Document before = With(Good());
  Document after = before;
  after.peers[0].rate.packets_per_second = 8;
  EXPECT_FALSE(CompileChange(before, 7, after, 8).has_first_line());
  after.peers[0].endpoint = *Address::Parse("203.0.113.8");  // a source of its own
  EXPECT_TRUE(CompileChange(before, 7, after, 8).has_first_line());
  after = before;
  after.first_line.reset();
  const auto change = CompileChange(before, 7, after, 8);
  ASSERT_TRUE(change.has_first_line());
  EXPECT_FALSE(change.first_line().deny_strangers());
  EXPECT_TRUE(CompileFull(after, 9).has_first_line());
}

}  // namespace
}  // namespace portcullis::model
