// Requests with proofs of possession (RFC 9449): of clients with pre-shared keys, and of those with
// certificates where the listener takes both.
#include "control/guard/request/test_requests.hpp"
#include "control/guard/session/test_psk.hpp"

namespace portcullis::guard {
namespace {

class ProvenRequestTest : public RequestServiceTest {
 protected:
  ProvenRequestTest() {
    server_->Then(TestServer::Http("200 OK", "{}", kClose + "DPoP-Nonce: the-servers\r\n"));
  }

  /// What a proof for GET /slices/1 says; `change` says it wrong.
  json Claims(const std::string& nonce, const json& change = json::object()) {
    json claims = {{"jti", NewJti()},
                   {"htm", "GET"},
                   {"htu", std::string(kUrl) + "/slices/1"},
                   {"iat", Now()},
                   {"ath", identity::EncodeBase64Url(identity::DigestOf(token_))},
                   {"nonce", nonce}};
    claims.update(change);
    return claims;
  }
  Reply Get(Client& client, const std::string& proof, const std::string& target = "/slices/1") {
    Headers headers = {{"Authorization", "DPoP " + token_}};
    if (!proof.empty()) headers.emplace_back("DPoP", proof);
    return Ask(client, "GET", target, headers);
  }
  /// Of this connection, as a client gets it.
  std::string Nonce(Client& client) {
    const Reply reply = Get(client, "");
    EXPECT_EQ(reply.status, 401U);
    EXPECT_EQ(reply.Header("WWW-Authenticate"), "DPoP error=\"use_dpop_nonce\"");
    return reply.Header("DPoP-Nonce");
  }

  pki::TestKey key_ = pki::TestKey::Ec();
  std::string token_ = Token({{"jkt", pki::Thumbprint(key_)}});
};

class PskRequestTest : public ProvenRequestTest {
 protected:
  PskRequestTest() {
    boost::asio::post(io_,
                      [this] { boost::asio::co_spawn(io_, by_key_.Run(), boost::asio::detached); });
    AtEnd([this] {
      by_key_.Stop();
      by_key_interface_->server.reset();
    });
  }
  ~PskRequestTest() override { End(); }  // NOLINT(bugprone-exception-escape)

  std::unique_ptr<Client> ConnectedByKey() {
    const CtxPtr context = AnyClient(TLS1_3_VERSION, TLS1_3_VERSION);
    SSL_CTX_set_psk_use_session_callback(context.get(), UseKey);
    auto client = std::make_unique<Client>(by_key_.port(), context.get());
    EXPECT_TRUE(client->Connect()) << ErrorsOfClient();
    return client;
  }

