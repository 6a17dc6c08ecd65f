#include "control/config.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <tuple>

namespace portcullis {
namespace {

namespace fs = std::filesystem;

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-config-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  // The good configuration with one line replaced.
  Result<ControlConfig> With(const std::string& line, const std::string& instead) {
    std::string text = R"(lab: true
store: control.db
steering: /run/portcullis/gate/steer.sock
rest:
  address: 127.0.0.1
  port: 8443
  certificate: server.pem
  key: server.key
  client_ca: ca.pem
  operators:
    - { name: alice, role: operator }
    - { name: bob, role: viewer }
)";
    if (!line.empty()) text.replace(text.find(line), line.size(), instead);
    std::ofstream(Path()) << text;
    return LoadControlConfig(Path());
  }
  [[nodiscard]] std::string Path() const { return folder_ / "control.yaml"; }

  fs::path folder_;
};

TEST_F(ConfigTest, GoodOne) {
  const auto config = With("", "");
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_TRUE(config->lab);
  EXPECT_EQ(config->store, folder_ / "control.db");  // relative to the file
  EXPECT_EQ(config->steering, "/run/portcullis/gate/steer.sock");
  EXPECT_EQ(config->rest.port, 8443);
  ASSERT_EQ(config->operators.persons.size(), 2U);
  const auto& [alice, bob] = std::tie(config->operators.persons[0], config->operators.persons[1]);
  EXPECT_EQ(alice.name, "alice");
  EXPECT_EQ(alice.role, rest::Role::operator_);
  EXPECT_EQ(alice.certificates, std::vector<std::string>{"alice"});
  EXPECT_EQ(bob.role, rest::Role::viewer);
  EXPECT_FALSE(config->operators.tokens);
}

