#include "control/identity/token/token_exchanger.hpp"

#include <boost/asio/co_spawn.hpp>
#include <filesystem>
#include <fstream>

#include "control/identity/token/test_server.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::identity::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr const char* kTheirs = "eyJ.of+the/client.A==";
constexpr const char* kOurs = "for-the-server";
constexpr const char* kType = "urn:ietf:params:oauth:token-type:access_token";

class TokenExchangerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-exchange-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    MakeCertificate(directory_ / "server");
    MakeCertificate(directory_ / "gate");
    server_ = std::make_unique<TestServer>(directory_ / "server", directory_ / "gate");
    config_.endpoint.url = server_->Url();
    config_.endpoint.tls = {directory_ / "server.pem", directory_ / "gate.pem",
                            directory_ / "gate.key"};
    config_.endpoint.client_id = "gate";
    config_.endpoint.timeout = 30s;
    config_.endpoint.pause_after_failure = 0ms;
    config_.audience = "https://nsmf.example/";
  }
  void TearDown() override { fs::remove_all(directory_); }

  static json Issued(const json& change = json::object()) {
    json answer = {{"access_token", kOurs},
                   {"issued_token_type", kType},
                   {"token_type", "bearer"},
                   {"expires_in", 300}};
    answer.merge_patch(change);  // null: without it
    return answer;
  }
  static TestServer::Answer Good(const json& change = json::object()) {
    return TestServer::Good(Issued(change).dump());
  }
  static TestServer::Answer Error(const std::string& error) {
    return TestServer::Http("400 Bad Request", json{{"error", error}}.dump());
  }

  std::shared_ptr<TokenExchanger> Make() {
    auto made = TokenExchanger::Create(io_.get_executor(), config_, "exchange");
    if (!made) throw std::runtime_error(made.error().Text());
    return *std::move(made);
  }
  static std::string Told(const TokenExchanger::Answer& answer) {
    if (!answer) {
      EXPECT_EQ(answer.error().detail.find(kTheirs), std::string::npos);
      EXPECT_EQ(answer.error().detail.find(kOurs), std::string::npos);
      return std::string(Info(answer.error().reason).name);
    }
    const auto bytes = (*answer)->bytes();
    return {bytes.begin(), bytes.end()};
  }
  /// Of all of them, at a time.
  std::vector<std::string> Ask(TokenExchanger& exchanger,
                               const std::vector<TokenExchanger::Subject>& subjects) {
    io_.restart();
    std::vector<std::string> told(subjects.size());
    for (size_t i = 0; i < subjects.size(); ++i) {
      asio::co_spawn(io_, exchanger.Exchange(subjects[i]),
                     [&told, i](const std::exception_ptr& failed, const auto& answer) {
                       if (failed) std::rethrow_exception(failed);
                       told[i] = Told(answer);
                     });
    }
    io_.run();
    return told;
  }
  std::string Ask(TokenExchanger& exchanger, const std::string& token = kTheirs, uint64_t epoch = 1,
                  std::chrono::seconds life = 600s) {
    return Ask(exchanger, {{token, std::chrono::system_clock::now() + life, epoch}})[0];
  }
  std::string First(const TestServer::Answer& answer) {
    server_->Then(answer);
    server_->Then(answer);  // the one before it is used up by now
    const auto exchanger = Make();
    Ask(*exchanger, "other");
    return Ask(*exchanger);
  }
  size_t Asked() { return server_->Requests().size(); }

  asio::io_context io_;
  fs::path directory_;
  std::unique_ptr<TestServer> server_;
  TokenExchangeConfig config_;
};

TEST_F(TokenExchangerTest, ATokenForTheServerAndItsCache) {
  config_.resource = "https://nsmf.example/api";
  config_.scope = "slices read";
  server_->Then(Good());
  const auto exchanger = Make();
  EXPECT_EQ(Ask(*exchanger), kOurs);
  const std::string request = server_->Requests()[0];
  EXPECT_TRUE(request.ends_with(
      "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
      "&audience=https%3A%2F%2Fnsmf.example%2F&resource=https%3A%2F%2Fnsmf.example%2Fapi"
      "&scope=slices%20read"
      "&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
      "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
      "&subject_token=eyJ.of%2Bthe%2Fclient.A%3D%3D&client_id=gate"))
      << request;
  EXPECT_EQ(Ask(*exchanger), kOurs);
  EXPECT_EQ(Asked(), 1U);
  EXPECT_EQ(Ask(*exchanger, "another"), kOurs);
  EXPECT_EQ(Asked(), 2U);
}