  std::shared_ptr<RequestInterface> by_key_interface_ = [this] {
    auto same = std::make_shared<RequestInterface>(*interface_);
    same->url = kUrl;
    return same;
  }();
  Listener by_key_ = ListenByKeyFor([this](const ListenerLimits& limits) {
    return ServeRequests(requests_, by_key_interface_, limits);
  });
};

TEST_F(PskRequestTest, EachRequestHasAProofOfItsOwn) {
  const auto client = ConnectedByKey();
  std::string nonce = Nonce(*client);
  EXPECT_EQ(Refused(Reason::dpop_fail), 0U);  // asking for it is no refusal
  for (const char* target : {"/slices/1", "/slices/1?a=b", "/slices/1"}) {
    const Reply reply = Get(*client, Proof(key_, Claims(nonce)), target);
    EXPECT_EQ(reply.status, 200U) << reply.body << log_text_.str();
    nonce = reply.Header("DPoP-Nonce");  // the gate's, for the next one
    EXPECT_NE(nonce, "the-servers");
  }
  ASSERT_EQ(Reached(), 3U);
  EXPECT_EQ(server_->Requests()[2].find("DPoP"), std::string::npos);
  const auto permit = control_.Wait(admission::Request::kPermit).permit();
  EXPECT_EQ(permit.identity().mode(), admission::PSK);
  EXPECT_EQ(permit.identity().psk_peer(), "gateway-7");
  EXPECT_EQ(permit.token().proof_key_thumbprint(), pki::Thumbprint(key_));
  // One answer of control for all of them: only the proof is each request's own.
  EXPECT_EQ(Asked(admission::Request::kPermit).size(), 1U);
}

TEST_F(PskRequestTest, AProofForSomethingElseOpensNothing) {
  const pki::TestKey other = pki::TestKey::Ec();
  struct Case {
    json change;
    bool own_key;
    Reason reason;
  };
  for (const Case& c :
       {Case{{{"htm", "DELETE"}}, true, Reason::dpop_fail},
        Case{{{"htu", std::string(kUrl) + "/slices/2"}}, true, Reason::dpop_fail},
        Case{{{"htu", "https://elsewhere.example/slices/1"}}, true, Reason::dpop_fail},
        Case{
            {{"ath", identity::EncodeBase64Url(identity::DigestOf("x"))}}, true, Reason::dpop_fail},
        Case{{{"nonce", "of-nobody"}}, true, Reason::dpop_nonce_fail},
        Case{json::object(), false, Reason::token_binding_fail}}) {
    const auto client = ConnectedByKey();
    const std::string nonce = Nonce(*client);
    const uint64_t before = Refused(c.reason);
    const Reply reply = Get(*client, Proof(c.own_key ? key_ : other, Claims(nonce, c.change)));
    EXPECT_EQ(reply.status, 401U) << c.change;
    EXPECT_EQ(Refused(c.reason), before + 1) << c.change << log_text_.str();
    // The same connection is good for what is right.
    EXPECT_EQ(Get(*client, Proof(key_, Claims(reply.Header("DPoP-Nonce")))).status, 200U);
  }
  EXPECT_EQ(Reached(), 6U);
}

TEST_F(PskRequestTest, AProofServesOnceAndOnItsConnection) {
  const auto client = ConnectedByKey();
  const auto another = ConnectedByKey();
  const std::string theirs = Nonce(*another);
  const std::string proof = Proof(key_, Claims(Nonce(*client)));
  EXPECT_EQ(Get(*another, proof).status, 401U);  // a nonce of another connection
  Reply reply = Get(*client, Proof(key_, Claims(Nonce(*ConnectedByKey()))));
  EXPECT_EQ(reply.status, 401U);
  const json claims = Claims(reply.Header("DPoP-Nonce"));
  reply = Get(*client, Proof(key_, claims));
  EXPECT_EQ(reply.status, 200U);
  json again = claims;  // the same jti, with a nonce that is good
  again["nonce"] = reply.Header("DPoP-Nonce");
  reply = Get(*client, Proof(key_, again));
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(Refused(Reason::token_replay), 1U);
  reply = Get(*client, Proof(key_, Claims(claims["nonce"])));  // another jti, the same nonce
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(Get(*another, Proof(key_, Claims(theirs))).status, 200U);
  EXPECT_EQ(Reached(), 2U);
}

TEST_F(PskRequestTest, NeitherAnotherSchemeNorNoTokenDoes) {
  const auto client = ConnectedByKey();
  const std::string nonce = Nonce(*client);
  Headers bearer = {{"Authorization", "Bearer " + token_}, {"DPoP", Proof(key_, Claims(nonce))}};
  Reply reply = Ask(*client, "GET", "/slices/1", bearer);
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(reply.Header("WWW-Authenticate"), "DPoP");
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", {}).status, 401U);
  EXPECT_EQ(Refused(Reason::token_missing), 2U);
  EXPECT_EQ(Get(*client, Proof(key_, Claims(nonce))).status, 200U);
}

// A body that came with the question for a nonce does not cost the connection.
TEST_F(PskRequestTest, ANonceCanBeAskedForWithABody) {
  const auto client = ConnectedByKey();
  const Headers headers = {{"Authorization", "DPoP " + token_}};
  const Reply reply = Ask(*client, "PUT", "/slices/1", headers, "body");
  EXPECT_EQ(reply.status, 401U);
  const json claims = Claims(reply.Header("DPoP-Nonce"), {{"htm", "PUT"}});
  EXPECT_EQ(Ask(*client, "PUT", "/slices/1",
                {{"Authorization", "DPoP " + token_}, {"DPoP", Proof(key_, claims)}}, "body")
                .status,
            200U);
  EXPECT_TRUE(server_->Requests().back().ends_with("\r\n\r\nbody"));
}

// With a certificate and a token that is bound to a key of proofs, where the listener takes them.
class DpopRequestTest : public ProvenRequestTest {
 protected:
  DpopRequestTest() { TakeProofs(kUrl); }

