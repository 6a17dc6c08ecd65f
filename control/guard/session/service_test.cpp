// Sessions of peers with certificates. Each refusal has its twin, the same request made right, most
// often on the same connection.
#include "control/guard/session/test_service.hpp"

namespace portcullis::guard {
namespace {

using Kind = admission::Request::KindCase;
using namespace std::chrono_literals;
constexpr const char* kSessions = "/session/v1/sessions";

class SessionTest : public ServiceTest {
 protected:
  using ServiceTest::ServiceTest;

  Reply Post(Client& client, const Headers& headers, const json& body = Body()) {
    return Ask(client, "POST", kSessions, headers, body.dump());
  }
  // The twin of a refusal.
  void ExpectOpens(Client& client) {
    const Reply opened = Post(client, Bearer(peer_));
    EXPECT_EQ(opened.status, 201U) << opened.body;
  }
  // What a peer may learn of a refusal: its class, and a reference.
  void ExpectProblem(const Reply& reply, unsigned status, const std::string& slug) {
    EXPECT_EQ(reply.status, status) << reply.body;
    EXPECT_EQ(reply.Header("Content-Type"), "application/problem+json");
    if (!reply.body.is_object()) return;
    EXPECT_EQ(reply.body.value("type", ""), "urn:portcullis:problem:guard:" + slug);
    EXPECT_EQ(reply.body.value("status", 0U), status);
    EXPECT_EQ(reply.body.value("reference", "").size(), 16U);
    if (status != 400 && status != 413) {
      EXPECT_EQ(reply.body.size(), 4U) << reply.body;
    }
  }
  // Refused before control was asked, which is told all the same.
  void ExpectRefused(const Reply& reply, unsigned status, const std::string& slug, Reason reason) {
    ExpectProblem(reply, status, slug);
    EXPECT_EQ(Refused(reason), 1U);
    EXPECT_TRUE(Asked(Kind::kAdmit).empty());
    const auto told = control_.Wait(Kind::kRefused).refused();
    EXPECT_EQ(told.refusal().reason(), identity::Info(reason).name);
    EXPECT_EQ(told.refusal().reference(), reply.body.value("reference", "none"));
    EXPECT_GT(told.identity().names_size(), 0);
    EXPECT_EQ(told.source(), std::string("\x7f\x00\x00\x01", 4));
  }
  void ExpectTokenRefused(const json& change, unsigned status, const std::string& slug,
                          Reason reason) {
    const auto client = Connected(peer_);
    const Reply reply = Post(*client, Bearer(peer_, change));
    ExpectRefused(reply, status, slug, reason);
    EXPECT_EQ(reply.Header("WWW-Authenticate"), "Bearer error=\"" + slug + "\"");
    ExpectOpens(*client);
  }
};

// ---- what passes

TEST_F(SessionTest, OpensIsConfirmedAndEndsTheConnection) {
  const auto client = Connected(peer_);
  json body = Body();
  body["initial_contact"] = true;
  body["udp_encap"] = true;
  const Reply opened = Post(*client, Bearer(peer_), body);
  ASSERT_EQ(opened.status, 201U) << opened.body;
  EXPECT_EQ(opened.Header("Location"), "/session/v1/sessions/s-1");
  EXPECT_EQ(opened.Header("Cache-Control"), "no-store");
  json answer = opened.body;
  EXPECT_EQ(identity::DecodeBase64Url(answer.at("nonce").get<std::string>())->size(), kNonceBytes);
  answer.erase("nonce");
  EXPECT_EQ(answer, json({{"session", "s-1"},
                          {"generation", 1},
                          {"interface", "exposure"},
                          {"spi", 0x10000001},
                          {"algorithm", "aes-256-gcm-16"},
                          {"esn", true},
                          {"replay_window", 1024},
                          {"selectors",
                           {{{"gate", "192.0.2.0/24"},
                             {"peer", "198.51.100.7/32"},
                             {"protocol", 6},
                             {"gate_ports", {443, 443}},
                             {"peer_ports", {0, 65535}}}}},
                          {"expires_in", 900},
                          {"gate_identity", kGateName},
                          {"peer_identity", "csmf-1.tenant-a.example"}}));
  ExpectSameKeys(*client, Mode::certificate, body, opened.body);

  const auto asked = Asked(Kind::kAdmit);
  ASSERT_EQ(asked.size(), 1U);
  const admission::Admit& admit = asked[0].admit();
  EXPECT_EQ(admit.identity().mode(), admission::CERTIFICATE);
  ASSERT_EQ(admit.identity().names_size(), 1);
  EXPECT_EQ(admit.identity().names(0), "csmf-1.tenant-a.example");
  const auto id = identity::IdOf(peer_.certificate.get());
  ASSERT_EQ(admit.identity().chain_size(), 1);
  EXPECT_EQ(admit.identity().chain(0).issuer(), id.issuer);
  EXPECT_EQ(admit.identity().chain(0).serial(), id.serial);
  EXPECT_EQ(admit.identity().chain(0).authority().size(), 64U);
  EXPECT_EQ(admit.identity().spki_sha256().size(), 64U);
  EXPECT_GT(admit.identity().certificate_not_after(), static_cast<uint64_t>(Now()));
  EXPECT_EQ(admit.identity().source(), std::string("\x7f\x00\x00\x01", 4));
  EXPECT_TRUE(admit.identity().psk_peer().empty());
  EXPECT_EQ(admit.token().issuer(), pki::kIssuer);
  EXPECT_EQ(admit.token().client_id(), "csmf-1");
  EXPECT_EQ(admit.token().subject(), "csmf-1.tenant-a.example");
  EXPECT_EQ(admit.token().jti(), "4f1f3c1e-7f5a");
  EXPECT_EQ(admit.token().kid(), "es256-1");
  EXPECT_EQ(admit.token().scopes_size(), 2);
  EXPECT_GT(admit.token().expiry(), static_cast<uint64_t>(Now()));
  EXPECT_TRUE(admit.token().proof_key_thumbprint().empty());
  EXPECT_EQ(admit.interface(), "exposure");
  EXPECT_TRUE(admit.session().empty());
  EXPECT_EQ(admit.peer_spi(), 0x20000001U);
  ASSERT_EQ(admit.algorithms_size(), 2);
  EXPECT_EQ(admit.algorithms(0), admission::AES_256_GCM_16);
  EXPECT_TRUE(admit.initial_contact());
  EXPECT_TRUE(admit.udp_encap());
  EXPECT_EQ(admit.peer_outer(), std::string("\x7f\x00\x00\x01", 4));
  EXPECT_EQ(admit.gate_outer(), std::string("\x7f\x00\x00\x01", 4));

  const Reply confirmed = Ask(*client, "POST", "/session/v1/sessions/s-1/confirm", {});
  EXPECT_EQ(confirmed.status, 204U) << confirmed.body;
  const auto confirms = Asked(Kind::kConfirm);
  ASSERT_EQ(confirms.size(), 1U);
  EXPECT_EQ(confirms[0].confirm().session(), "s-1");
  EXPECT_EQ(confirms[0].confirm().generation(), 1U);
  EXPECT_EQ(confirmed.Header("Connection"), "close");
  EXPECT_TRUE(Closed(*client));
}

TEST_F(SessionTest, RenewalIsANewConnectionWithOtherKeys) {
  const auto first = Connected(peer_);
  ASSERT_EQ(Post(*first, Bearer(peer_)).status, 201U);
  const auto second = Connected(peer_);
  json body = Body();
  body["session"] = "s-1";
  body["spi"] = 0x20000002;
  const Reply renewed = Post(*second, Bearer(peer_), body);
  ASSERT_EQ(renewed.status, 201U) << renewed.body;
  EXPECT_EQ(renewed.body.at("session"), "s-1");
  EXPECT_EQ(renewed.body.at("generation"), 2);
  EXPECT_EQ(Asked(Kind::kAdmit)[1].admit().session(), "s-1");
  ExpectSameKeys(*second, Mode::certificate, body, renewed.body);
  const auto installs = Asked(Kind::kInstall);
  ASSERT_EQ(installs.size(), 2U);
  EXPECT_NE(installs[0].install().inbound_key(), installs[1].install().inbound_key());
}

TEST_F(SessionTest, OuterAddressesAreTakenFromTheRequest) {
  const auto client = Connected(peer_);
  json body = Body();
  body["outer"] = {{"peer", "198.51.100.9"}, {"gate", "2001:db8::1"}};
  const Reply mixed = Post(*client, Bearer(peer_), body);
  EXPECT_EQ(mixed.status, 400U) << mixed.body;
  body["outer"]["gate"] = "192.0.2.1";
  ASSERT_EQ(Post(*client, Bearer(peer_), body).status, 201U);
  const admission::Admit admit = control_.Wait(Kind::kAdmit).admit();
  EXPECT_EQ(admit.peer_outer(), std::string("\xc6\x33\x64\x09", 4));
  EXPECT_EQ(admit.gate_outer(), std::string("\xc0\x00\x02\x01", 4));
}

TEST_F(SessionTest, TheKeysOfAnotherContextAreOthers) {
  const auto client = Connected(peer_);
  const Reply opened = Post(*client, Bearer(peer_));
  ASSERT_EQ(opened.status, 201U);
  KeyContext context = ContextOf(*client, Mode::certificate, Body(), opened.body);
  context.interface = kOtherInterface;
  const auto master = MasterKey::Export(client->ssl(), context);
  ASSERT_TRUE(master);
  const auto key = master->Expand(Direction::inbound, context.to_gate, context.algorithm);
  EXPECT_NE(Asked(Kind::kInstall)[0].install().inbound_key(),
            std::string(key->bytes().begin(), key->bytes().end()));
}

// ---- tokens

TEST_F(SessionTest, NoToken) {
  const auto client = Connected(peer_);
  const Reply reply = Post(*client, {});
  ExpectRefused(reply, 401, "invalid_token", Reason::token_missing);
  EXPECT_EQ(reply.Header("WWW-Authenticate"), "Bearer");
  ExpectOpens(*client);
}

TEST_F(SessionTest, AnotherSchemeIsNoToken) {
  const auto client = Connected(peer_);
  const Headers dpop = {{"Authorization", "DPoP " + Token(BoundTo(peer_))}};
  ExpectRefused(Post(*client, dpop), 401, "invalid_token", Reason::token_missing);
  ExpectOpens(*client);
}

TEST_F(SessionTest, TheTokenOfSomebodyElse) {
  const auto client = Connected(peer_);
  ExpectRefused(Post(*client, Bearer(other_)), 401, "invalid_token", Reason::token_binding_fail);
  ExpectOpens(*client);
  const auto its_owner = Connected(other_);
  EXPECT_EQ(Post(*its_owner, Bearer(other_)).status, 201U);
}

TEST_F(SessionTest, ATokenBoundToAProofKey) {
  const auto client = Connected(peer_);
  const Headers bearer = {
      {"Authorization", "Bearer " + Token({{"jkt", pki::Thumbprint(as_key_)}})}};
  ExpectRefused(Post(*client, bearer), 401, "invalid_token", Reason::token_binding_fail);
  ExpectOpens(*client);
}

TEST_F(SessionTest, AnExpiredToken) {
  ExpectTokenRefused({{"exp", Now() - 60}}, 401, "invalid_token", Reason::token_expired);
}

TEST_F(SessionTest, ATokenForAnotherInterface) {
  ExpectTokenRefused({{"aud", kOtherAudience}}, 401, "invalid_token", Reason::token_aud_fail);
}

TEST_F(SessionTest, ATokenWithoutScope) {
  ExpectTokenRefused({{"scope", nullptr}}, 403, "insufficient_scope", Reason::token_scope_fail);
}

TEST_F(SessionTest, AForgedToken) {
  const auto client = Connected(peer_);
  Headers bearer = Bearer(peer_);
  char& last = bearer[0].second.at(bearer[0].second.size() - 20);
  last = last == 'A' ? 'B' : 'A';
  ExpectRefused(Post(*client, bearer), 401, "invalid_token", Reason::token_sig_fail);
  ExpectOpens(*client);
}

TEST_F(SessionTest, AnUnknownInterface) {
  const auto client = Connected(peer_);
  json body = Body();
  body["interface"] = "nowhere";
  ExpectRefused(Post(*client, Bearer(peer_), body), 401, "invalid_token", Reason::token_aud_fail);
  EXPECT_EQ(control_.Wait(Kind::kRefused).refused().interface(), "nowhere");
  ExpectOpens(*client);
}

TEST_F(SessionTest, ACertificateThatWasRevokedAfterItsHandshake) {
  const auto client = Connected(peer_);
  const auto other = Connected(other_);
  ASSERT_EQ(Ask(*client, "GET", "/", {}).status, 404U);  // the handshake is over on both sides
  revocations_.Deny({{identity::IdOf(peer_.certificate.get()),
                      std::chrono::system_clock::now() + std::chrono::hours(1)}});
  const Reply reply = Post(*client, Bearer(peer_));
  ExpectProblem(reply, 403, "denied");
  EXPECT_EQ(Refused(Reason::cert_revoked), 1U);
  EXPECT_TRUE(Asked(Kind::kAdmit).empty());
  EXPECT_EQ(Post(*other, Bearer(other_)).status, 201U);
}

// ---- requests

TEST_F(SessionTest, BodiesAreReadStrictly) {
  struct Case {
    const char* name;
    json change;  // null members are taken out
    std::string field;
  };
  const Case cases[] = {
      {"no interface", {{"interface", nullptr}}, "/interface"},
      {"not a name", {{"interface", "Exposure!"}}, "/interface"},
      {"interface of another type", {{"interface", 7}}, "/interface"},
      {"session of another type", {{"session", 7}}, "/session"},
      {"too long a session", {{"session", std::string(65, 's')}}, "/session"},
      {"not a flag", {{"initial_contact", "yes"}}, "/initial_contact"},
      {"no SPI", {{"spi", nullptr}}, "/spi"},
      {"a reserved SPI", {{"spi", 255}}, "/spi"},
      {"too large an SPI", {{"spi", 0x100000000}}, "/spi"},
      {"a negative SPI", {{"spi", -1}}, "/spi"},
      {"an SPI as text", {{"spi", "256"}}, "/spi"},
      {"no algorithms", {{"algorithms", nullptr}}, "/algorithms"},
      {"an empty list", {{"algorithms", json::array()}}, "/algorithms"},
      {"an unknown algorithm", {{"algorithms", {"aes-128-gcm-16", "null"}}}, "/algorithms/1"},
      {"an algorithm as number", {{"algorithms", {1}}}, "/algorithms/0"},
      {"an algorithm twice",
       {{"algorithms", {"aes-128-gcm-16", "aes-128-gcm-16"}}},
       "/algorithms/1"},
      {"no nonce", {{"nonce", nullptr}}, "/nonce"},
      {"a short nonce", {{"nonce", "BwcHBwcHBwc"}}, "/nonce"},
      {"a padded nonce", {{"nonce", std::string(43, 'A') + "="}}, "/nonce"},
      {"encapsulation as number", {{"udp_encap", 1}}, "/udp_encap"},
      {"outer as text", {{"outer", "192.0.2.1"}}, "/outer"},
      {"not an address", {{"outer", {{"peer", "here"}}}}, "/outer/peer"},
      {"not an address either", {{"outer", {{"gate", 1}}}}, "/outer/gate"},
      {"an unknown member of outer", {{"outer", {{"port", 1}}}}, "/outer/port"},
      {"an unknown member", {{"sip", 1}}, "/sip"},
  };
  uint64_t refused = 0;
  for (const Case& c : cases) {
    json body = Body();
    body.update(c.change);
    for (const auto& [name, value] : c.change.items()) {
      if (value.is_null()) body.erase(name);
    }
    const auto client = Connected(peer_);
    const Reply reply = Post(*client, Bearer(peer_), body);
    ExpectProblem(reply, 400, "malformed");
    EXPECT_EQ(reply.body.value("field", ""), c.field) << c.name << ": " << reply.body;
    EXPECT_FALSE(reply.body.value("expected", "").empty()) << c.name;
    EXPECT_EQ(Refused(Reason::request_malformed), ++refused) << c.name;
  }
  EXPECT_TRUE(Asked(Kind::kAdmit).empty());
  const auto client = Connected(peer_);
  for (const char* text : {"", "{", "[]", R"({"spi": 256, "spi": 257})"}) {
    const Reply reply = Ask(*client, "POST", kSessions, Bearer(peer_), text);
    ExpectProblem(reply, 400, "malformed");
  }
  ExpectOpens(*client);
}

TEST_F(SessionTest, WhatIsNotThere) {
  const auto client = Connected(peer_);
  for (const char* target :
       {"/", "/session/v1/session", "/session/v1/sessions/", "/session/v1/sessions/a/b",
        "/session/v1/sessions/a%2fb", "/session/v1/sessions//confirm"}) {
    ExpectProblem(Ask(*client, "POST", target, Bearer(peer_)), 404, "not_found");
  }
  const Reply get = Ask(*client, "GET", kSessions, Bearer(peer_));
  ExpectProblem(get, 405, "method_not_allowed");
  EXPECT_EQ(get.Header("Allow"), "POST");
  ExpectOpens(*client);
}

TEST_F(SessionTest, AHeaderThatAppearsTwice) {
  const auto client = Connected(peer_);
  Headers twice = Bearer(peer_);
  twice.push_back(twice[0]);
  ExpectProblem(Post(*client, twice), 400, "malformed");
  ExpectOpens(*client);
}

TEST_F(SessionTest, TooMuchAndWhatIsNoHttp) {
  const auto large = Connected(peer_);
  ExpectProblem(Ask(*large, "POST", kSessions, Bearer(peer_), std::string(8193, ' ')), 413,
                "too_large");
  EXPECT_TRUE(Closed(*large));
  const auto fits = Connected(peer_);
  std::string body = Body().dump();
  body += std::string(8192 - body.size(), ' ');
  EXPECT_EQ(Ask(*fits, "POST", kSessions, Bearer(peer_), body).status, 201U);

  const auto strange = Connected(peer_);
  ASSERT_TRUE(Write(*strange, "EHLO peer\r\n\r\n"));
  EXPECT_EQ(ReadReply(*strange).status, 400U);
  EXPECT_TRUE(Closed(*strange));
}

TEST_F(SessionTest, AConnectionHasAFewRequestsOnly) {
  const auto client = Connected(peer_);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Post(*client, {}).status, 401U) << i;
  EXPECT_EQ(Post(*client, Bearer(peer_)).status, 0U);
}

// ---- what control says

TEST_F(SessionTest, ControlRefuses) {
  const struct {
    const char* reason;
    Reason known;
    unsigned status;
    const char* slug;
  } cases[] = {
      {"policy_denied", Reason::policy_denied, 403, "denied"},
      {"peer_unknown", Reason::peer_unknown, 403, "denied"},
      {"token_scope_fail", Reason::token_scope_fail, 403, "insufficient_scope"},
      {"token_client_fail", Reason::token_client_fail, 401, "invalid_token"},
      {"session_conflict", Reason::session_conflict, 409, "conflict"},
      {"gate_unavailable", Reason::gate_unavailable, 503, "unavailable"},
      {"of_the_future", Reason::gate_unavailable, 503, "unavailable"},
  };
  const auto client = Connected(peer_);
  for (const auto& c : cases) {
    const uint64_t before = Refused(c.known);
    Refuse(Kind::kAdmit, c.reason);
    const Reply reply = Post(*client, Bearer(peer_));
    ExpectProblem(reply, c.status, c.slug);
    EXPECT_EQ(reply.body.value("reference", ""), kReference);  // by which control knows it
    EXPECT_EQ(Refused(c.known), before + 1) << c.reason;
  }
  EXPECT_TRUE(Asked(Kind::kInstall).empty());
  EXPECT_TRUE(Asked(Kind::kRefused).empty());  // it knows
  Relent();
  ExpectOpens(*client);  // nothing was exported yet
}

TEST_F(SessionTest, ControlRefusesToInstall) {
  Refuse(Kind::kInstall, "peer_revoked");
  const auto client = Connected(peer_);
  ExpectProblem(Post(*client, Bearer(peer_)), 403, "denied");
  Relent();
  // The connection has given its keys, whatever came of them.
  ExpectProblem(Post(*client, Bearer(peer_)), 409, "conflict");
  EXPECT_EQ(Ask(*client, "POST", "/session/v1/sessions/s-1/confirm", {}).status, 409U);
  EXPECT_TRUE(Asked(Kind::kConfirm).empty());
  ExpectOpens(*Connected(peer_));
}

TEST_F(SessionTest, ASecondExportIsRefused) {
  const auto client = Connected(peer_);
  ExpectOpens(*client);
  ExpectProblem(Post(*client, Bearer(peer_)), 409, "conflict");
  EXPECT_EQ(Asked(Kind::kInstall).size(), 1U);
  EXPECT_EQ(Ask(*client, "POST", "/session/v1/sessions/s-1/confirm", {}).status, 204U);
  ExpectOpens(*Connected(peer_));
}

TEST_F(SessionTest, AnAnswerOfControlThatMakesNoSense) {
  const auto client = Connected(peer_);
  const auto answer_with = [&](auto change) {
    control_.OnRequest([this, change](const admission::Request& request) {
      auto response = Decide(request);
      if (request.has_admit()) change(*response->mutable_admitted());
      return response;
    });
    ExpectProblem(Post(*client, Bearer(peer_)), 503, "unavailable");
  };
  answer_with([](admission::Admitted& a) { a.set_gate_spi(255); });
  answer_with([](admission::Admitted& a) { a.set_algorithm(admission::CHACHA20_POLY1305); });
  answer_with([](admission::Admitted& a) { a.clear_session(); });
  answer_with([](admission::Admitted& a) { a.mutable_selectors(0)->set_protocol(256); });
  answer_with(
      [](admission::Admitted& a) { a.mutable_selectors(0)->mutable_gate()->set_address("abc"); });
  EXPECT_TRUE(Asked(Kind::kInstall).empty());
  control_.OnRequest([this](const admission::Request& request) { return Decide(request); });
  ExpectOpens(*client);
}

TEST_F(SessionTest, ControlIsAway) {
  const auto client = Connected(peer_);
  On([&] {
    link_.Stop();
    return true;
  });
  const auto before = std::chrono::steady_clock::now();
  const Reply reply = Post(*client, Bearer(peer_));
  EXPECT_LT(std::chrono::steady_clock::now() - before, ControlLink::kDefaultTimeout);
  ExpectProblem(reply, 503, "unavailable");
  EXPECT_EQ(reply.Header("Retry-After"), "1");
}

TEST_F(SessionTest, ControlIsBackAgain) {
  control_.HangUp();
  const auto client = Connected(peer_);
  WaitForControl(true);
  ExpectOpens(*client);
}

// ---- confirmation and end

TEST_F(SessionTest, OnlyWhatTheConnectionOpenedCanBeConfirmed) {
  const auto idle = Connected(peer_);
  EXPECT_EQ(Ask(*idle, "POST", "/session/v1/sessions/s-1/confirm", {}).status, 409U);
  const auto client = Connected(peer_);
  ExpectOpens(*client);
  EXPECT_EQ(Ask(*client, "POST", "/session/v1/sessions/s-2/confirm", {}).status, 409U);
  EXPECT_EQ(Ask(*idle, "POST", "/session/v1/sessions/s-1/confirm", {}).status, 409U);
  EXPECT_TRUE(Asked(Kind::kConfirm).empty());
  EXPECT_EQ(Ask(*client, "POST", "/session/v1/sessions/s-1/confirm", {}).status, 204U);
  EXPECT_EQ(Asked(Kind::kConfirm).size(), 1U);
}

TEST_F(SessionTest, APeerEndsItsSession) {
  const auto client = Connected(peer_);
  const std::string session = "/session/v1/sessions/s-1";
  ExpectProblem(Ask(*client, "DELETE", session, {}), 401, "invalid_token");
  ExpectProblem(Ask(*client, "DELETE", session, Bearer(other_)), 401, "invalid_token");
  ExpectProblem(Ask(*client, "DELETE", session, Bearer(peer_, {{"aud", "https://else"}})), 401,
                "invalid_token");
  EXPECT_TRUE(Asked(Kind::kEnd).empty());
  Refuse(Kind::kEnd, "session_conflict");
  ExpectProblem(Ask(*client, "DELETE", session, Bearer(peer_)), 409, "conflict");
  Relent();
  EXPECT_EQ(Ask(*client, "DELETE", session, Bearer(peer_)).status, 204U);
  const auto ends = Asked(Kind::kEnd);
  ASSERT_EQ(ends.size(), 2U);
  EXPECT_EQ(ends[1].end().session(), "s-1");
  EXPECT_EQ(ends[1].end().identity().names(0), "csmf-1.tenant-a.example");
}

class ShortConfirmationTest : public SessionTest {
 protected:
  ShortConfirmationTest() : SessionTest(std::chrono::milliseconds(200)) {}
};

TEST_F(ShortConfirmationTest, AConnectionThatIsNotConfirmedIsClosed) {
  const auto client = Connected(peer_);
  ExpectOpens(*client);
  EXPECT_TRUE(Closed(*client));  // long before a request's own time is over
  EXPECT_TRUE(Asked(Kind::kConfirm).empty());
}

// ---- handshakes

TEST_F(SessionTest, RefusedHandshakesAreToldToControl) {
  const auto stranger_ca = pki::Issue(pki::CaSpec("another"));
  const auto stranger = pki::Issue(pki::ClientSpec("csmf-1.tenant-a.example"), &stranger_ca);
  const auto client = Connected(stranger);
  EXPECT_EQ(Post(*client, Bearer(stranger)).status, 0U);
  const auto told = control_.Wait(Kind::kRefused).refused();
  EXPECT_EQ(told.refusal().reason(), "cert_chain_fail");
  EXPECT_EQ(Refused(Reason::cert_chain_fail), 1U);
  ExpectOpens(*Connected(peer_));
}

}  // namespace
}  // namespace portcullis::guard
