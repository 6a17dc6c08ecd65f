#include "control/admission/journal.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <csignal>

#include "control/registry/audit/test_log.hpp"

namespace portcullis::admission {
namespace {

using nlohmann::json;
using What = Decision::What;

class JournalTest : public audit::LogTest {
 protected:
  void SetUp() override {
    LogTest::SetUp();
    log_.emplace(Open());
    journal_.emplace(io_.get_executor(), events_, *log_);
  }

  static Decision Refusal(const std::string& reason = "token_expired",
                          const std::string& reference = "0123456789abcdef") {
    Decision d;
    d.id = reference;
    d.peer = "csmf-1";
    d.identity = "csmf-1.example";
    d.source = "192.0.2.2";
    d.reason = reason;
    return d;
  }
  static Decision Session(What what, const std::string& id = "s-1") {
    Decision d;
    d.what = what;
    d.id = id;
    d.peer = "csmf-1";
    d.generation = 1;
    return d;
  }
  /// All but the log's own, once everything is written.
  std::vector<json> Written() {
    journal_->Stop();
    std::vector<json> records;
    const auto all = log_->Read(1, 100'000);
    EXPECT_TRUE(all);
    if (!all) return records;
    for (const json& record : *all) {
      if (record["action"] != "open" && record["action"] != "checkpoint") records.push_back(record);
    }
    return records;
  }
  [[nodiscard]] size_t Told(const std::string& kind) const {
    size_t told = 0;
    for (const Event* event : events_.After(0)) told += event->kind == kind ? 1 : 0;
    return told;
  }

  boost::asio::io_context io_;
  Events events_;
  std::optional<AuditLog> log_;
  std::optional<Journal> journal_;
};

TEST_F(JournalTest, ARefusalIsKeptToldAndWritten) {
  journal_->Note(Refusal());
  EXPECT_EQ(journal_->decisions().Of("0123456789abcdef").size(), 1U);
  EXPECT_EQ(Told("refused"), 1U);
  const auto records = Written();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0]["who"], "csmf-1");
  EXPECT_EQ(records[0]["action"], "refuse");
  EXPECT_EQ(records[0]["outcome"], "refused");
  EXPECT_EQ(records[0]["subject"], "0123456789abcdef");
  EXPECT_EQ(records[0]["detail"]["reason"], "token_expired");
  EXPECT_EQ(records[0]["detail"]["source"], "192.0.2.2");
}

TEST_F(JournalTest, ASessionsLifeIsWrittenButNotWhatIsNotInForce) {
  journal_->Note(Session(What::admitted));
  journal_->Note(Session(What::in_force));
  Decision ended = Session(What::ended);
  ended.who = "alice";
  journal_->Note(ended);
  EXPECT_EQ(journal_->decisions().Of("s-1").size(), 3U);
  const auto records = Written();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0]["detail"]["what"], "in_force");
  EXPECT_EQ(records[0]["who"], "csmf-1");
  EXPECT_EQ(records[1]["detail"]["what"], "ended");
  EXPECT_EQ(records[1]["who"], "alice");
}

