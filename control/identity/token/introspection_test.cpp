#include "control/identity/token/introspection.hpp"

#include <boost/asio/co_spawn.hpp>
#include <filesystem>

#include "control/identity/token/test_server.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::identity::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr const char* kOpaque = "mF_9.B5f-4.1JqM+/=";

int64_t Seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

json Active() {
  return {{"active", true},
          {"iss", kIssuer},
          {"client_id", "csmf-1"},
          {"aud", kAudience},
          {"exp", Seconds() + 900},
          {"scope", "slice:create"},
          {"cnf", {{"x5t#S256", EncodeBase64Url(DigestOf("certificate"))}}}};
}

class IntrospectionTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-ask-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    MakeCertificate(directory_ / "server");
    MakeCertificate(directory_ / "gate");
    server_ = std::make_unique<TestServer>(directory_ / "server", directory_ / "gate");
    config_.claims = Config().claims;
    config_.endpoint.url = server_->Url();
    config_.endpoint.tls = {directory_ / "server.pem", directory_ / "gate.pem",
                            directory_ / "gate.key"};
    config_.endpoint.timeout = 30s;
    config_.endpoint.pause_after_failure = 0ms;
  }
  void TearDown() override { fs::remove_all(directory_); }

  Introspector Make() {
    auto made = Introspector::Create(io_.get_executor(), config_, denied_, "issuer");
    if (!made) throw std::runtime_error(made.error().Text());
    return std::move(*made);
  }
  tl::expected<AccessToken, Refusal> Verify(Introspector& introspector,
                                            const std::string& token = kOpaque,
                                            const std::string& interface = kInterface) {
    io_.restart();
    tl::expected<AccessToken, Refusal> result;
    asio::co_spawn(io_, introspector.Verify(token, interface),
                   [&](const std::exception_ptr& failed, auto answer) {
                     if (failed) std::rethrow_exception(failed);
                     result = std::move(answer);
                   });
    io_.run();
    const std::string told = result ? std::string() : result.error().detail;
    EXPECT_EQ(told.find(kOpaque), std::string::npos);
    return result;
  }
  std::string_view ReasonFor(const TestServer::Answer& answer) {
    server_->Then(answer);
    server_->Then(answer);  // the one before it is used up by now
    Introspector introspector = Make();
    Verify(introspector, "other");
    const auto verified = Verify(introspector);
    return verified ? "admitted" : Info(verified.error().reason).name;
  }

  asio::io_context io_;
  fs::path directory_;
  std::unique_ptr<TestServer> server_;
  IntrospectionConfig config_;
  DenyList denied_;
};

TEST_F(IntrospectionTest, AnActiveTokenAndItsCache) {
  server_->Then(TestServer::Good(Active().dump()));
  Introspector introspector = Make();
  const auto token = Verify(introspector);
  ASSERT_TRUE(token) << token.error().Text();
  EXPECT_EQ(token->client_id, "csmf-1");
  EXPECT_EQ(token->subject, "csmf-1");
  EXPECT_EQ(token->jti, TokenName(kOpaque));
  EXPECT_EQ(token->scopes, std::set<std::string>{"slice:create"});
  EXPECT_TRUE(CheckBinding(*token, Bytes("certificate")));
  EXPECT_TRUE(server_->Requests()[0].ends_with("token=mF_9.B5f-4.1JqM%2B%2F%3D"));

  EXPECT_TRUE(Verify(introspector));
  EXPECT_EQ(server_->Requests().size(), 1U);  // not asked again
  EXPECT_EQ(Verify(introspector, kOpaque, "administration").error().reason, Reason::token_aud_fail);
  ASSERT_TRUE(denied_.Add({Denial::What::token, kIssuer, token->jti}, {}));
  EXPECT_EQ(Verify(introspector).error().reason, Reason::token_revoked);
  EXPECT_EQ(server_->Requests().size(), 1U);
}

TEST_F(IntrospectionTest, TheCacheIsShortAndBounded) {
  server_->Then(TestServer::Good(Active().dump()));
  config_.cache_for = 0ms;
  Introspector forgetful = Make();
  EXPECT_TRUE(Verify(forgetful));
  EXPECT_TRUE(Verify(forgetful));
  EXPECT_EQ(server_->Requests().size(), 2U);
  config_.cache_for = 1h;
  config_.cache_most = 1;
  Introspector small = Make();
  EXPECT_TRUE(Verify(small, "one"));
  EXPECT_TRUE(Verify(small, "two"));
  EXPECT_TRUE(Verify(small, "two"));
  EXPECT_TRUE(Verify(small, "one"));
  EXPECT_EQ(server_->Requests().size(), 5U);
}

