#include "control/admission/grant.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "control/model/json.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using std::chrono::seconds;

const std::chrono::system_clock::time_point kNow{seconds(1'800'000'000)};

model::Document Policy() {
  const auto document = model::ParseDocument(nlohmann::json::parse(R"({
    "interfaces": [
      {"name":"nsmf","type":"other","side":"local","prefixes":["10.2.0.10/32"],
       "ports":[{"protocol":"tcp","first":8080,"last":8080}],"zone":"external","protection":"esp"},
      {"name":"tls-only","type":"other","side":"local","prefixes":["10.2.0.11/32"],
       "ports":[{"protocol":"tcp","first":443,"last":443}],"zone":"external","protection":"tls"},
      {"name":"oam","type":"other","side":"local","prefixes":["10.2.0.20/32"],
       "ports":[{"protocol":"tcp","first":22,"last":22}],"zone":"internal","protection":"esp"}],
    "peers": [
      {"name":"csmf-1","identity":"csmf-1.example","role":"csmf","prefixes":["10.1.0.0/24"],
       "token":{"issuer":"https://as.example","client_id":"csmf-1"}},
      {"name":"csmf-2","identity":"csmf-2.example","role":"csmf","prefixes":["10.1.1.0/24"]},
      {"name":"gw","identity":"gateway","authentication":"psk","role":"csmf",
       "prefixes":["10.1.2.0/24"],"token":{"issuer":"https://as.example","client_id":"gw",
       "key_thumbprint":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}}],
    "policies": [
      {"name":"manage","role":"csmf","interface":"nsmf","scope":"nsi:manage",
       "callback_ports":[{"protocol":"tcp","first":9090,"last":9090}],"grant_seconds":600},
      {"name":"read","role":"csmf","interface":"nsmf","scope":"nsi:read","grant_seconds":1200},
      {"name":"no-token","role":"csmf","interface":"oam"},
      {"name":"tls","role":"csmf","interface":"tls-only","scope":"nsi:manage"}]})"));
  EXPECT_TRUE(document) << document.error().Text();
  return *document;
}

Applicant Csmf() {
  Applicant who;
  who.names = {"csmf-1.example", "other.example"};
  who.issuer = "https://as.example";
  who.client_id = "csmf-1";
  who.scopes = {"nsi:manage"};
  who.token_expiry = kNow + seconds(3600);
  who.interface = "nsmf";
  return who;
}

Applicant Gateway() {
  Applicant who = Csmf();
  who.by = model::Authentication::psk;
  who.names.clear();
  who.psk_peer = "gw";
  who.client_id = "gw";
  who.proof_key_thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
  return who;
}

TEST(Grant, IsWhatTokenAndPolicyBothGive) {
  const auto grant = Decide(Policy(), {}, Csmf(), kNow);
  ASSERT_TRUE(grant) << grant.error().Text();
  EXPECT_EQ(grant->peer, "csmf-1");
  EXPECT_EQ(grant->life, seconds(600));
  ASSERT_EQ(grant->selectors.size(), 2U);  // there, and back to the callback port
  EXPECT_EQ(grant->selectors[0].local_ports().first(), 8080U);
  EXPECT_EQ(grant->selectors[1].remote_ports().first(), 9090U);

  Applicant reader = Csmf();
  reader.scopes = {"nsi:read", "something:else"};
  const auto read = Decide(Policy(), {}, reader, kNow);
  ASSERT_TRUE(read) << read.error().Text();
  EXPECT_EQ(read->selectors.size(), 1U);
  EXPECT_EQ(read->life, seconds(1200));
}

TEST(Grant, ATokenOfAllScopesWidensNothing) {
  Applicant who = Csmf();
  who.scopes = {"*", "nsi:*", "nsi:manage"};
  const auto grant = Decide(Policy(), {}, who, kNow);
  ASSERT_TRUE(grant);
  EXPECT_EQ(grant->selectors.size(), 2U);
}

TEST(Grant, EndsWithWhateverEndsFirst) {
  Applicant who = Csmf();
  who.token_expiry = kNow + seconds(90);
  EXPECT_EQ(Decide(Policy(), {}, who, kNow)->life, seconds(90));
  who.certificate_expiry = kNow + seconds(30);
  EXPECT_EQ(Decide(Policy(), {}, who, kNow)->life, seconds(30));
}

TEST(Grant, PreSharedKeysAdmitTheirOwnPeer) {
  const auto grant = Decide(Policy(), {}, Gateway(), kNow);
  ASSERT_TRUE(grant) << grant.error().Text();
  EXPECT_EQ(grant->peer, "gw");
}

struct Case {
  const char* name;
  Reason reason;
  std::function<void(Applicant&, model::Document&, std::set<std::string>&)> spoil;
  bool psk = false;
};

class Refused : public testing::TestWithParam<Case> {};

TEST_P(Refused, AndItsTwinIsNot) {
  Applicant who = GetParam().psk ? Gateway() : Csmf();
  model::Document policy = Policy();
  std::set<std::string> revoked;
  ASSERT_TRUE(Decide(policy, revoked, who, kNow));
  GetParam().spoil(who, policy, revoked);
  const auto grant = Decide(policy, revoked, who, kNow);
  ASSERT_FALSE(grant);
  EXPECT_EQ(grant.error().reason, GetParam().reason) << grant.error().Text();
}

#define SPOIL [](Applicant & who, model::Document & policy, std::set<std::string> & revoked)
#define UNUSED (void)who, (void)policy, (void)revoked

INSTANTIATE_TEST_SUITE_P(
    All, Refused,
    testing::Values(
        Case{"UnknownName", Reason::peer_unknown, SPOIL { UNUSED; who.names = {"csmf-9.example"};
}  // namespace
}  // namespace portcullis::admission
, Case{"TwoPeersInOne", Reason::peer_unknown, SPOIL{UNUSED;
who.names = {"csmf-1.example", "csmf-2.example"};
}
}
, Case{"PskNameInACertificate", Reason::peer_unknown, SPOIL{UNUSED;
who.names = {"gateway"};
}
}
, Case{"CertificatePeerByPsk", Reason::peer_unknown, SPOIL{UNUSED;
who.psk_peer = "csmf-1";
}
, true
}
, Case{"AnothersToken", Reason::token_client_fail, SPOIL{UNUSED;
who.client_id = "gw";
}
}
, Case{"AnotherIssuer", Reason::token_client_fail, SPOIL{UNUSED;
who.issuer = "https://as.other";
}
}
, Case{"PeerWithoutTokens", Reason::token_client_fail, SPOIL{UNUSED;
who.names = {"csmf-2.example"};
}
}
, Case{"AnotherProofKey", Reason::token_binding_fail, SPOIL{UNUSED;
who.proof_key_thumbprint[0] = 'M';
}
, true
}
, Case{"NoProofKey", Reason::token_binding_fail, SPOIL{UNUSED;
who.proof_key_thumbprint.clear();
}
, true
}
, Case{"Revoked", Reason::peer_revoked, SPOIL{UNUSED;
revoked = {"csmf-1"};
}
}
, Case{"Disabled", Reason::peer_revoked, SPOIL{UNUSED;
policy.peers[0].enabled = false;
}
}
, Case{"UnknownInterface", Reason::policy_denied, SPOIL{UNUSED;
who.interface = "scef";
}
}
, Case{"AnotherRole", Reason::policy_denied, SPOIL{UNUSED;
policy.peers[0].role = "vnfm";
}
}
, Case{"OnlyBehindTls", Reason::policy_denied, SPOIL{UNUSED;
who.interface = "tls-only";
}
}
, Case{"NoScopeOpensIt", Reason::token_scope_fail, SPOIL{UNUSED;
who.interface = "oam";
}
}
, Case{"AnotherScope", Reason::token_scope_fail, SPOIL{UNUSED;
who.scopes = {"nsi"};
}
}
, Case{"NoScope", Reason::token_scope_fail, SPOIL{UNUSED;
who.scopes.clear();
}
}
, Case{"EmptyScope", Reason::token_scope_fail, SPOIL{UNUSED;
who.scopes = {""}, who.interface = "oam";
}
}
, Case{"NoTimeLeft", Reason::token_expired, SPOIL{UNUSED;
who.token_expiry = kNow;
}
}),
    [](const auto& info) {
  return info.param.name; });

}  // namespace
}  // namespace portcullis::admission
