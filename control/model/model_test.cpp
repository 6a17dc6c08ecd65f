// The policy document: what is admitted, what is refused and where the refusal points. Every
// refusal starts from one document that passes.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/model/difference.hpp"
#include "control/model/fields.hpp"
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
       "ports":[{"protocol":"tcp","first":8080,"last":8080}],"zone":"external",
       "protection":"tls+esp","guard":{"address":"10.9.0.1","port":4443}},
      {"name":"oam","type":"other","side":"local","prefixes":["10.2.0.20/32"],
       "ports":[{"protocol":"icmp"}],"zone":"internal","protection":"none"}],
    "peers": [
      {"name":"csmf-1","identity":"csmf-1.example","role":"csmf","tenant":"a",
       "endpoint":"192.0.2.2","prefixes":["10.1.0.0/24","2001:db8:1::/64"],
       "rate":{"packets_per_second":1000},"enabled":true,
       "token":{"issuer":"https://as.example","client_id":"csmf-1"}},
      {"name":"csmf-2","identity":"csmf-2.example","role":"csmf","prefixes":["10.1.1.0/24"]}],
    "policies": [
      {"name":"csmf-may-manage","role":"csmf","interface":"nsmf",
       "callback_ports":[{"protocol":"tcp","first":9090,"last":9099}],
       "scope":"nsi:manage","grant_seconds":600},
      {"name":"nobody-yet","role":"vnfm","interface":"oam"}]})");
}

TEST(Document, GoodOnePassesAndReadsBackAsWritten) {
  ASSERT_TRUE(Check(Good())) << Check(Good()).error().Text();
  json expected = Good();
  expected["peers"][1]["enabled"] = true;  // the default, said aloud
  EXPECT_EQ(ToJson(*ParseDocument(Good())), expected);
}

class Refusals : public testing::TestWithParam<Refusal> {};

TEST_P(Refusals, PointAtTheField) {
  ExpectPointsAtTheField(Good(), GetParam());
}

constexpr auto kInvalid = ErrorKind::kInvalid;
constexpr auto kConflict = ErrorKind::kConflict;

