// Whom a certificate and a token speak for, and what he may do: each refusal beside what passes.
#include "control/rest/operators.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <set>

#include "control/identity/token/test_support.hpp"

namespace portcullis::rest {
namespace {

using namespace identity::test;
using identity::Algorithm;
using identity::DigestOf;
using identity::EncodeBase64Url;
using model::Revocable;

const Revocable kCertificate{Revocable::Kind::certificate, "CN=Operators", "1A"};
constexpr const char* kAdmin = "https://gate.operator.example/admin";

class OperatorsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "operators-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    std::ofstream(Keys()) << json({{"keys", {With(key_.Jwk(), "es256-1")}}}).dump();
    settings_.persons = {
        {"alice", Role::operator_, {"alice", "alice-laptop"}, {{kIssuer, "alice@corp"}}},
        {"bob", Role::viewer, {"bob"}, {{kIssuer, "bob@corp"}}},
        {"carol", Role::operator_, {}, {{kIssuer, "carol@corp"}}}};
    settings_.tokens.emplace();
    identity::IssuerConfig issuer = Config();
    issuer.claims.audiences = {{TokenSettings::kInterface, kAdmin}};
    issuer.keys = Keys();
    settings_.tokens->issuers = {issuer};
    settings_.tokens->scopes = {{"gate:read", Role::viewer}, {"gate:change", Role::operator_}};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string Keys() const { return folder_ / "as.jwks"; }

  // With the keys fetched.
  std::unique_ptr<Operators> Make() {
    auto made = Operators::Create(io_.get_executor(), settings_,
                                  {[this](const Revocable& what) { return denied_.contains(what); },
                                   [this] { return clock_went_back_; }, [](const std::string&) {}});
    EXPECT_TRUE(made) << made.error().Text();
    (*made)->Start();
    io_.restart();
    while (io_.poll_one() > 0) {
    }
    return std::move(*made);
  }

  Operators::Identified Ask(const std::string& common_name, std::vector<std::string> authorization,
                            int64_t at = kNow) {
    const auto operators = Make();
    // A file is read at once, so the keys are of now; only the wall clock is the test's.
    const identity::Moment now{At(at).wall, std::chrono::steady_clock::now()};
    auto result = operators->Identify(
        {common_name, "certificate", kCertificate, std::move(authorization)}, "/v1/x", now);
    operators->Stop();
    while (io_.poll_one() > 0) {
    }
    return result;
  }
  Operators::Identified Bear(const std::string& common_name, const json& changes = {},
                             int64_t at = kNow) {
    return Ask(common_name, {"Bearer " + Token(changes)}, at);
  }
  [[nodiscard]] std::string Token(const json& changes) const {
    json claims = Claims();
    claims["sub"] = "alice@corp";
    claims["aud"] = kAdmin;
    claims["scope"] = "gate:change";
    if (!changes.is_null()) claims.merge_patch(changes);
    return key_.Jws(Algorithm::es256, Header().dump(), claims.dump());
  }
  static std::string ChallengeOf(const Operators::Identified& answer) {
    if (!answer.refused) return "none: let in";
    for (const auto& [name, value] : answer.refused->headers) {
      if (name == "WWW-Authenticate") return value;
    }
    return "";
  }

