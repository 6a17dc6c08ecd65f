#include "control/registry/audit/log.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "control/registry/audit/test_log.hpp"

namespace portcullis::audit {
namespace {

using nlohmann::json;

TEST_F(LogTest, RecordsComeBackAsTheyWereWritten) {
  {
    AuditLog log = Open();
    Entry entry = Change("/v1/policy");
    entry.detail["text"] = "two\nlines, and no UTF-8: \xff";
    const auto number = log.Append(entry);
    ASSERT_TRUE(number) << number.error().Text();
    EXPECT_EQ(*number, 2U);
  }
  AuditLog log = Open();
  const auto records = log.Read(1, 10);
  ASSERT_TRUE(records) << records.error().Text();
  ASSERT_EQ(records->size(), 4U);  // open, PUT, the checkpoint of the end, open
  const json& record = (*records)[1];
  EXPECT_EQ(record["number"], 2);
  EXPECT_EQ(record["who"], "alice");
  EXPECT_EQ(record["action"], "PUT");
  EXPECT_EQ(record["subject"], "/v1/policy");
  EXPECT_EQ(record["outcome"], "done");
  EXPECT_EQ(record["digest"].get<std::string>().size(), 64U);
  EXPECT_EQ(record["detail"]["status"], 200);
  EXPECT_EQ(record["time"].get<std::string>().back(), 'Z');
  EXPECT_GT(record["boot_ms"], 0);
  EXPECT_EQ((*records)[2]["action"], "checkpoint");
  EXPECT_EQ((*records)[3]["detail"]["unsigned"], 0);

  EXPECT_EQ(log.Read(2, 1)->size(), 1U);
  EXPECT_EQ(log.Read(5, 1)->size(), 0U);
  EXPECT_EQ(log.Read(0, 1)->size(), 0U);
}

TEST_F(LogTest, CheckpointEveryFewRecordsAndOnDemand) {
  AuditLog log = Open(3);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(log.Append(Change("x")));
  EXPECT_EQ(log.count(), 4U);  // open, two changes, their checkpoint
  const auto checkpoint = log.Checkpoint();
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->count, 3U);
  EXPECT_EQ(log.count(), 4U);  // nothing new, nothing written
  ASSERT_TRUE(log.Append(Change("x")));
  const auto next = log.Checkpoint();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->count, 5U);
  EXPECT_EQ(Hex(next->head), (*log.Read(5, 1))[0]["hash"]);
  EXPECT_TRUE(log.Key().Verifies(next->SignedText(), next->signature));
  EXPECT_EQ(ToJson(*ParseCheckpoint(ToJson(*next), "")), ToJson(*next));
}

