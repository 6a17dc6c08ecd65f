#include "control/admission/grant.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/model/json.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using Kind = model::Revocable::Kind;
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
  who.proofs = {{Kind::certificate, "CN=ca", "0A"}, {Kind::token, "https://as.example", "t"}};
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

tl::expected<Grant, identity::Refusal> Decided(const Applicant& who,
                                               std::chrono::system_clock::time_point now) {
  const model::Document policy = Policy();
  return Decide(PolicyView(policy), Denials(), who, now);
}

TEST(Grant, IsWhatTokenAndPolicyBothGive) {
  const auto grant = Decided(Csmf(), kNow);
  ASSERT_TRUE(grant) << grant.error().Text();
  EXPECT_EQ(grant->peer, "csmf-1");
  EXPECT_EQ(grant->life, seconds(600));
  ASSERT_EQ(grant->selectors.size(), 2U);  // there, and back to the callback port
  EXPECT_EQ(grant->selectors[0].local_ports().first(), 8080U);
  EXPECT_EQ(grant->selectors[1].remote_ports().first(), 9090U);

  Applicant reader = Csmf();
  reader.scopes = {"nsi:read", "something:else"};
  const auto read = Decided(reader, kNow);
  ASSERT_TRUE(read) << read.error().Text();
  EXPECT_EQ(read->selectors.size(), 1U);
  EXPECT_EQ(read->life, seconds(1200));
}

TEST(Grant, ATokenOfAllScopesWidensNothing) {
  Applicant who = Csmf();
  who.scopes = {"*", "nsi:*", "nsi:manage"};
  const auto grant = Decided(who, kNow);
  ASSERT_TRUE(grant);
  EXPECT_EQ(grant->selectors.size(), 2U);
}

TEST(Grant, EndsWithWhateverEndsFirst) {
  Applicant who = Csmf();
  who.token_expiry = kNow + seconds(90);
  EXPECT_EQ(Decided(who, kNow)->life, seconds(90));
  who.certificate_expiry = kNow + seconds(30);
  EXPECT_EQ(Decided(who, kNow)->life, seconds(30));
}

TEST(Grant, WhatIsOpenOnlyAfterRegistrationStandsApart) {
  model::Document policy = Policy();
  const auto manage = std::ranges::find(policy.policies, "manage", &model::Policy::name);
  ASSERT_NE(manage, policy.policies.end());
  manage->registration_ports = {{model::Protocol::tcp, 8080, 8080}};
  const auto grant = Decide(PolicyView(policy), Denials(), Csmf(), kNow);
  ASSERT_TRUE(grant) << grant.error().Text();
  ASSERT_EQ(grant->selectors.size(), 1U);  // no way back to the callback port yet
  EXPECT_EQ(grant->selectors[0].local_ports().first(), 8080U);
  EXPECT_EQ(grant->registered_selectors.size(), 2U);
  EXPECT_TRUE(Decided(Csmf(), kNow)->registered_selectors.empty());
}

TEST(Grant, PreSharedKeysAdmitTheirOwnPeer) {
  const auto grant = Decided(Gateway(), kNow);
  ASSERT_TRUE(grant) << grant.error().Text();
  EXPECT_EQ(grant->peer, "gw");
}

struct Case {
  const char* name;
  Reason reason;
  void (*spoil)(Applicant& who, model::Document& policy, Denials& denied);
  bool psk = false;
};

class Refused : public testing::TestWithParam<Case> {};

TEST_P(Refused, AndItsTwinIsNot) {
  Applicant who = GetParam().psk ? Gateway() : Csmf();
  model::Document policy = Policy();
  Denials denied;
  ASSERT_TRUE(Decide(PolicyView(policy), denied, who, kNow));
  GetParam().spoil(who, policy, denied);
  const auto grant = Decide(PolicyView(policy), denied, who, kNow);
  ASSERT_FALSE(grant);
  EXPECT_EQ(grant.error().reason, GetParam().reason) << grant.error().Text();
}

// Where there is a certificate, the guard has seen the proof; policy names no key for it.
TEST(Grant, ACertificatesTokenMayBeBoundToAKeyOfProofs) {
  Applicant who = Csmf();
  who.proof_key_thumbprint = Gateway().proof_key_thumbprint;
  EXPECT_TRUE(Decided(who, kNow));
}

