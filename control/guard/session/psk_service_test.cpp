// Sessions of peers with pre-shared keys, whose tokens are bound by proofs of possession.
#include "control/guard/session/test_psk.hpp"

namespace portcullis::guard {
namespace {

using Kind = admission::Request::KindCase;
constexpr const char* kSessions = "/session/v1/sessions";

class PskSessionTest : public ServiceTest {
 protected:
  std::unique_ptr<Client> ConnectedByKey() {
    const CtxPtr context = AnyClient(TLS1_3_VERSION, TLS1_3_VERSION);
    SSL_CTX_set_psk_use_session_callback(context.get(), UseKey);
    auto client = std::make_unique<Client>(by_psk_.port(), context.get());
    EXPECT_TRUE(client->Connect()) << ErrorsOfClient();
    return client;
  }

  // What a proof says; `change` says it wrong.
  static json Claims(const std::string& token, const std::string& nonce,
                     const json& change = json::object()) {
    json claims = {{"jti", NewJti()},
                   {"htm", "POST"},
                   {"htu", std::string(kUrl) + kSessions},
                   {"iat", Now()},
                   {"ath", identity::EncodeBase64Url(identity::DigestOf(token))},
                   {"nonce", nonce}};
    claims.update(change);
    return claims;
  }
  std::string BoundToken() { return Token({{"jkt", pki::Thumbprint(key_)}}); }

  Reply Post(Client& client, const std::string& token, const std::string& proof) {
    Headers headers = {{"Authorization", "DPoP " + token}};
    if (!proof.empty()) headers.emplace_back("DPoP", proof);
    return Ask(client, "POST", kSessions, headers, Body().dump());
  }
  // A nonce of the connection, as a peer gets it.
  std::string Nonce(Client& client) {
    const Reply reply = Post(client, token_, "");
    EXPECT_EQ(reply.status, 401U);
    EXPECT_EQ(reply.Header("WWW-Authenticate"), "DPoP error=\"use_dpop_nonce\"");
    EXPECT_FALSE(reply.Header("DPoP-Nonce").empty());
    return reply.Header("DPoP-Nonce");
  }
  // Returns the next nonce.
  std::string ExpectRefused(const Reply& reply, const std::string& error, Reason reason) {
    EXPECT_EQ(reply.status, 401U) << reply.body;
    EXPECT_EQ(reply.Header("WWW-Authenticate"), "DPoP error=\"" + error + "\"");
    EXPECT_GE(Refused(reason), 1U) << log_text_.str();
    EXPECT_TRUE(Asked(Kind::kAdmit).empty());
    return reply.Header("DPoP-Nonce");
  }
  void ExpectOpens(Client& client, const std::string& nonce) {
    const Reply opened = Post(client, token_, Proof(key_, Claims(token_, nonce)));
    EXPECT_EQ(opened.status, 201U) << opened.body << log_text_.str();
  }