  void TakeProofs(const char* url) {
    On([&] {
      interface_->url = url;
      return 0;
    });
  }
  /// On a connection of its own, with a proof that has a good nonce.
  Reply GetWith(const std::string& scheme, const std::string& token) {
    const auto client = ConnectedTo();
    token_ = token;
    const Reply asked = Ask(*client, "GET", "/slices/1", {{"Authorization", "DPoP x"}});
    const std::string proof = Proof(key_, Claims(asked.Header("DPoP-Nonce")));
    return Ask(*client, "GET", "/slices/1",
               {{"Authorization", scheme + " " + token}, {"DPoP", proof}});
  }
  json Both(const pki::Issued& who) {
    json cnf = BoundTo(who);
    cnf["jkt"] = pki::Thumbprint(key_);
    return cnf;
  }
};

TEST_F(DpopRequestTest, BothKindsOfTokensPassOnOneConnection) {
  const auto client = ConnectedTo();
  const std::string nonce = Nonce(*client);
  Reply reply = Get(*client, Proof(key_, Claims(nonce)));
  EXPECT_EQ(reply.status, 200U) << reply.body << log_text_.str();
  EXPECT_FALSE(reply.Header("DPoP-Nonce").empty());
  const std::string next = reply.Header("DPoP-Nonce");
  reply = Ask(*client, "GET", "/slices/1", Shown());
  EXPECT_EQ(reply.status, 200U) << reply.body << log_text_.str();
  EXPECT_EQ(reply.Header("DPoP-Nonce"), "");  // nobody needs one
  EXPECT_EQ(Get(*client, Proof(key_, Claims(next))).status, 200U);
  const auto permit = control_.Wait(admission::Request::kPermit).permit();
  EXPECT_EQ(permit.identity().mode(), admission::CERTIFICATE);
  EXPECT_EQ(permit.token().proof_key_thumbprint(), pki::Thumbprint(key_));
  // The same token once more, without a proof.
  EXPECT_EQ(Get(*client, "").status, 401U);
  EXPECT_EQ(Refused(Reason::dpop_fail), 1U);
  EXPECT_EQ(Reached(), 3U);
}

TEST_F(DpopRequestTest, EachKeyThatATokenNamesIsShown) {
  EXPECT_EQ(GetWith("DPoP", Token(Both(peer_))).status, 200U) << log_text_.str();
  EXPECT_EQ(GetWith("DPoP", Token({{"jkt", pki::Thumbprint(key_)}})).status, 200U);
  EXPECT_EQ(GetWith("Bearer", Token(BoundTo(peer_))).status, 200U);
  EXPECT_EQ(Reached(), 3U);
  uint64_t before = Refused(Reason::token_binding_fail);
  for (const auto& [scheme, cnf] : std::initializer_list<std::pair<const char*, json>>{
           {"DPoP", Both(other_)},
           {"DPoP", BoundTo(peer_)},  // RFC 9449 7.1: not bound to a proof
           {"DPoP", {{"jkt", pki::Thumbprint(pki::TestKey::Ec())}}},
           {"Bearer", Both(peer_)},  // RFC 9449 7.2: no downgrade
           {"Bearer", {{"jkt", pki::Thumbprint(key_)}}}}) {
    EXPECT_EQ(GetWith(scheme, Token(cnf)).status, 401U) << scheme << cnf;
    EXPECT_EQ(Refused(Reason::token_binding_fail), ++before) << scheme << cnf;
  }
  EXPECT_EQ(Reached(), 3U);
}

TEST_F(DpopRequestTest, NoProofIsTakenWhereTheListenerDoesNotSaySo) {
  const auto client = ConnectedTo();
  EXPECT_EQ(Ask(*client, "GET", "/slices/1", {}).Header("WWW-Authenticate"), "Bearer, DPoP");
  TakeProofs("");
  const auto another = ConnectedTo();
  EXPECT_EQ(Ask(*another, "GET", "/slices/1", {}).Header("WWW-Authenticate"), "Bearer");
  const Reply reply = Get(*another, Proof(key_, Claims("")));
  EXPECT_EQ(reply.status, 401U);
  EXPECT_EQ(reply.Header("DPoP-Nonce"), "");
  EXPECT_EQ(Refused(Reason::token_missing), 3U);
  EXPECT_EQ(GetWith("Bearer", Token(Both(peer_))).status, 401U);
  EXPECT_EQ(GetWith("Bearer", Token(BoundTo(peer_))).status, 200U);
  EXPECT_EQ(Reached(), 1U);
}

}  // namespace
}  // namespace portcullis::guard