INSTANTIATE_TEST_SUITE_P(
    Each, Refusals,
    testing::Values(
        Refusal{"HostBits", "/peers/0/prefixes/0", "\"10.1.0.1/24\"", kInvalid,
                "/peers/0/prefixes/0", "10.1.0.1/24"},
        Refusal{"PrefixIsNumber", "/peers/0/prefixes/1", "7", kInvalid, "/peers/0/prefixes/1",
                "found 7"},
        Refusal{"NoPrefix", "/peers/0/prefixes", "[]", kInvalid, "/peers/0/prefixes",
                "at least one"},
        Refusal{"UnknownField", "/peers/0/colour", "\"red\"", kInvalid, "/peers/0/colour",
                "unknown field"},
        Refusal{"UnknownList", "/tenants", "[]", kInvalid, "/tenants", "unknown field"},
        Refusal{"BadName", "/peers/0/name", "\"Upper\"", kInvalid, "/peers/0/name", "Upper"},
        Refusal{"BadRole", "/peers/0/role", "null", kInvalid, "/peers/0/role", "null"},
        Refusal{"Endpoint", "/peers/0/endpoint", "\"example.org\"", kInvalid, "/peers/0/endpoint",
                "example.org"},
        Refusal{"NegativeRate", "/peers/0/rate/packets_per_second", "-1", kInvalid,
                "/peers/0/rate/packets_per_second", "-1"},
        Refusal{"RateUnknown", "/peers/0/rate/pps", "1", kInvalid, "/peers/0/rate/pps", "unknown"},
        Refusal{"Zone", "/interfaces/0/zone", "\"outer\"", kInvalid, "/interfaces/0/zone",
                "external, internal"},
        Refusal{"PortTooBig", "/interfaces/0/ports/0/last", "65536", kInvalid,
                "/interfaces/0/ports/0/last", "65536"},
        Refusal{"PortsReversed", "/interfaces/0/ports/0/last", "80", kInvalid,
                "/interfaces/0/ports/0/last", "8080 or more"},
        Refusal{"IcmpHasNoPorts", "/interfaces/1/ports/0/first", "1", kInvalid,
                "/interfaces/1/ports/0/first", "unknown"},
        Refusal{"ClientsOfLocalSide", "/interfaces/0/clients", "[\"10.9.0.0/24\"]", kInvalid,
                "/interfaces/0/clients", "side"},
        Refusal{"ExternalNeedsProtection", "/interfaces/0/protection", "\"none\"", kInvalid,
                "/interfaces/0/protection", "external"},
        Refusal{"ExposureNeedsTls", "/interfaces/0/protection", "\"esp\"", kInvalid,
                "/interfaces/0/protection", "tls or tls+esp"},
        Refusal{"EspMustEndAtTheGuard", "/interfaces/1/protection", "\"tls+esp\"", kInvalid,
                "/interfaces/1/guard", "address and port"},
        Refusal{"GuardWithoutEsp", "/interfaces/0/protection", "\"tls\"", kInvalid,
                "/interfaces/0/guard", "protection tls"},
        Refusal{"GuardOfNoPort", "/interfaces/0/guard/port", "0", kInvalid,
                "/interfaces/0/guard/port", "1"},
        Refusal{"GuardUnknown", "/interfaces/0/guard/device", "\"guard0\"", kInvalid,
                "/interfaces/0/guard/device", "unknown"},
        Refusal{"GuardWhereItsServersAre", "/interfaces/0/guard/address", "\"10.2.0.10\"",
                kConflict, "/interfaces/0/guard/address", "10.2.0.10/32 of interface 'nsmf'"},
        Refusal{"GuardWhereABypassLeads", "/interfaces/1/prefixes/0", "\"10.9.0.0/24\"", kConflict,
                "/interfaces/0/guard/address", "10.9.0.0/24 of interface 'oam'"},
        Refusal{"TwoInterfacesAtOneListener", "/interfaces/1",
                R"({"name":"twin","type":"other","side":"local","prefixes":["10.2.0.20/32"],
                    "ports":[{"protocol":"tcp","first":443,"last":443}],"zone":"internal",
                    "protection":"tls+esp","guard":{"address":"10.9.0.1","port":4443}})",
                kConflict, "/interfaces/1/guard", "'twin' and 'nsmf'"},
        Refusal{"PeerWhereTheGuardIs", "/peers/1/prefixes/0", "\"10.9.0.0/24\"", kConflict,
                "/peers/1/prefixes/0", "10.9.0.1/32 of interface 'nsmf'"},
        Refusal{"RegistersAtTheServers", "/policies/0/registration_ports",
                R"([{"protocol":"tcp","first":8080,"last":8080}])", kInvalid,
                "/policies/0/registration_ports/0", "8080"},
        Refusal{"SamePeerName", "/peers/1/name", "\"csmf-1\"", kConflict, "/peers/1/name",
                "/peers/0"},
        Refusal{"SameIdentity", "/peers/1/identity", "\"csmf-1.example\"", kConflict,
                "/peers/1/identity", "'csmf-1'"},
        Refusal{"PeersOverlap", "/peers/1/prefixes/0", "\"10.1.0.128/25\"", kConflict,
                "/peers/1/prefixes/0", "10.1.0.0/24 of peer 'csmf-1'"},
        Refusal{"PeersOverlapTheOtherWay", "/peers/1/prefixes/0", "\"10.0.0.0/15\"", kConflict,
                "/peers/1/prefixes/0", "10.1.0.0/24 of peer 'csmf-1'"},
        Refusal{"PeerBehindTheGate", "/peers/1/prefixes/0", "\"10.2.0.0/24\"", kConflict,
                "/peers/1/prefixes/0", "interface 'nsmf'"},
        Refusal{"SameTokenClient", "/peers/1/token",
                R"({"issuer":"https://as.example","client_id":"csmf-1"})", kConflict,
                "/peers/1/token/client_id", "'csmf-1'"},
        Refusal{"PskPinsItsKey", "/peers/0/authentication", "\"psk\"", kInvalid,
                "/peers/0/token/key_thumbprint", "missing"},
        Refusal{"NoThumbprint", "/peers/1",
                R"({"name":"gw","identity":"gw","role":"csmf","prefixes":["10.1.1.0/24"],
                    "authentication":"psk",
                    "token":{"issuer":"i","client_id":"c","key_thumbprint":"AA"}})",
                kInvalid, "/peers/1/token/key_thumbprint", "43"},
        Refusal{"CertificateNeedsNoProofKey", "/peers/0/token/key_thumbprint", "\"AA\"", kInvalid,
                "/peers/0/token/key_thumbprint", "bound to the certificate"},
        Refusal{"TwoScopes", "/policies/0/scope", "\"nsi:read nsi:create\"", kInvalid,
                "/policies/0/scope", "RFC 6749"},
        Refusal{"GrantOfNoTime", "/policies/0/grant_seconds", "0", kInvalid,
                "/policies/0/grant_seconds", "60"},
        Refusal{"UnknownInterface", "/policies/0/interface", "\"nsfm\"", kInvalid,
                "/policies/0/interface", "nsfm"},
        Refusal{"InterfacesOverlap", "/interfaces/1",
                R"({"name":"twin","type":"other","side":"local","prefixes":["10.2.0.0/24"],
                    "ports":[{"protocol":"tcp","first":8000,"last":8100}],"zone":"internal",
                    "protection":"esp"})",
                kConflict, "/interfaces/1/prefixes/0", "10.2.0.10/32 of interface 'nsmf'"}),
    [](const auto& info) { return info.param.name; });

TEST(Document, MissingListIsNotAnEmptyOne) {
  json document = Good();
  document.erase("peers");
  EXPECT_EQ(Check(document).error().where, "/peers");
  document["peers"] = json::array();
  EXPECT_TRUE(Check(document));
}