TEST_F(TokenExchangerTest, BySecretItSaysWhoItIsInTheHeader) {
  const std::string secret = directory_ / "secret";
  std::ofstream(secret) << "open/sesame\n";
  fs::permissions(secret, fs::perms::owner_read);
  config_.endpoint.client_secret = secret;
  server_->Then(Good());
  const auto exchanger = Make();
  EXPECT_EQ(Ask(*exchanger), kOurs);
  const std::string request = server_->Requests()[0];
  EXPECT_NE(request.find("Basic Z2F0ZTpvcGVuJTJGc2VzYW1l\r\n"), std::string::npos) << request;
  EXPECT_EQ(request.find("client_id"), std::string::npos);
}

TEST_F(TokenExchangerTest, NothingIsKeptLongerThanEitherTokenLastsOrRightsStayTheSame) {
  server_->Then(Good());
  const auto exchanger = Make();
  EXPECT_EQ(Ask(*exchanger, kTheirs, 1, 5s), kOurs);  // less than the margin: for this one request
  EXPECT_EQ(Ask(*exchanger, kTheirs, 1), kOurs);
  EXPECT_EQ(Asked(), 2U);
  EXPECT_EQ(Ask(*exchanger, kTheirs, 1), kOurs);
  EXPECT_EQ(Asked(), 2U);
  EXPECT_EQ(Ask(*exchanger, kTheirs, 2), kOurs);  // something has changed
  EXPECT_EQ(Asked(), 3U);
  EXPECT_EQ(Ask(*exchanger, kTheirs, 2), kOurs);
  EXPECT_EQ(Asked(), 3U);
  for (const json& life : {json(nullptr), json(0), json(10)}) {
    server_->Then(Good({{"expires_in", life}}));
    server_->Then(Good({{"expires_in", life}}));
    const auto another = Make();
    Ask(*another, "other");
    const size_t before = Asked();
    EXPECT_EQ(Ask(*another), kOurs);
    EXPECT_EQ(Ask(*another), kOurs);
    EXPECT_EQ(Asked(), before + 2) << life;
  }
}

TEST_F(TokenExchangerTest, TheCacheIsBounded) {
  server_->Then(Good());
  config_.most = 2;
  const auto exchanger = Make();
  Ask(*exchanger, "one", 1, 100s);
  Ask(*exchanger, "two");
  Ask(*exchanger, "three");  // in place of the one that would go first
  EXPECT_EQ(Asked(), 3U);
  Ask(*exchanger, "two");
  Ask(*exchanger, "three");
  EXPECT_EQ(Asked(), 3U);
  Ask(*exchanger, "one");
  EXPECT_EQ(Asked(), 4U);
}

TEST_F(TokenExchangerTest, RequestsAtATimeMakeOneExchange) {
  server_->Then(Good());
  const auto expiry = std::chrono::system_clock::now() + 600s;
  const auto exchanger = Make();
  const auto told = Ask(*exchanger, std::vector<TokenExchanger::Subject>(20, {kTheirs, expiry, 1}));
  EXPECT_EQ(told, std::vector<std::string>(20, kOurs));
  EXPECT_EQ(Asked(), 1U);
  // One that began before rights changed serves nobody who comes after that.
  EXPECT_EQ(Ask(*exchanger, {{"a", expiry, 2}, {"a", expiry, 2}, {"a", expiry, 3}}),
            std::vector<std::string>(3, kOurs));
  EXPECT_EQ(Asked(), 3U);
  EXPECT_EQ(Ask(*exchanger, "a", 3), kOurs);
  EXPECT_EQ(Asked(), 3U);
}