  pki::TestKey key_ = pki::TestKey::Ec();
  std::string token_ = BoundToken();
};

TEST_F(PskSessionTest, OpensWithAProofForTheGatesNonce) {
  const auto client = ConnectedByKey();
  const std::string nonce = Nonce(*client);
  EXPECT_EQ(Refused(Reason::dpop_fail), 0U);  // asking for it is no refusal
  const Reply opened = Post(*client, token_, Proof(key_, Claims(token_, nonce)));
  ASSERT_EQ(opened.status, 201U) << opened.body << log_text_.str();
  EXPECT_EQ(opened.body.at("peer_identity"), kPskIdentity);
  ExpectSameKeys(*client, Mode::psk, Body(), opened.body);
  const admission::Admit admit = control_.Wait(Kind::kAdmit).admit();
  EXPECT_EQ(admit.identity().mode(), admission::PSK);
  EXPECT_EQ(admit.identity().psk_peer(), "gateway-7");
  EXPECT_EQ(admit.identity().names_size(), 0);
  EXPECT_EQ(admit.token().proof_key_thumbprint(), pki::Thumbprint(key_));
  EXPECT_EQ(Ask(*client, "POST", "/session/v1/sessions/s-1/confirm", {}).status, 204U);
}

TEST_F(PskSessionTest, WhatAProofMustSay) {
  const struct {
    const char* name;
    json change;
  } cases[] = {
      {"another URL", {{"htu", "https://gate.example:4434/session/v1/other"}}},
      {"another gate", {{"htu", "https://other.example:4434/session/v1/sessions"}}},
      {"another method", {{"htm", "GET"}}},
      {"another token", {{"ath", identity::EncodeBase64Url(identity::DigestOf("another"))}}},
      {"too old", {{"iat", Now() - 600}}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto client = ConnectedByKey();
    const std::string nonce = Nonce(*client);
    const Reply reply = Post(*client, token_, Proof(key_, Claims(token_, nonce, c.change)));
    ExpectRefused(reply, "invalid_dpop_proof", Reason::dpop_fail);
  }
  const auto client = ConnectedByKey();
  std::string nonce = Nonce(*client);
  for (const char* unknown : {"AAAAAAAAAAAAAAAAAAAAAA", ""}) {
    const std::string proof = Proof(key_, Claims(token_, unknown));
    nonce = ExpectRefused(Post(*client, token_, proof), "use_dpop_nonce", Reason::dpop_nonce_fail);
  }
  const std::string next =
      ExpectRefused(Post(*client, token_, ""), "invalid_dpop_proof", Reason::dpop_fail);
  EXPECT_NE(next, nonce);
  ExpectOpens(*client, next);
}

TEST_F(PskSessionTest, AProofServesOnce) {
  const auto first = ConnectedByKey();
  const std::string nonce = Nonce(*first);
  Refuse(Kind::kAdmit, "policy_denied");
  const std::string proof = Proof(key_, Claims(token_, nonce));
  EXPECT_EQ(Post(*first, token_, proof).status, 403U);
  Relent();
  // The same again: its nonce is spent.
  const Reply again = Post(*first, token_, proof);
  EXPECT_EQ(again.status, 401U);
  EXPECT_EQ(Refused(Reason::dpop_nonce_fail), 1U);
  ExpectOpens(*first, again.Header("DPoP-Nonce"));
}

TEST_F(PskSessionTest, AProofsIdServesOnceOnAllConnections) {
  const json jti = {{"jti", "the-same"}};
  const auto first = ConnectedByKey();
  EXPECT_EQ(Post(*first, token_, Proof(key_, Claims(token_, Nonce(*first), jti))).status, 201U);
  const auto second = ConnectedByKey();
  const Reply replayed = Post(*second, token_, Proof(key_, Claims(token_, Nonce(*second), jti)));
  EXPECT_EQ(replayed.status, 401U);
  EXPECT_EQ(Refused(Reason::token_replay), 1U);
  ExpectOpens(*second, replayed.Header("DPoP-Nonce"));
}

TEST_F(PskSessionTest, ANonceIsOfOneConnection) {
  const auto first = ConnectedByKey();
  const auto second = ConnectedByKey();
  const std::string nonce = Nonce(*first);
  Nonce(*second);
  const Reply reply = Post(*second, token_, Proof(key_, Claims(token_, nonce)));
  ExpectRefused(reply, "use_dpop_nonce", Reason::dpop_nonce_fail);
  ExpectOpens(*first, nonce);
}

TEST_F(PskSessionTest, AnotherKeysProof) {
  const auto client = ConnectedByKey();
  const auto other = pki::TestKey::Ec();
  const Reply reply = Post(*client, token_, Proof(other, Claims(token_, Nonce(*client))));
  ExpectOpens(*client, ExpectRefused(reply, "invalid_token", Reason::token_binding_fail));
}

TEST_F(PskSessionTest, ATokenBoundToACertificate) {
  const auto client = ConnectedByKey();
  const std::string stolen = Token(BoundTo(peer_));
  const Reply reply = Post(*client, stolen, Proof(key_, Claims(stolen, Nonce(*client))));
  ExpectOpens(*client, ExpectRefused(reply, "invalid_token", Reason::token_binding_fail));
}

TEST_F(PskSessionTest, BearerIsNotEnough) {
  const auto client = ConnectedByKey();
  const std::string nonce = Nonce(*client);
  const Headers bearer = {{"Authorization", "Bearer " + token_}};
  const Reply reply = Ask(*client, "POST", kSessions, bearer, Body().dump());
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(reply.Header("WWW-Authenticate"), "DPoP");
  EXPECT_EQ(Refused(Reason::token_missing), 1U);
  ExpectOpens(*client, nonce);
}

TEST_F(PskSessionTest, EndsWithAProofForThatRequest) {
  const auto client = ConnectedByKey();
  const std::string session = "/session/v1/sessions/s-1";
  const auto end = [&](const std::string& nonce, const json& change) {
    return Ask(*client, "DELETE", session,
               {{"Authorization", "DPoP " + token_},
                {"DPoP", Proof(key_, Claims(token_, nonce, change))}});
  };
  const Reply wrong = end(Nonce(*client), json::object());  // a proof for POST /session/v1/sessions
  EXPECT_EQ(wrong.status, 401U);
  EXPECT_TRUE(Asked(Kind::kEnd).empty());
  const Reply ended =
      end(wrong.Header("DPoP-Nonce"), {{"htm", "DELETE"}, {"htu", std::string(kUrl) + session}});
  EXPECT_EQ(ended.status, 204U) << ended.body << log_text_.str();
  EXPECT_EQ(control_.Wait(Kind::kEnd).end().identity().psk_peer(), "gateway-7");
}

}  // namespace
}  // namespace portcullis::guard
