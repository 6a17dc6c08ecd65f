// Security associations by hand: what is admitted, and that a key goes in and never comes out.
#include "control/model/sa.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace portcullis::model {
namespace {

using nlohmann::json;

const std::string kKey = "000102030405060708090a0b0c0d0e0f10111213";

json Good() {
  return {{"id", "csmf-1-in"},
          {"peer", "csmf-1"},
          {"direction", "inbound"},
          {"spi", "0x00001001"},
          {"algorithm", "aes-128-gcm-16"},
          {"key", kKey},
          {"selectors", {{{"local", "10.2.0.10/32"}, {"remote", "10.1.0.2/32"}}}},
          {"tunnel", {{"local", "192.0.2.1"}, {"remote", "192.0.2.2"}}}};
}

TEST(Sa, GoodOne) {
  json body = Good();
  const auto sa = ParseSa(body, false);
  ASSERT_TRUE(sa) << sa.error().Text();
  EXPECT_EQ(sa->spec.spi(), 0x1001U);
  EXPECT_EQ(sa->spec.algorithm(), steer::AES_128_GCM_16);
  EXPECT_EQ(sa->spec.replay_window(), 1024U);
  EXPECT_TRUE(sa->spec.esn());
  EXPECT_EQ(sa->key.size(), 20U);
  EXPECT_EQ(sa->key.bytes()[19], 0x13);
}

TEST(Sa, KeyIsInTheMessageAndNowhereElse) {
  json body = Good();
  const auto sa = ParseSa(body, false);
  EXPECT_EQ(body["key"], "");  // wiped
  EXPECT_TRUE(sa->spec.key().empty());
  EXPECT_EQ(WithKey(*sa, steer::NEW).key().size(), 20U);
  EXPECT_EQ(ToJson(sa->spec, sa->fingerprint, nullptr).dump().find("00010203"), std::string::npos);
  body = Good();
  body["selectors"] = "none";
  EXPECT_FALSE(ParseSa(body, false));
  EXPECT_EQ(body["key"], "");  // wiped when refused, too
}

TEST(Sa, AdoptedFromTheDataplaneItIsTheSame) {
  json body = Good();
  const auto sa = ParseSa(body, false);
  const Sa back = Adopt(WithKey(*sa, steer::RESUME));
  EXPECT_EQ(back.fingerprint, sa->fingerprint);
  EXPECT_TRUE(back.spec.key().empty());
  EXPECT_TRUE(std::equal(back.key.bytes().begin(), back.key.bytes().end(), sa->key.bytes().begin(),
                         sa->key.bytes().end()));
}

struct Refusal {
  const char* name;
  const char* pointer;
  json value;
  const char* where;
};

class SaRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(SaRefusals, PointAtTheFieldAndNeverShowTheKey) {
  json body = Good();
  body[json::json_pointer(GetParam().pointer)] = GetParam().value;
  const auto sa = ParseSa(body, false);
  ASSERT_FALSE(sa);
  EXPECT_EQ(sa.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(sa.error().where, GetParam().where);
  EXPECT_EQ(sa.error().Text().find("0102030405"), std::string::npos) << sa.error().Text();
}

INSTANTIATE_TEST_SUITE_P(
    Each, SaRefusals,
    testing::Values(Refusal{"SpiReserved", "/spi", "0x000000ff", "/spi"},
                    Refusal{"SpiShort", "/spi", "0x1001", "/spi"},
                    Refusal{"SpiNumber", "/spi", 4097, "/spi"},
                    Refusal{"SpiIsTheKey", "/spi", kKey, "/spi"},
                    Refusal{"Null", "/algorithm", "null", "/algorithm"},
                    Refusal{"Des", "/algorithm", "3des-cbc-hmac-md5-96", "/algorithm"},
                    Refusal{"KeyShort", "/key", kKey.substr(2), "/key"},
                    Refusal{"KeyLong", "/key", kKey + "14", "/key"},
                    Refusal{"KeyForAnother", "/algorithm", "aes-256-gcm-16", "/key"},
                    Refusal{"KeyNotHex", "/key", "zz" + kKey.substr(2), "/key"},
                    Refusal{"KeySigned", "/key", "-1" + kKey.substr(2), "/key"},
                    Refusal{"KeyList", "/key", {1, 2}, "/key"},
                    Refusal{"WindowSmall", "/replay_window", 63, "/replay_window"},
                    Refusal{"WindowLarge", "/replay_window", 8193, "/replay_window"},
                    Refusal{"WindowOffOutsideTheLab", "/replay_window", 0, "/replay_window"},
                    Refusal{"NoSelectors", "/selectors", json::array(), "/selectors"},
                    Refusal{"SelectorFamilies", "/selectors/0/remote", "2001:db8::1",
                            "/selectors/0/remote"},
                    Refusal{"PortsWithoutProtocol",
                            "/selectors/0/local_ports",
                            {{"first", 1}, {"last", 2}},
                            "/selectors/0/local_ports"},
                    Refusal{"TunnelFamilies", "/tunnel/remote", "2001:db8::1", "/tunnel/remote"},
                    Refusal{"TunnelUnknown", "/tunnel/gre", true, "/tunnel/gre"},
                    Refusal{"SoftBeyondHard",
                            "/lifetime",
                            {{"soft_packets", 10}, {"hard_packets", 9}},
                            "/lifetime/soft_packets"},
                    Refusal{"Unknown", "/window", 64, "/window"}),
    [](const auto& info) { return info.param.name; });

TEST(Sa, WindowsAtTheirLimits) {
  for (const int window : {64, 100, 8192}) {
    json body = Good();
    body["replay_window"] = window;
    EXPECT_TRUE(ParseSa(body, false)) << window;
  }
  json body = Good();
  body["replay_window"] = 0;
  const auto sa = ParseSa(body, true);
  ASSERT_TRUE(sa);
  EXPECT_EQ(WarningsOf(sa->spec).size(), 2U);
}

TEST(Sa, OutboundNeedsAnEndpointAndHasNoWindow) {
  json body = Good();
  body["direction"] = "outbound";
  EXPECT_TRUE(ParseSa(body, false));
  body = Good();
  body["direction"] = "outbound";
  body["replay_window"] = 64;
  EXPECT_EQ(ParseSa(body, false).error().where, "/replay_window");
  body = Good();
  body["direction"] = "outbound";
  body["tunnel"].erase("remote");
  EXPECT_EQ(ParseSa(body, false).error().where, "/tunnel/remote");
  body = Good();
  body["tunnel"].erase("remote");  // inbound: any source
  EXPECT_TRUE(ParseSa(body, false));
}

TEST(Sa, JsonRoundTrip) {
  json body = Good();
  body["lifetime"] = {{"hard_seconds", 60}};
  body["rate"] = {{"bits_per_second", 1000}};
  body["pair"] = "csmf-1-out";
  body["selectors"][0]["protocol"] = "tcp";
  body["selectors"][0]["local_ports"] = {{"first", 80}, {"last", 81}};
  json expected = body;
  const auto sa = ParseSa(body, false);
  ASSERT_TRUE(sa) << sa.error().Text();
  const json out = ToJson(sa->spec, sa->fingerprint, nullptr);
  for (const auto& [field, value] : expected.items()) {
    if (field == "key" || field == "tunnel") continue;
    EXPECT_EQ(out[field], value) << field;
  }
  EXPECT_EQ(out["tunnel"]["remote"], "192.0.2.2");
  EXPECT_EQ(out["in_force"], false);
  EXPECT_FALSE(out.contains("key"));
}

}  // namespace
}  // namespace portcullis::model