TEST_F(LogTest, SeveralAtOnceAreRecordsAsOthers) {
  AuditLog log = Open(3);
  std::vector<std::string> forwarded;
  log.Forward([&](const Stamp&, const std::string& line) { forwarded.push_back(line); });
  const std::vector<Entry> several{Change("a"), Change("b"), Change("c"), Change("d")};
  const auto number = log.Append(several);
  ASSERT_TRUE(number) << number.error().Text();
  EXPECT_EQ(*number, 5U);
  EXPECT_EQ(log.count(), 6U);  // open, four, one checkpoint for all
  ASSERT_TRUE(log.Append(Change("e")));
  const auto records = log.Read(2, 10);
  ASSERT_TRUE(records);
  ASSERT_EQ(records->size(), 6U);
  EXPECT_EQ((*records)[3]["subject"], "d");
  EXPECT_EQ((*records)[4]["action"], "checkpoint");
  EXPECT_EQ((*records)[5]["subject"], "e");
  const auto lines = Lines();
  EXPECT_EQ(forwarded, std::vector(lines.begin() + 1, lines.end()));
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(LogTest, OfSeveralAtOnceAllAreThereOrNone) {
  AuditLog log = Open();
  std::vector<Entry> several{Change("a"), Change("b")};
  several[1].detail["text"] = std::string(kLongestLine, 'x');
  EXPECT_FALSE(log.Append(several));
  EXPECT_EQ(log.count(), 1U);
  several[1].detail["text"] = "short";
  EXPECT_TRUE(log.Append(several));
  EXPECT_EQ(log.count(), 3U);
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(LogTest, ForOneProcessAndItsOwnerOnly) {
  {
    const AuditLog log = Open();
    EXPECT_FALSE(TryOpen());
    struct stat info {};
    ASSERT_EQ(stat(File().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
  }
  EXPECT_TRUE(TryOpen());
}

TEST_F(LogTest, WithoutItsKeyOrWithAnotherItIsRefused) {
  Open();
  const std::string content = Content();
  std::filesystem::rename(KeyFile(), folder_ / "kept.key");
  EXPECT_FALSE(TryOpen());
  ASSERT_TRUE(SigningKey::Create(KeyFile()));
  const auto other = TryOpen();
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().Text().find("names key"), std::string::npos) << other.error().Text();
  EXPECT_EQ(Content(), content);
  std::filesystem::rename(folder_ / "kept.key", KeyFile());
  EXPECT_TRUE(TryOpen());
}

TEST_F(LogTest, IncompleteEndIsCutAwayAndSaid) {
  Write(2);
  const std::string all = Content();
  SetContent(all + "0123456789");
  AuditLog log = Open();
  EXPECT_EQ((*log.Read(log.count(), 1))[0]["detail"]["cut"], 10);
  EXPECT_FALSE(Verified().wrong);
  EXPECT_EQ(Content().substr(0, all.size()), all);
}

// A full disk: the record is refused, nothing of it stays, and with room again the log goes on.
TEST_F(LogTest, WhatCannotBeWrittenIsRefusedAndLeavesNothing) {
  AuditLog log = Open();
  ASSERT_TRUE(log.Append(Change("before")));
  const std::string before = Content();
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit tight = old;
  tight.rlim_cur = before.size() + 50;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const auto refused = log.Append(Change("during"));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(Content(), before);
  EXPECT_TRUE(log.Healthy());
  ASSERT_TRUE(log.Append(Change("after")));
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(LogTest, TooLongARecordIsRefused) {
  AuditLog log = Open();
  Entry entry = Change("x");
  entry.detail["text"] = std::string(kLongestLine, 'x');
  EXPECT_FALSE(log.Append(entry));
  entry.detail["text"] = std::string(kLongestLine / 2, 'x');
  EXPECT_TRUE(log.Append(entry));
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(LogTest, SinkSeesEachRecord) {
  AuditLog log = Open();
  std::vector<std::string> seen;
  log.Forward([&](const Stamp&, const std::string& text) { seen.push_back(text); });
  ASSERT_TRUE(log.Append(Change("/v1/policy")));
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0], Lines()[1]);
}

// Killed at whatever instruction it happens to be: what was acknowledged is there, and the log
// verifies and goes on.
TEST_F(LogTest, KilledInTheMiddleOfAppends) {
  constexpr int kRounds = 12;
  uint64_t acknowledged = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto log = TryOpen(3);
      if (!log) _exit(1);
      for (;;) {
        const auto number = log->Append(Change("/v1/peers/p"));
        if (!number || write(ends[1], &*number, sizeof *number) != sizeof *number) _exit(1);
      }
    }
    close(ends[1]);
    // A different number of records in each round, then the kill falls anywhere in the next ones.
    uint64_t number = 0;
    for (int i = 0; i <= round && read(ends[0], &number, sizeof number) == sizeof number; ++i) {
    }
    kill(child, SIGKILL);
    while (read(ends[0], &number, sizeof number) == sizeof number) {
    }
    close(ends[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself in round " << round;
    ASSERT_GT(number, acknowledged);
    acknowledged = number;
    const Report report = Verified();
    ASSERT_FALSE(report.wrong) << report.wrong->number << ": " << report.wrong->text;
    ASSERT_GE(report.count, acknowledged);
  }
  EXPECT_GE(Open().count(), acknowledged);
}

}  // namespace
}  // namespace portcullis::audit
