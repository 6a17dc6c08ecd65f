// Who may be called where, and with what.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/admission/grant.hpp"
#include "control/model/json.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using Kind = model::Revocable::Kind;

class CallTest : public testing::Test {
 protected:
  std::string Call(const std::string& url, const std::string& interface = "nsmf") {
    const auto grant = DecideCall(PolicyView(policy_), denied_, interface, url);
    return grant ? grant->peer->name + " " + grant->prefix
                 : std::string(Info(grant.error().reason).name);
  }
  std::string Calling(const std::string& peer, const std::string& url,
                      const std::string& operation = "notify") {
    const Operation what{.peer = peer,
                         .tenant = "a",
                         .interface = "nsmf",
                         .operations = {operation},
                         .method = "POST",
                         .path = "/cb/1"};
    const auto quotas = DecideCalling(PolicyView(policy_), denied_, what, url);
    return quotas ? "" : std::string(Info(quotas.error().reason).name);
  }
  std::string Recognised(const std::vector<std::string>& names, const std::string& peer) {
    Applicant who;
    who.names = names;
    who.proofs = {{Kind::certificate, "CN=ca", "0A"}};
    const auto known = DecideRecognised(PolicyView(policy_), denied_, who, peer);
    return known ? "" : std::string(Info(known.error().reason).name);
  }
  void Revoke(Kind kind, const std::string& issuer, const std::string& id) {
    model::Denial denial;
    denial.what = {kind, issuer, id};
    denied_.Deny(denial, 1);
  }

  Denials denied_;
  model::Document policy_ = *model::ParseDocument(nlohmann::json::parse(R"({
    "interfaces": [
      {"name":"nsmf","type":"other","side":"local","prefixes":["10.2.0.10/32"],
       "ports":[{"protocol":"tcp","first":443,"last":443}],"zone":"external","protection":"tls"},
      {"name":"oam","type":"other","side":"local","prefixes":["10.2.0.20/32"],
       "ports":[{"protocol":"tcp","first":22,"last":22}],"zone":"internal","protection":"esp"}],
    "peers": [
      {"name":"csmf-1","identity":"csmf-1.example","role":"csmf","tenant":"a",
       "prefixes":["10.1.0.0/24"],"callbacks":["https://csmf-1.example/","https://cb.example/1/",
       "https://cb.example/1/inner/"]},
      {"name":"csmf-2","identity":"csmf-2.example","role":"csmf","tenant":"a",
       "prefixes":["10.1.1.0/24"],"callbacks":["https://cb.example/2/"]},
      {"name":"other","identity":"other.example","role":"other","tenant":"a",
       "prefixes":["10.1.2.0/24"],"callbacks":["https://other.example/"]}],
    "policies": [
      {"name":"notify","role":"csmf","interface":"nsmf","operations":["notify"],
       "quotas":[{"operation":"notify","count":5,"seconds":60}]},
      {"name":"packets","role":"csmf","interface":"oam"}],
    "request_blocks": []})"));
};

TEST_F(CallTest, AnAddressIsItsPeersByTheLongestPrefix) {
  EXPECT_EQ(Call("https://csmf-1.example/"), "csmf-1 https://csmf-1.example/");
  EXPECT_EQ(Call("https://csmf-1.example/a/b"), "csmf-1 https://csmf-1.example/");
  EXPECT_EQ(Call("https://cb.example/1/x"), "csmf-1 https://cb.example/1/");
  EXPECT_EQ(Call("https://cb.example/1/inner/x"), "csmf-1 https://cb.example/1/inner/");
  EXPECT_EQ(Call("https://cb.example/1"), "csmf-1 https://cb.example/1/");
  EXPECT_EQ(Call("https://cb.example/2/x"), "csmf-2 https://cb.example/2/");
}

TEST_F(CallTest, WhatIsBelowNoPrefixIsNobodys) {
  for (const char* url :
       {"https://cb.example/", "https://cb.example/3/x", "https://cb.example/12/x",
        "https://cb.example:8443/1/x", "https://csmf-1.example.evil.example/",
        "https://cb.example/1/../2", "http://cb.example/1/x", "nonsense", ""}) {
    EXPECT_EQ(Call(url), "callback_denied") << url;
  }
}

TEST_F(CallTest, PolicyGivesTheOperationWithoutAToken) {
  EXPECT_EQ(Calling("csmf-1", "https://cb.example/1/x"), "");
  EXPECT_EQ(Calling("csmf-1", "https://cb.example/1/x", "deliver"), "operation_denied");
  EXPECT_EQ(Call("https://other.example/x"), "policy_denied");
  EXPECT_EQ(Call("https://cb.example/1/x", "oam"), "policy_denied");
  EXPECT_EQ(Call("https://cb.example/1/x", "nowhere"), "policy_denied");
}

TEST_F(CallTest, TheGuardsWordOnWhoseItIsCountsNothing) {
  EXPECT_EQ(Calling("csmf-2", "https://cb.example/1/x"), "callback_denied");
  EXPECT_EQ(Calling("csmf-2", "https://cb.example/2/x"), "");
}

TEST_F(CallTest, WhoIsShutOutIsNotCalled) {
  Revoke(Kind::peer, "", "csmf-1");
  EXPECT_EQ(Call("https://cb.example/1/x"), "peer_revoked");
  EXPECT_EQ(Calling("csmf-1", "https://cb.example/1/x"), "peer_revoked");
  EXPECT_EQ(Call("https://cb.example/2/x"), "csmf-2 https://cb.example/2/");
  policy_.peers[1].enabled = false;
  EXPECT_EQ(Call("https://cb.example/2/x"), "peer_revoked");
}

TEST_F(CallTest, BlocksHoldInThisDirectionToo) {
  policy_.blocks.push_back({"cve", "nsmf", "csmf-1", "POST", "/cb/*"});
  EXPECT_EQ(Calling("csmf-1", "https://cb.example/1/x"), "request_blocked");
  EXPECT_EQ(Calling("csmf-2", "https://cb.example/2/x"), "");
}

TEST_F(CallTest, WhoeverAnswersMustBeThatPeer) {
  EXPECT_EQ(Recognised({"csmf-1.example", "cb.example"}, "csmf-1"), "");
  EXPECT_EQ(Recognised({"csmf-2.example", "cb.example"}, "csmf-1"), "peer_unknown");
  EXPECT_EQ(Recognised({"cb.example"}, "csmf-1"), "peer_unknown");
  EXPECT_EQ(Recognised({"csmf-1.example", "csmf-2.example"}, "csmf-1"), "peer_unknown");
  Revoke(Kind::certificate, "CN=ca", "0A");
  EXPECT_EQ(Recognised({"csmf-1.example"}, "csmf-1"), "cert_revoked");
}

}  // namespace
}  // namespace portcullis::admission