// Each spoils one thing.
constexpr auto kCases = std::to_array<Case>({
    {"UnknownName", Reason::peer_unknown,
     [](Applicant& who, model::Document&, Denials&) { who.names = {"csmf-9.example"}; }},
    {"TwoPeersInOne", Reason::peer_unknown,
     [](Applicant& who, model::Document&, Denials&) {
       who.names = {"csmf-1.example", "csmf-2.example"};
     }},
    {"PskNameInACertificate", Reason::peer_unknown,
     [](Applicant& who, model::Document&, Denials&) { who.names = {"gateway"}; }},
    {"CertificatePeerByPsk", Reason::peer_unknown,
     [](Applicant& who, model::Document&, Denials&) { who.psk_peer = "csmf-1"; }, true},
    {"AnothersToken", Reason::token_client_fail,
     [](Applicant& who, model::Document&, Denials&) { who.client_id = "gw"; }},
    {"AnotherIssuer", Reason::token_client_fail,
     [](Applicant& who, model::Document&, Denials&) { who.issuer = "https://as.other"; }},
    {"PeerWithoutTokens", Reason::token_client_fail,
     [](Applicant& who, model::Document&, Denials&) { who.names = {"csmf-2.example"}; }},
    {"AnotherProofKey", Reason::token_binding_fail,
     [](Applicant& who, model::Document&, Denials&) { who.proof_key_thumbprint[0] = 'M'; }, true},
    {"NoProofKey", Reason::token_binding_fail,
     [](Applicant& who, model::Document&, Denials&) { who.proof_key_thumbprint.clear(); }, true},
    {"RevokedPeer", Reason::peer_revoked,
     [](Applicant&, model::Document&, Denials& denied) {
       denied.Deny({{Kind::peer, "", "csmf-1"}, "", "", {}, {}}, 2);
     }},
    {"RevokedCertificate", Reason::cert_revoked,
     [](Applicant&, model::Document&, Denials& denied) {
       denied.Deny({{Kind::certificate, "CN=ca", "0A"}, "", "", {}, {}}, 2);
     }},
    {"RevokedToken", Reason::token_revoked,
     [](Applicant&, model::Document&, Denials& denied) {
       denied.Deny({{Kind::token, "https://as.example", "t"}, "", "", {}, {}}, 2);
     }},
    {"RevokedPolicies", Reason::policy_denied,
     [](Applicant&, model::Document& policy, Denials& denied) {
       for (const auto& p : policy.policies)
         denied.Deny({{Kind::policy, "", p.name}, "", "", {}, {}}, 2);
     }},
    {"Disabled", Reason::peer_revoked,
     [](Applicant&, model::Document& policy, Denials&) { policy.peers[0].enabled = false; }},
    {"UnknownInterface", Reason::policy_denied,
     [](Applicant& who, model::Document&, Denials&) { who.interface = "scef"; }},
    {"AnotherRole", Reason::policy_denied,
     [](Applicant&, model::Document& policy, Denials&) { policy.peers[0].role = "vnfm"; }},
    {"OnlyBehindTls", Reason::policy_denied,
     [](Applicant& who, model::Document&, Denials&) { who.interface = "tls-only"; }},
    {"NoScopeOpensIt", Reason::token_scope_fail,
     [](Applicant& who, model::Document&, Denials&) { who.interface = "oam"; }},
    {"AnotherScope", Reason::token_scope_fail,
     [](Applicant& who, model::Document&, Denials&) { who.scopes = {"nsi"}; }},
    {"NoScope", Reason::token_scope_fail,
     [](Applicant& who, model::Document&, Denials&) { who.scopes.clear(); }},
    {"EmptyScope", Reason::token_scope_fail,
     [](Applicant& who, model::Document&, Denials&) { who.scopes = {""}, who.interface = "oam"; }},
    {"NoTimeLeft", Reason::token_expired,
     [](Applicant& who, model::Document&, Denials&) { who.token_expiry = kNow; }},
});

INSTANTIATE_TEST_SUITE_P(All, Refused, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace portcullis::admission
