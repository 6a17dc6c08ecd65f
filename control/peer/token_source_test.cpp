// Tokens from files and from a real token endpoint over mutual TLS.
#include "control/peer/token_source.hpp"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <nlohmann/json.hpp>

#include "control/guard/session/test_pki.hpp"
#include "control/identity/token/compact_jws.hpp"
#include "control/identity/token/test_server.hpp"

namespace portcullis::peer {
namespace {

using identity::test::TestServer;
using nlohmann::json;

constexpr const char* kToken = "eyJhbGciOi.payload.signature-_";

class TokenSourceTest : public testing::Test {
 protected:
  TokenSourceTest() {
    for (const auto* name : {"as", "peer"}) {
      const std::string path = folder_.Write(name, "");
      identity::test::MakeCertificate(path);
      EXPECT_EQ(chmod((path + ".key").c_str(), 0600), 0);
    }
  }

  [[nodiscard]] std::string At(const std::string& name) const {
    return std::filesystem::path(folder_.Write("x", "")).parent_path() / name;
  }
  [[nodiscard]] TokenEndpoint Endpoint(const TestServer& server) const {
    return {server.Url(), {At("as.pem"), At("peer.pem"), At("peer.key")}, "csmf 1"};
  }
  [[nodiscard]] std::shared_ptr<const identity::ProofKey> NewProofKey() const {
    const guard::KeyPtr key = guard::MakeEcKey();
    const identity::BioPtr bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    auto loaded =
        identity::ProofKey::Load(folder_.Write("proof.key", identity::Written(bio.get())), "key");
    EXPECT_TRUE(loaded) << loaded.error().Text();
    return std::make_shared<const identity::ProofKey>(*std::move(loaded));
  }

  static Result<std::string> Get(std::optional<TokenEndpoint> endpoint, SessionSettings session,
                                 std::shared_ptr<const identity::ProofKey> proof_key = nullptr) {
    boost::asio::io_context io;
    const auto source =
        TokenSource::Create(io.get_executor(), std::move(endpoint), std::move(proof_key));
    if (!source) return tl::unexpected(source.error());
    auto token =
        boost::asio::co_spawn(io, source->Get(std::move(session)), boost::asio::use_future);
    io.run();
    return token.get();
  }

  guard::TestFolder folder_;
  SessionSettings by_endpoint_{"nsmf", {}, {}, "", "https://gate.example/nsmf", "nsi read"};
};

std::string Answer(const json& change = json::object()) {
  json answer = {{"access_token", kToken}, {"token_type", "Bearer"}, {"expires_in", 300}};
  answer.update(change);
  return answer.dump();
}

TEST_F(TokenSourceTest, File) {
  const auto with = [&](const std::string& text, mode_t mode = 0600) {
    SessionSettings session;
    session.token_file = folder_.Write("token", text, mode);
    return Get({}, session);
  };
  EXPECT_EQ(with(std::string(kToken) + "\n"), kToken);
  EXPECT_FALSE(with("a token\r\nX-Header: 1"));
  EXPECT_FALSE(with("\n"));
  EXPECT_FALSE(with(std::string(8193, 'a')));
  const auto open = with(kToken, 0644);
  ASSERT_FALSE(open);
  EXPECT_NE(open.error().Text().find("others have rights"), std::string::npos);
  SessionSettings nowhere;
  nowhere.token_file = "/nowhere/token";
  EXPECT_FALSE(Get({}, nowhere));
}

TEST_F(TokenSourceTest, ClientCredentialsOverMutualTls) {
  TestServer server(At("as"), At("peer"));
  server.Then(TestServer::Good(Answer()));
  const auto token = Get(Endpoint(server), by_endpoint_);
  ASSERT_TRUE(token) << token.error().Text();
  EXPECT_EQ(*token, kToken);
  const std::string request = server.Requests().at(0);
  EXPECT_TRUE(
      request.ends_with("\r\n\r\ngrant_type=client_credentials&client_id=csmf%201&scope=nsi"
                        "%20read&resource=https%3A%2F%2Fgate.example%2Fnsmf"))
      << request;
  EXPECT_EQ(request.find("DPoP"), std::string::npos);
}

TEST_F(TokenSourceTest, WithAProofKeyTheTokenIsBoundByDpop) {
  TestServer server(At("as"), At("peer"));
  server.Then(TestServer::Good(Answer({{"token_type", "DPoP"}})));
  const auto token = Get(Endpoint(server), by_endpoint_, NewProofKey());
  ASSERT_TRUE(token) << token.error().Text();
  const std::string request = server.Requests().at(0);
  const size_t at = request.find("DPoP: ");
  ASSERT_NE(at, std::string::npos) << request;
  const std::string proof = request.substr(at + 6, request.find("\r\n", at) - at - 6);
  const auto jws = identity::ParseCompact(proof, 8192);
  ASSERT_TRUE(jws) << jws.error().Text();
  EXPECT_EQ(jws->payload.at("htu"), server.Url());
  EXPECT_EQ(jws->payload.at("htm"), "POST");
}

TEST_F(TokenSourceTest, AnswersThatCannotBeUsed) {
  for (const std::string& answer :
       {std::string("{"), std::string("[]"), Answer({{"token_type", "DPoP"}}),
        Answer({{"access_token", ""}}), Answer({{"access_token", "two words"}}),
        Answer({{"access_token", 1}})}) {
    TestServer server(At("as"), At("peer"));
    server.Then(TestServer::Good(answer));
    server.Then(TestServer::Good(Answer()));
    const auto refused = Get(Endpoint(server), by_endpoint_);
    ASSERT_FALSE(refused) << answer;
    EXPECT_EQ(refused.error().Text().find(kToken), std::string::npos);
    EXPECT_TRUE(Get(Endpoint(server), by_endpoint_));
  }
}

TEST_F(TokenSourceTest, AnEndpointThatIsNotBelievedOrBelievesUsNot) {
  TestServer server(At("as"), At("as"));  // believes no certificate but its own
  server.Then(TestServer::Good(Answer()));
  EXPECT_FALSE(Get(Endpoint(server), by_endpoint_));
  TestServer good(At("as"), At("peer"));
  good.Then(TestServer::Good(Answer()));
  TokenEndpoint other = Endpoint(good);
  other.tls.ca = At("peer.pem");
  EXPECT_FALSE(Get(other, by_endpoint_));
  EXPECT_TRUE(Get(Endpoint(good), by_endpoint_));
}

TEST_F(TokenSourceTest, AKeyThatOthersCanRead) {
  const TestServer server(At("as"), At("peer"));
  ASSERT_EQ(chmod(At("peer.key").c_str(), 0640), 0);
  const auto token = Get(Endpoint(server), by_endpoint_);
  ASSERT_FALSE(token);
  EXPECT_EQ(token.error().where, "token_endpoint.key");
}

}  // namespace
}  // namespace portcullis::peer