  boost::asio::io_context io_;
  std::filesystem::path folder_;
  TestKey key_ = TestKey::Ec("P-256");
  Operators::Settings settings_;
  std::set<Revocable> denied_;
  bool clock_went_back_ = false;
};

#define EXPECT_REFUSED(answer, status_, text)                                                  \
  do {                                                                                         \
    const auto& refused_ = (answer);                                                           \
    ASSERT_TRUE(refused_.refused);                                                             \
    EXPECT_EQ(refused_.refused->status, status_) << refused_.refused->body;                    \
    EXPECT_NE(refused_.refused->body.find(text), std::string::npos) << refused_.refused->body; \
    EXPECT_EQ(refused_.who.role, Role::none);                                                  \
  } while (false)

TEST_F(OperatorsTest, ACertificateNamesThePersonWhicheverItIs) {
  for (const char* name : {"alice", "alice-laptop"}) {
    const auto answer = Ask(name, {});
    EXPECT_FALSE(answer.refused);
    EXPECT_EQ(answer.who.name, "alice");
    EXPECT_EQ(answer.who.common_name, name);
    EXPECT_EQ(answer.who.role, Role::operator_);
  }
  EXPECT_EQ(Ask("bob", {}).who.role, Role::viewer);
  settings_.tokens.reset();
  EXPECT_REFUSED(Ask("carol", {}), 403U, "not one of the operators");
}

TEST_F(OperatorsTest, ATokenLessensAndNeverAdds) {
  EXPECT_EQ(Bear("alice").who.role, Role::operator_);
  const auto less = Bear("alice", {{"scope", "gate:read"}});
  EXPECT_FALSE(less.refused);
  EXPECT_EQ(less.who.role, Role::viewer);
  EXPECT_NE(less.who.challenge.find("error=\"insufficient_scope\""), std::string::npos);
  EXPECT_NE(less.who.challenge.find("scope=\"gate:change\""), std::string::npos);
  EXPECT_EQ(Bear("alice", {{"scope", "gate:read gate:change other"}}).who.role, Role::operator_);
  const auto bob = Bear("bob", {{"sub", "bob@corp"}});
  EXPECT_EQ(bob.who.role, Role::viewer);
  EXPECT_EQ(bob.who.challenge, "");  // no token would help him
}

TEST_F(OperatorsTest, ATokenAloneNamesThePersonOfAnUnlistedCertificate) {
  const auto answer = Bear("device-17", {{"sub", "carol@corp"}});
  ASSERT_FALSE(answer.refused);
  EXPECT_EQ(answer.who.name, "carol");
  EXPECT_EQ(answer.who.role, Role::operator_);
  EXPECT_EQ(answer.who.token->jti, "4f1f3c1e-7f5a");
  EXPECT_REFUSED(Ask("device-17", {}), 401U, "an access token is needed");
}

TEST_F(OperatorsTest, WhereTokensAreRequiredNobodyComesWithoutOne) {
  settings_.tokens->required = true;
  const auto answer = Ask("alice", {});
  EXPECT_REFUSED(answer, 401U, "an access token is needed");
  EXPECT_EQ(ChallengeOf(answer), "Bearer realm=\"portcullis\"");  // RFC 6750 3.1: no error code
  EXPECT_EQ(answer.who.name, "alice");                            // for the audit log
  EXPECT_FALSE(Bear("alice").refused);
}

TEST_F(OperatorsTest, WhatIsNoSuchTokenIsRefused) {
  struct Case {
    json changes;
    const char* reason;
  };
  for (const Case& c : {
           Case{{{"aud", kAudience}}, "token_aud_fail"},  // an interface's, for peers
           Case{{{"cnf", nullptr}}, "token_binding_fail"},
           Case{{{"cnf", {{"x5t#S256", EncodeBase64Url(DigestOf("another"))}}}},
                "token_binding_fail"},
           Case{{{"cnf", {{"x5t#S256", nullptr}, {"jkt", EncodeBase64Url(DigestOf("key"))}}}},
                "token_binding_fail"},
           Case{{{"exp", kNow - 31}}, "token_expired"},
           Case{{{"nbf", kNow + 31}}, "token_not_yet_valid"},
           Case{{{"iss", "https://other.example"}}, "token_issuer_unknown"},
           Case{{{"jti", nullptr}}, "token_claims_fail"},
       }) {
    const auto answer = Bear("alice", c.changes);
    EXPECT_REFUSED(answer, 401U, c.reason);
    EXPECT_NE(ChallengeOf(answer).find("error=\"invalid_token\""), std::string::npos);
  }
  EXPECT_FALSE(Bear("alice").refused);
}

TEST_F(OperatorsTest, AnotherKeysSignatureIsRefused) {
  const TestKey own = key_;
  key_ = TestKey::Ec("P-256");
  const std::string forged = Token({});
  key_ = own;
  EXPECT_REFUSED(Ask("alice", {"Bearer " + forged}), 401U, "token_sig_fail");
  EXPECT_FALSE(Ask("alice", {"bearer  " + Token({})}).refused);  // RFC 9110 11.1: any case
}

TEST_F(OperatorsTest, AScopeThatGivesNothing) {
  for (const char* scope : {"slice:create", "gate:changes"}) {
    const auto answer = Bear("alice", {{"scope", scope}});
    EXPECT_REFUSED(answer, 403U, "gives no role");
    EXPECT_NE(ChallengeOf(answer).find("error=\"insufficient_scope\""), std::string::npos);
  }
}

TEST_F(OperatorsTest, ATokenOfSomebodyElse) {
  EXPECT_REFUSED(Bear("alice", {{"sub", "bob@corp"}}), 403U, "two persons'");
  EXPECT_REFUSED(Bear("bob"), 403U, "two persons'");
  EXPECT_REFUSED(Bear("alice", {{"sub", "mallory@corp"}}), 403U, "mallory@corp");
  EXPECT_REFUSED(Bear("device-17", {{"sub", "mallory@corp"}}), 403U, "mallory@corp");
}

TEST_F(OperatorsTest, WhatIsRevokedCountsAtOnceAndSoDoesTakingItBack) {
  using Kind = Revocable::Kind;
  for (const Revocable& what :
       {Revocable{Kind::token, kIssuer, "4f1f3c1e-7f5a"}, Revocable{Kind::key, kIssuer, "es256-1"},
        Revocable{Kind::issuer, "", kIssuer}}) {
    denied_ = {what};
    EXPECT_REFUSED(Bear("alice"), 401U, "token_revoked");
    denied_.clear();
    EXPECT_FALSE(Bear("alice").refused);
  }
}

TEST_F(OperatorsTest, ARevokedCertificateIsNobodysWithOrWithoutAToken) {
  denied_ = {kCertificate};
  EXPECT_REFUSED(Ask("alice", {}), 403U, "is revoked");
  EXPECT_REFUSED(Bear("alice"), 403U, "is revoked");
  denied_ = {{Revocable::Kind::certificate, "CN=Operators", "1B"}};
  EXPECT_FALSE(Ask("alice", {}).refused);
}

TEST_F(OperatorsTest, AClockThatWentBackJudgesNoToken) {
  clock_went_back_ = true;
  EXPECT_REFUSED(Bear("alice"), 503U, "clock went back");
  EXPECT_FALSE(Ask("alice", {}).refused);  // a certificate alone is OpenSSL's to judge
}

TEST_F(OperatorsTest, HeadersThatAreNoBearerToken) {
  for (const auto& headers : std::vector<std::vector<std::string>>{
           {"Basic YWxpY2U6eA=="}, {"Bearer"}, {""}, {"Bearer " + Token({}), "Bearer x"}}) {
    const auto answer = Ask("alice", headers);
    EXPECT_REFUSED(answer, 400U, "Authorization");
    EXPECT_NE(ChallengeOf(answer).find("error=\"invalid_request\""), std::string::npos);
  }
  settings_.tokens.reset();  // silence would let the client think that its token counts
  EXPECT_REFUSED(Bear("alice"), 400U, "not taken here");
}

TEST_F(OperatorsTest, NoKeysNoTokens) {
  std::filesystem::remove(Keys());
  EXPECT_REFUSED(Bear("alice"), 401U, "token_key_unknown");
  EXPECT_FALSE(Ask("alice", {}).refused);
}

TEST_F(OperatorsTest, RolesByPerson) {
  const auto operators = Make();
  EXPECT_EQ(operators->RoleOf("alice"), Role::operator_);
  EXPECT_EQ(operators->RoleOf("alice-laptop"), Role::none);  // a certificate, not a person
  EXPECT_EQ(operators->CountOf(Role::operator_), 2U);
  operators->Stop();
  io_.restart();
  while (io_.poll_one() > 0) {
  }
}

}  // namespace
}  // namespace portcullis::rest
