#include "control/cli/settings.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace portcullis::cli {
namespace {

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "ctl-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    for (const char* name : {"URL", "CA", "CERT", "KEY", "SERVER_NAME", "TOKEN_FILE"}) {
      unsetenv((std::string("PORTCULLIS_") + name).c_str());
    }
    setenv("XDG_CONFIG_HOME", folder_.c_str(), 1);
  }
  ~SettingsTest() override {
    for (const char* name : {"URL", "CA", "CERT", "KEY"}) {
      unsetenv((std::string("PORTCULLIS_") + name).c_str());
    }
    std::filesystem::remove_all(folder_);
  }
  std::string Write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

constexpr const char* kWhole = "ca: ca.pem\ncertificate: /etc/alice.pem\nkey: alice.key\n";

TEST_F(SettingsTest, PathsInTheFileAreRelativeToIt) {
  const auto settings = LoadSettings({.config = Write("sub/ctl.yaml", kWhole), .values = {}});
  ASSERT_TRUE(settings) << settings.error().text;
  EXPECT_EQ(settings->ca, (folder_ / "sub/ca.pem").string());
  EXPECT_EQ(settings->certificate, "/etc/alice.pem");
  EXPECT_EQ(settings->token_file, "");
  const std::string with_token = std::string(kWhole) + "token_file: token\n";
  EXPECT_EQ(LoadSettings({.config = Write("sub/ctl.yaml", with_token), .values = {}})->token_file,
            (folder_ / "sub/token").string());
}

TEST_F(SettingsTest, FlagsBeforeEnvironmentBeforeFile) {
  SettingsFlags flags{
      .config = Write("ctl.yaml", std::string(kWhole) + "url: https://file:1\n"),
      .values = {
          .url = {}, .ca = {}, .certificate = {}, .key = {}, .server_name = {}, .token_file = {}}};
  EXPECT_EQ(LoadSettings(flags)->url, "https://file:1");
  setenv("PORTCULLIS_URL", "https://env:1", 1);
  setenv("PORTCULLIS_KEY", "env.key", 1);
  EXPECT_EQ(LoadSettings(flags)->url, "https://env:1");
  EXPECT_EQ(LoadSettings(flags)->key, "env.key");
  flags.values.url = "https://flag:1";
  EXPECT_EQ(LoadSettings(flags)->url, "https://flag:1");
}

TEST_F(SettingsTest, TheDefaultFileIsFound) {
  SettingsFlags none{
      .config = {},
      .values = {
          .url = {}, .ca = {}, .certificate = {}, .key = {}, .server_name = {}, .token_file = {}}};
  EXPECT_FALSE(LoadSettings(none));
  Write("portcullis/ctl.yaml", kWhole);
  EXPECT_TRUE(LoadSettings(none));
}

TEST_F(SettingsTest, WrongFilesAreNamed) {
  const auto text = [this](const std::string& content) {
    const auto settings = LoadSettings({.config = Write("ctl.yaml", content), .values = {}});
    return settings ? "accepted" : settings.error().text;
  };
  EXPECT_EQ(text(kWhole), "accepted");
  EXPECT_NE(text(std::string(kWhole) + "cert: x\n").find("unknown setting 'cert'"),
            std::string::npos);
  EXPECT_NE(text(std::string(kWhole) + "url: 5\n").find("found 5"), std::string::npos);
  EXPECT_NE(text("ca: ca.pem\n").find("your certificate"), std::string::npos);
  EXPECT_NE(text("[]").find("mapping"), std::string::npos);
  EXPECT_FALSE(LoadSettings({.config = folder_ / "none.yaml", .values = {}}));
}

TEST(UrlTest, GoodOnes) {
  EXPECT_EQ(ParseUrl("https://gate.example")->port, "8443");
  EXPECT_EQ(ParseUrl("https://gate.example:1/")->host, "gate.example");
  EXPECT_EQ(ParseUrl("https://[2001:db8::1]:99")->host, "2001:db8::1");
  EXPECT_EQ(ParseUrl("https://[2001:db8::1]:99")->port, "99");
  EXPECT_EQ(ParseUrl("https://[::1]")->port, "8443");
}

TEST(UrlTest, WrongOnes) {
  for (const char* url :
       {"", "gate", "http://gate", "https://", "https://:1", "https://gate:", "https://gate:65536",
        "https://gate:x", "https://gate/v1", "https://a@gate", "https://[::1", "https://[::1]x"}) {
    EXPECT_FALSE(ParseUrl(url)) << url;
  }
}

}  // namespace
}  // namespace portcullis::cli