TEST(Document, GuardsOfTwoInterfacesShareAnAddressAndNoPort) {
  json document = Good();
  json& twin = document["interfaces"][1];
  twin["protection"] = "tls+esp";
  twin["guard"] = {{"address", "10.9.0.1"}, {"port", 4444}};
  document["policies"][0]["registration_ports"] = {
      {{"protocol", "tcp"}, {"first", 4443}, {"last", 4443}}};
  EXPECT_TRUE(Check(document)) << Check(document).error().Text();
}

TEST(Document, LaboratoryAdmitsEspAloneAndSaysSo) {
  json document = Good();
  document["interfaces"][0].erase("guard");
  document["interfaces"][0]["protection"] = "esp";
  EXPECT_FALSE(Check(document, false));
  const auto warnings = Check(document, true);
  ASSERT_TRUE(warnings);
  ASSERT_FALSE(warnings->empty());
  EXPECT_EQ((*warnings)[0].name, "nsmf");
  EXPECT_NE((*warnings)[0].text.find("laboratory"), std::string::npos);
}

TEST(Document, SameAddressOtherPortsIsNoConflict) {
  json document = Good();
  document["interfaces"][1]["prefixes"] = {"10.2.0.10/32"};
  EXPECT_TRUE(Check(document));
}

TEST(Document, NestedPrefixesOfOnePeerAreItsOwnAffair) {
  json document = Good();
  document["peers"][0]["prefixes"] = {"10.1.0.0/24", "10.1.0.7/32"};
  EXPECT_TRUE(Check(document));
}

// Between the two that overlap lie others: neighbours in order are not enough.
TEST(Document, OverlapIsFoundAcrossUnrelatedPrefixes) {
  json document = Good();
  document["peers"][0]["prefixes"] = {"10.1.0.0/16"};
  document["peers"][1]["prefixes"] = {"10.4.0.0/16", "10.1.200.0/24"};
  document["peers"].push_back(
      {{"name", "csmf-3"}, {"identity", "c3"}, {"role", "csmf"}, {"prefixes", {"10.3.0.0/16"}}});
  const auto outcome = Check(document);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().where, "/peers/1/prefixes/1");
  document["peers"][1]["prefixes"] = {"10.4.0.0/16", "10.5.200.0/24"};
  EXPECT_TRUE(Check(document));
}

TEST(Json, MalformedNamesLineAndColumnAndQuotesNothing) {
  const auto outcome = ParseJson("{\n  \"key\": 00112233445566778899aabbccddeeff\n}");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().where, "line 2, column 11");
  EXPECT_EQ(outcome.error().Text().find("112233"), std::string::npos);
  EXPECT_TRUE(ParseJson("{\n  \"key\": \"00112233445566778899aabbccddeeff\"\n}"));
}

TEST(Json, MemberTwiceIsRefused) {
  EXPECT_FALSE(ParseJson(R"({"a":1,"b":{"a":1},"a":2})"));
  EXPECT_TRUE(ParseJson(R"({"a":1,"b":{"a":1},"c":2})"));
}

TEST(Json, NumberBeyondAllRangesIsRefused) {
  EXPECT_FALSE(ParseJson(R"({"a":1e999})"));  // the library has an exception of its own for this
  EXPECT_TRUE(ParseJson(R"({"a":1e99})"));
}

TEST(Json, DeepNestingIsRefused) {
  EXPECT_FALSE(ParseJson(std::string(100000, '[')));
  EXPECT_FALSE(ParseJson(std::string(40, '[') + std::string(40, ']')));
  EXPECT_TRUE(ParseJson(std::string(10, '[') + std::string(10, ']')));
}

TEST(Json, WhatCouldBeAKeyIsNeverQuoted) {
  EXPECT_EQ(Describe("00112233445566778899aabbccddeeff"), "32 characters");
  EXPECT_EQ(Describe("0x00001001"), "\"0x00001001\"");
}

TEST(Difference, NamesWhatComesGoesAndChanges) {
  json after = Good();
  after["peers"][0]["rate"]["packets_per_second"] = 2000;
  after["peers"][1]["name"] = "csmf-9";
  after["policies"].erase(1);
  const json d = DifferenceOf(*ParseDocument(Good()), *ParseDocument(after));
  EXPECT_EQ(d["added"], json::parse(R"([{"kind":"peer","name":"csmf-9"}])"));
  EXPECT_EQ(d["removed"], json::parse(R"([{"kind":"peer","name":"csmf-2"},
                                          {"kind":"policy","name":"nobody-yet"}])"));
  EXPECT_EQ(d["changed"], json::parse(R"([{"kind":"peer","name":"csmf-1","fields":[
      {"field":"/rate/packets_per_second","from":1000,"to":2000}]}])"));
  EXPECT_TRUE(IsEmpty(DifferenceOf(*ParseDocument(Good()), *ParseDocument(Good()))));
}

}  // namespace
}  // namespace portcullis::model