constexpr const char* kBob = "    - { name: bob, role: viewer }\n";
constexpr const char* kTokens = R"(    - name: bob
      role: viewer
      certificates: [bob-laptop, bob-phone]
      subjects: [{ issuer: https://as.example, subject: bob@corp }]
  tokens:
    required: true
    audience: https://gate.example/administration
    issuers: [{ issuer: https://as.example, keys: as.jwks, algorithms: [ES256, RS256] }]
    scopes: [{ scope: gate:read, role: viewer }, { scope: gate:change, role: operator }]
)";

TEST_F(ConfigTest, OperatorsWithTokens) {
  const auto config = With(kBob, kTokens);
  ASSERT_TRUE(config) << config.error().Text();
  const auto& bob = config->operators.persons.at(1);
  EXPECT_EQ(bob.certificates, (std::vector<std::string>{"bob-laptop", "bob-phone"}));
  EXPECT_EQ(bob.subjects.at(0), (rest::TokenSubject{"https://as.example", "bob@corp"}));
  const auto& tokens = config->operators.tokens;
  ASSERT_TRUE(tokens);
  EXPECT_TRUE(tokens->required);
  EXPECT_EQ(tokens->issuers.at(0).keys, folder_ / "as.jwks");
  EXPECT_EQ(tokens->issuers.at(0).claims.audiences.at(rest::TokenSettings::kInterface),
            "https://gate.example/administration");
  EXPECT_EQ(tokens->scopes.at("gate:change"), rest::Role::operator_);
}

TEST_F(ConfigTest, OperatorsThatCannotBe) {
  struct Case {
    const char* part;
    const char* instead;
    const char* where;
  };
  for (const Case& c : {
           Case{"bob-phone", "alice", "rest.operators[1].certificates"},
           Case{"bob-phone", "bob-laptop", "rest.operators[1].certificates"},
           Case{"issuer: https://as.example, subject", "issuer: https://other.example, subject",
                "rest.operators[1].subjects[0].issuer"},
           Case{"subject: bob@corp }]", "subject: b }, { issuer: https://as.example, subject: b }]",
                "rest.operators[1].subjects[1].subject"},
           Case{"    audience: https://gate.example/administration\n", "", "rest.tokens.audience"},
           Case{"role: operator }]", "role: root }]", "rest.tokens.scopes[1].role"},
           Case{"gate:change", "gate:read", "rest.tokens.scopes[1].scope"},
           Case{"gate:change", "\"gate change\"", "rest.tokens.scopes[1].scope"},
           Case{"ES256, RS256", "HS256", "rest.tokens.issuers[0].algorithms"},
           Case{"required", "require", "rest.tokens.require"},
           Case{"certificates: [bob-laptop, bob-phone]\n      subjects: [{ issuer: "
                "https://as.example, subject: bob@corp }]",
                "certificates: []", "rest.operators[1].certificates"},
       }) {
    std::string text = kTokens;
    const size_t at = text.find(c.part);
    ASSERT_NE(at, std::string::npos) << c.part;
    text.replace(at, std::string(c.part).size(), c.instead);
    const auto config = With(kBob, text);
    ASSERT_FALSE(config) << text;
    EXPECT_NE(config.error().where.find(c.where), std::string::npos) << config.error().Text();
  }
  std::string without = kTokens;  // a subject, and nobody who could issue its token
  without.erase(without.find("  tokens:"));
  EXPECT_FALSE(With(kBob, without));
}

TEST_F(ConfigTest, AuditLogBesideTheStoreOrWhereItSays) {
  const auto usual = With("", "");
  ASSERT_TRUE(usual);
  EXPECT_EQ(usual->audit.file, folder_ / "audit.log");
  EXPECT_EQ(usual->audit.key, folder_ / "audit.key");
  EXPECT_EQ(usual->audit.checkpoint_every, 64U);
  const auto own = With("lab: true", "audit: { file: a/b.log, key: /c.key, checkpoint_every: 1 }");
  ASSERT_TRUE(own) << own.error().Text();
  EXPECT_EQ(own->audit.file, folder_ / "a/b.log");
  EXPECT_EQ(own->audit.key, "/c.key");
  EXPECT_EQ(own->audit.checkpoint_every, 1U);
  EXPECT_FALSE(own->syslog);
  const auto remote =
      With("lab: true", "audit: { syslog: { address: 192.0.2.9, port: 6514, transport: tcp } }");
  ASSERT_TRUE(remote) << remote.error().Text();
  ASSERT_TRUE(remote->syslog);
  EXPECT_EQ(remote->syslog->address.to_string(), "192.0.2.9");
  EXPECT_EQ(remote->syslog->port, 6514);
  EXPECT_EQ(remote->syslog->transport, Syslog::Transport::tcp);
}

TEST_F(ConfigTest, AlarmsComeAsLongBeforeAsItSays) {
  using Days = std::vector<std::chrono::hours>;
  const auto usual = With("", "");
  ASSERT_TRUE(usual);
  EXPECT_EQ(usual->alarms,
            (Days{std::chrono::days(30), std::chrono::days(7), std::chrono::days(1)}));
  const auto own = With("lab: true", "alarms: { days: [90, 2] }");
  ASSERT_TRUE(own) << own.error().Text();
  EXPECT_EQ(own->alarms, (Days{std::chrono::days(90), std::chrono::days(2)}));
}

TEST_F(ConfigTest, RefusalsNameFileLineFieldExpectedAndFound) {
  struct Case {
    const char* line;
    const char* instead;
    const char* where;
    const char* found;
  };
  for (const Case& c : {
           Case{"lab: true", "lab: perhaps", ":1: lab", "perhaps"},
           Case{"store: control.db", "stores: control.db", ": store", "nothing"},
           Case{"lab: true", "audit: { checkpoint_every: 0 }", ":1: audit.checkpoint_every", "0"},
           Case{"lab: true", "audit: { syslog: { address: x } }", ":1: audit.syslog.address", "x"},
           Case{"lab: true", "audit: { syslog: { address: 127.0.0.1, transport: tls } }",
                ":1: audit.syslog.transport", "tls"},
           Case{"lab: true", "audit: { path: x }", ":1: audit.path", "path"},
           Case{"lab: true", "alarms: { days: [30, soon] }", ":1: alarms.days", "soon"},
           Case{"lab: true", "alarms: { days: [0] }", ":1: alarms.days", "0"},
           Case{"lab: true", "alarms: { hours: [1] }", ":1: alarms.days", "nothing"},
           Case{"  port: 8443", "  port: 84430", ":6: rest.port", "84430"},
           Case{"  port: 8443", "  prot: 8443", ":6: rest.prot", "prot"},
           Case{"role: viewer", "role: admin", ":12: rest.operators[1].role", "admin"},
           Case{"name: bob", "name: alice", ":12: rest.operators[1].name", "alice"},
           Case{"  key: server.key", "", ": rest.key", "nothing"},
       }) {
    const auto config = With(c.line, c.instead);
    ASSERT_FALSE(config) << c.instead;
    const std::string text = config.error().Text();
    EXPECT_NE(text.find(Path()), std::string::npos) << text;
    EXPECT_NE(text.find(c.where), std::string::npos) << text;
    EXPECT_NE(text.find(c.found), std::string::npos) << text;
    EXPECT_FALSE(config.error().expected.empty()) << text;
  }
}

TEST_F(ConfigTest, BrokenYamlAndMissingFile) {
  std::ofstream(Path()) << "lab: [true\nstore: x\n";
  EXPECT_FALSE(LoadControlConfig(Path()));
  EXPECT_NE(LoadControlConfig(folder_ / "absent.yaml").error().Text().find("absent.yaml"),
            std::string::npos);
}

}  // namespace
}  // namespace portcullis