TEST_F(JournalTest, AFloodIsANumberAndEachReasonHasItsOwn) {
  for (int i = 0; i < 10'000; ++i) journal_->Note(Refusal());
  journal_->Note(Refusal("cert_revoked"));
  const auto records = Written();
  ASSERT_EQ(records.size(), Journal::kRefusals + 2);
  const json& count = records.back();
  EXPECT_EQ(count["who"], "control");
  EXPECT_EQ(count["detail"]["reason"], "token_expired");
  EXPECT_EQ(count["detail"]["more"], 10'000 - Journal::kRefusals);
  EXPECT_EQ(Told("refused"), Journal::kRefusals + 2);
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(JournalTest, APeerThatComesAndGoesIsCountedToo) {
  for (int i = 0; i < 500; ++i) journal_->Note(Session(What::in_force, std::to_string(i)));
  const auto records = Written();
  ASSERT_EQ(records.size(), Journal::kSessionRecords + 1);
  EXPECT_EQ(records.back()["who"], "csmf-1");
  EXPECT_EQ(records.back()["detail"]["more"], 500 - Journal::kSessionRecords);
}

TEST_F(JournalTest, OperatorsRefusalsAreWrittenAtOnceAndThenCounted) {
  const audit::Entry entry{"bob", "PUT", "/v1/policy", audit::kRefused, "", json::object()};
  ASSERT_TRUE(journal_->NoteRefusal(entry, "bob"));
  EXPECT_EQ(log_->count(), 2U);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(journal_->NoteRefusal(entry, "bob"));
  const auto records = Written();
  ASSERT_EQ(records.size(), Journal::kOperatorsRefusals + 1);
  EXPECT_EQ(records.back()["who"], "bob");
  EXPECT_EQ(records.back()["detail"]["more"], 101 - Journal::kOperatorsRefusals);
}

TEST_F(JournalTest, ManyAreWrittenTogetherWhileItRuns) {
  boost::asio::co_spawn(io_, journal_->Run(), boost::asio::detached);
  for (int i = 0; i < 5000; ++i) {
    Decision d = Session(What::in_force, std::to_string(i));
    d.peer = "csmf-" + std::to_string(i);
    journal_->Note(d);
  }
  EXPECT_EQ(log_->count(), 1U);  // nobody waited for the disk
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (log_->count() < 5001 && std::chrono::steady_clock::now() < give_up) io_.run_one();
  EXPECT_GE(log_->count(), 5001U);
  EXPECT_FALSE(Verified().wrong);
  journal_->Stop();
  io_.run();
}

TEST_F(JournalTest, WhatCannotBeWrittenWaitsAndIsToldOnce) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{std::filesystem::file_size(File()), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  journal_->Note(Refusal());
  journal_->Note(Session(What::in_force));
  journal_->Stop();
  journal_->Stop();
  EXPECT_EQ(Told("audit_failed"), 1U);
  EXPECT_EQ(log_->count(), 1U);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(Written().size(), 2U);
  EXPECT_FALSE(Verified().wrong);
}

TEST_F(JournalTest, AReferenceThatIsNoneOrIsTakenBecomesAnotherOne) {
  journal_->Note(Refusal());
  EXPECT_EQ(journal_->Note(Refusal("token_expired", "fedcba9876543210")).id, "fedcba9876543210");
  for (const char* wrong : {"", "0123456789abcdef", "../../etc/passwd", "0123456789ABCDEF"}) {
    const std::string id = journal_->Note(Refusal("token_expired", wrong)).id;
    EXPECT_NE(id, wrong);
    EXPECT_EQ(id.size(), 16U);
  }
  EXPECT_EQ(journal_->decisions().Of("0123456789abcdef").size(), 1U);
}

TEST_F(JournalTest, WhatIsWrittenAsideAndAtOnceIsOneIntactLog) {
  constexpr size_t kAside = 500;
  constexpr size_t kAtOnce = 50;
  const std::vector<audit::Entry> entries(kAside, Change("/aside"));
  std::optional<Result<uint64_t>> aside;
  boost::asio::co_spawn(
      io_, journal_->Append(entries),
      [&](const std::exception_ptr&, Result<uint64_t> number) { aside = std::move(number); });
  for (size_t i = 0; i < kAtOnce; ++i) {
    io_.poll();
    ASSERT_TRUE(log_->Append(Change("/at-once")));
  }
  while (!aside) {
    io_.restart();
    io_.run_one_for(std::chrono::seconds(60));
  }
  ASSERT_TRUE(*aside);
  const auto records = Written();
  const auto count = [&](const char* subject) {
    return static_cast<size_t>(std::ranges::count_if(
        records, [&](const json& record) { return record["subject"] == subject; }));
  };
  EXPECT_EQ(count("/aside"), kAside);
  EXPECT_EQ(count("/at-once"), kAtOnce);
  EXPECT_EQ((*log_->Read(**aside, 1))[0]["subject"], "/aside");
  EXPECT_FALSE(Verified().wrong);
}

}  // namespace
}  // namespace portcullis::admission