TEST_F(TokenExchangerTest, WhatCannotBeUsedIsNotSent) {
  EXPECT_EQ(First(Good()), kOurs);
  EXPECT_EQ(First(Good({{"token_type", "BEARER"}})), kOurs);
  for (const json& change : std::initializer_list<json>{
           {{"token_type", "DPoP"}},
           {{"token_type", "N_A"}},
           {{"token_type", nullptr}},
           {{"issued_token_type", nullptr}},
           {{"issued_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}},
           {{"access_token", nullptr}},
           {{"access_token", ""}},
           {{"access_token", "a\r\nHost: b"}},
           {{"access_token", std::string(8193, 'a')}},
           {{"expires_in", "300"}},
           {{"expires_in", -1}}}) {
    EXPECT_EQ(First(Good(change)), "gate_unavailable") << change;
  }
  for (const std::string& text : {std::string(), std::string("[]"), Issued().dump() + "x",
                                  Issued().dump() + std::string(70'000, ' ')}) {
    EXPECT_EQ(First(TestServer::Good(text)), "gate_unavailable");
  }
}

TEST_F(TokenExchangerTest, ARefusalIsTheTokensOrTheGates) {
  for (const char* error : {"invalid_request", "invalid_grant", "invalid_target"}) {
    EXPECT_EQ(First(Error(error)), "exchange_denied") << error;
  }
  for (const char* error :
       {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "x"}) {
    EXPECT_EQ(First(Error(error)), "gate_unavailable") << error;
  }
  EXPECT_EQ(First(TestServer::Http("400 Bad Request", "no")), "gate_unavailable");
  EXPECT_EQ(First(TestServer::Http("401 Unauthorized", R"({"error":"invalid_grant"})")),
            "gate_unavailable");
  EXPECT_EQ(First(TestServer::Http("503 Service Unavailable", "")), "gate_unavailable");
  EXPECT_EQ(First(Good()), kOurs);
}

TEST_F(TokenExchangerTest, ARefusalIsNotAskedForAgainAtOnce) {
  server_->Then(Error("invalid_target"));
  server_->Then(Good());
  config_.refused_for = 1h;
  const auto exchanger = Make();
  EXPECT_EQ(Ask(*exchanger), "exchange_denied");
  EXPECT_EQ(Ask(*exchanger), "exchange_denied");
  EXPECT_EQ(Asked(), 1U);
  EXPECT_EQ(Ask(*exchanger, "another"), kOurs);
  EXPECT_EQ(Ask(*exchanger, kTheirs, 2), kOurs);
}

TEST_F(TokenExchangerTest, ASilentServerCostsOneWaitAndStopsNobodyElse) {
  server_->Then(Good());
  server_->Then({});
  config_.endpoint.timeout = 500ms;
  config_.endpoint.pause_after_failure = 1h;
  const auto exchanger = Make();
  // The server may be slow to come up; with it, the first answer.
  ASSERT_EQ(Ask(*exchanger), kOurs);
  EXPECT_EQ(Ask(*exchanger, "another"), "gate_unavailable");
  const size_t before = Asked();
  EXPECT_EQ(Ask(*exchanger, "another"), "gate_unavailable");
  EXPECT_EQ(Ask(*exchanger, "a third"), "gate_unavailable");
  EXPECT_EQ(Asked(), before);
  EXPECT_EQ(Ask(*exchanger), kOurs);
}

TEST_F(TokenExchangerTest, ConfigurationIsChecked) {
  const auto refused = [&](auto change) {
    TokenExchangeConfig config = config_;
    change(config);
    return !TokenExchanger::Create(io_.get_executor(), config, "exchange").has_value();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_FALSE(refused([](auto& c) { std::swap(c.audience, c.resource); }));
  EXPECT_TRUE(refused([](auto& c) { c.audience.clear(); }));
  EXPECT_TRUE(refused([](auto& c) { c.endpoint.url = "http://as.example/token"; }));
  EXPECT_TRUE(refused([](auto& c) { c.endpoint.client_secret = "/missing"; }));
}

}  // namespace
}  // namespace portcullis::identity::test
