// A folder with an audit log in it, for the tests beside.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "control/registry/audit/log.hpp"
#include "control/registry/audit/verify.hpp"

namespace portcullis::audit {

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "portcullis-audit-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string File() const { return folder_ / "audit.log"; }
  [[nodiscard]] std::string KeyFile() const { return folder_ / "audit.key"; }

  Result<AuditLog> TryOpen(uint64_t checkpoint_every = 64) {
    return AuditLog::Open({File(), KeyFile(), checkpoint_every});
  }
  AuditLog Open(uint64_t checkpoint_every = 64) {
    auto log = TryOpen(checkpoint_every);
    EXPECT_TRUE(log) << log.error().Text();
    return std::move(*log);
  }
  [[nodiscard]] PublicKey Key() const { return SigningKey::Load(KeyFile())->Public(); }

  static Entry Change(const std::string& subject) {
    return {"alice", "PUT", subject, kDone, Hex(Sha256({subject})), {{"status", 200}}};
  }
  /// "open", `count` changes, each third followed by a checkpoint, and one more at the end.
  void Write(int count) {
    AuditLog log = Open(3);
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(log.Append(Change("/v1/peers/p" + std::to_string(i))));
    }
  }

  [[nodiscard]] std::string Content() const {
    std::stringstream all;
    all << std::ifstream(File(), std::ios::binary).rdbuf();
    return all.str();
  }
  void SetContent(const std::string& content) const {
    std::ofstream(File(), std::ios::binary | std::ios::trunc) << content;
  }
  [[nodiscard]] std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    std::istringstream in(Content());
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  void SetLines(const std::vector<std::string>& lines) const {
    std::string all;
    for (const auto& line : lines) all += line + "\n";
    SetContent(all);
  }
  [[nodiscard]] Report Verified(const Against& against) const {
    const auto report = Verify(File(), against);
    EXPECT_TRUE(report) << report.error().Text();
    return report.value_or(Report{});
  }
  [[nodiscard]] Report Verified() const { return Verified({Key(), {}}); }

  std::filesystem::path folder_;
};

}  // namespace portcullis::audit
