// Where servers' messages are to go, what they are, and which addresses nobody is called at.
#include "control/guard/request/egress.hpp"

#include <gtest/gtest.h>

#include "control/profiles/load.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {
namespace {

RequestHead Head(const std::string& target, const std::vector<std::string>& roots = {}) {
  RequestHead head;
  head.method = "POST";
  head.target = target;
  for (const auto& root : roots) head.fields.insert("3gpp-Sbi-Target-apiRoot", root);
  return head;
}

TEST(Destinations, AreSaidInOneOfTwoForms) {
  for (const auto& head : {Head("https://csmf-1.example:8443/cb/1?to=7"),
                           Head("/cb/1?to=7", {"https://csmf-1.example:8443"}),
                           Head("/1?to=7", {"https://csmf-1.example:8443/cb"})}) {
    const auto to = DestinationOf(head);
    ASSERT_TRUE(to) << to.error().why.Text();
    EXPECT_EQ(to->url, "https://csmf-1.example:8443/cb/1");
    EXPECT_EQ(to->origin, "https://csmf-1.example:8443");
    EXPECT_EQ(to->target, "/cb/1?to=7");
  }
}

TEST(Destinations, OfTwoMeaningsOrNoneAreRefused) {
  const std::string good = "https://csmf-1.example";
  EXPECT_TRUE(DestinationOf(Head("/cb", {good})));
  for (const auto& head :
       {Head("/cb"), Head("/cb", {good, good}), Head("https://csmf-1.example/cb", {good}),
        Head("*", {good}), Head("csmf-1.example:443"), Head("/cb", {good + "/"}),
        Head("/cb", {good + "?x="}), Head("/cb", {good + "#"}), Head("/cb", {""}),
        Head("@10.2.0.10/cb", {good}), Head("/../x", {good}), Head("/%2e%2e/x", {good}),
        Head("//x", {good}), Head("/cb", {"http://csmf-1.example"}),
        Head("/cb", {"https://user@csmf-1.example"}), Head("/cb", {"https://CSMF-1.example"}),
        Head("http://csmf-1.example/cb"), Head("https://127.0.0.1/cb")}) {
    EXPECT_FALSE(DestinationOf(head)) << head.target;
  }
}

constexpr const char* kEgressProfile = R"(
name: gateway
title: Gateways
source: none, for tests
operations: { change: [subscribe, message:deliver, notify, report] }
apis:
  - name: subscription
    title: Subscriptions
    paths:
      - path: /subscriptions
        POST: { operation: subscribe, callbacks: [/to] }
egress:
  - { operation: message:deliver, method: POST, path: /v1/deliver, query: [ack] }
  - { operation: notify, method: POST, callbacks_of: [subscription] }
  - { operation: report, method: POST, callbacks_of: [subscription] }
)";

std::string Sent(std::string_view method, const std::string& target, std::string_view prefix) {
  static const auto kParsed = profiles::ParseProfile(kEgressProfile, "gateway.yaml");
  if (!kParsed) return kParsed.error().Text();
  const auto to = DestinationOf(Head("https://gw.example" + target));
  if (!to) return "no destination";
  const auto sent = WhatIsSent(*kParsed, method, *to, prefix);
  if (!sent) return std::string(profiles::Info(sent.error()).name);
  std::string names;
  for (const auto* one : *sent) names += one->name + " ";
  return names;
}

TEST(WhatServersSend, IsADeliveryBelowThePeersPrefixOrACallback) {
  EXPECT_EQ(Sent("POST", "/v1/deliver", "https://gw.example/"), "message:deliver ");
  EXPECT_EQ(Sent("POST", "/api/v1/deliver?ack=1", "https://gw.example/api/"), "message:deliver ");
  EXPECT_EQ(Sent("POST", "/v1/deliver?x=1", "https://gw.example/"), "query_unlisted");
  // Elsewhere it is a callback: which of them, its address does not say.
  EXPECT_EQ(Sent("POST", "/v1/deliver", "https://gw.example/v1/"), "notify report ");
  EXPECT_EQ(Sent("POST", "/cb/7?x=1", "https://gw.example/"), "notify report ");
  EXPECT_EQ(Sent("DELETE", "/v1/deliver", "https://gw.example/"), "method_unlisted");
  EXPECT_EQ(Sent("DELETE", "/cb/7", "https://gw.example/"), "path_unlisted");
}

TEST(Callees, AreNeverTheGateNorWhatItProtects) {
  admission::CallPermitted permit;
  const auto add = [&](const char* text) {
    const auto prefix = *Prefix::Parse(text);
    permit.add_servers()->set_address(steer::ToBytes(prefix.address()));
    permit.mutable_servers(permit.servers_size() - 1)->set_length(prefix.WrittenLength());
  };
  add("10.2.0.0/24");
  add("2001:db8:2::/48");
  const auto refused = [&](const char* text) {
    return NotCalledAt(permit, boost::asio::ip::make_address(text)).has_value();
  };
  for (const char* never : {"10.2.0.10", "::ffff:10.2.0.10", "2001:db8:2::1", "127.0.0.1", "::1",
                            "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0"}) {
    EXPECT_TRUE(refused(never)) << never;
  }
  for (const char* peer : {"10.2.1.10", "10.1.0.2", "2001:db8:1::1", "192.0.2.1"}) {
    EXPECT_FALSE(refused(peer)) << peer;
  }
}

}  // namespace
}  // namespace portcullis::guard