TEST_F(IntrospectionTest, EachDefectOfAnAnswer) {
  EXPECT_EQ(ReasonFor(TestServer::Good(Active().dump())), "admitted");
  EXPECT_EQ(ReasonFor(TestServer::Good(R"({"active":false})")), "token_revoked");
  const auto with = [](const char* claim, const json& value) {
    json claims = Active();
    claims[claim] = value;
    return TestServer::Good(claims.dump());
  };
  EXPECT_EQ(ReasonFor(with("active", "true")), "token_key_unknown");
  EXPECT_EQ(ReasonFor(with("active", nullptr)), "token_key_unknown");
  EXPECT_EQ(ReasonFor(with("iss", "https://evil.example")), "token_issuer_unknown");
  EXPECT_EQ(ReasonFor(with("aud", "other")), "token_aud_fail");
  EXPECT_EQ(ReasonFor(with("exp", Seconds() - 60)), "token_expired");
  EXPECT_EQ(ReasonFor(with("nbf", Seconds() + 600)), "token_not_yet_valid");
  EXPECT_EQ(ReasonFor(with("scope", " ")), "token_claims_fail");
  EXPECT_EQ(ReasonFor(with("cnf", json::object())), "token_binding_fail");
  for (const char* claim : {"iss", "client_id", "aud", "exp"}) {
    json claims = Active();
    claims.erase(claim);
    EXPECT_EQ(ReasonFor(TestServer::Good(claims.dump())), "token_claims_fail") << claim;
  }
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("true"), Active().dump() + "x",
        R"({"active":true,)" + Active().dump().substr(1)}) {
    EXPECT_EQ(ReasonFor(TestServer::Good(text)), "token_key_unknown") << text;
  }
  EXPECT_EQ(ReasonFor(TestServer::Good(Active().dump() + std::string(70'000, ' '))),
            "token_key_unknown");
  EXPECT_EQ(ReasonFor(TestServer::Http("401 Unauthorized", Active().dump())), "token_key_unknown");
  ASSERT_TRUE(denied_.Add({Denial::What::issuer, kIssuer, ""}, {}));
  EXPECT_EQ(ReasonFor(TestServer::Good(Active().dump())), "token_revoked");
}

TEST_F(IntrospectionTest, WhatIsNoTokenIsNotAsked) {
  server_->Then(TestServer::Good(Active().dump()));
  Introspector introspector = Make();
  for (const std::string& wrong : {std::string("a b"), std::string("a\r\nb"), std::string("a&b"),
                                   std::string(8193, 'a'), std::string("\xc3\xa4")}) {
    EXPECT_EQ(Verify(introspector, wrong).error().reason, Reason::token_malformed);
  }
  EXPECT_TRUE(server_->Requests().empty());
  EXPECT_TRUE(Verify(introspector));
}

TEST_F(IntrospectionTest, ASilentIssuerCostsOneWaitAndOpensNothing) {
  server_->Then({});
  config_.endpoint.timeout = 500ms;
  config_.endpoint.pause_after_failure = 1h;
  Introspector introspector = Make();
  EXPECT_EQ(Verify(introspector).error().reason, Reason::token_key_unknown);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Verify(introspector).error().reason, Reason::token_key_unknown);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 25s);  // 100 waits would be 50 s
  EXPECT_LE(server_->Requests().size(), 1U);
}

TEST_F(IntrospectionTest, WithoutOurCertificateTheIssuerRefuses) {
  server_->Then(TestServer::Good(Active().dump()));
  config_.endpoint.tls.certificate.clear();
  Introspector stranger = Make();
  EXPECT_EQ(Verify(stranger).error().reason, Reason::token_key_unknown);
  config_.endpoint.tls.certificate = directory_ / "gate.pem";
  Introspector known = Make();
  EXPECT_TRUE(Verify(known));
}

TEST_F(IntrospectionTest, ConfigurationIsChecked) {
  const auto refused = [&](auto change) {
    IntrospectionConfig config = config_;
    change(config);
    return !Introspector::Create(io_.get_executor(), config, denied_, "issuer").has_value();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& c) { c.endpoint.url = "http://as.example/introspect"; }));
  EXPECT_TRUE(refused([](auto& c) { c.endpoint.tls.ca.clear(); }));
  EXPECT_TRUE(refused([](auto& c) { c.endpoint.tls.key = "/missing"; }));
  EXPECT_TRUE(refused([](auto& c) { c.claims.audiences.clear(); }));
  EXPECT_TRUE(refused([](auto& c) { c.endpoint.timeout = {}; }));
}

}  // namespace
}  // namespace portcullis::identity::test
