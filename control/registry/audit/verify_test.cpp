// Every kind of tampering is done to a log that verifies before.
#include "control/registry/audit/verify.hpp"

#include "control/registry/audit/test_log.hpp"

namespace portcullis::audit {
namespace {

using nlohmann::json;

class VerifyTest : public LogTest {
 protected:
  void SetUp() override {
    LogTest::SetUp();
    Write(10);
    lines_ = Lines();
    // open + 10 changes + a checkpoint after each third record, and the last at the end
    ASSERT_EQ(lines_.size(), 15U);
    const Report intact = Verified();
    ASSERT_FALSE(intact.wrong) << intact.wrong->text;
    ASSERT_EQ(intact.count, lines_.size());
    ASSERT_EQ(intact.covered, lines_.size() - 1);
  }

  static json RecordOf(const std::string& line) { return json::parse(ParseLine(line)->json); }
  // Gives every line from index `at` on the hash that fits, as somebody without the key could.
  void Rechain(size_t at) {
    Hash head = at == 0 ? kBeforeTheFirst : ParseLine(lines_[at - 1])->hash;
    for (size_t i = at; i < lines_.size(); ++i) {
      const std::string text(ParseLine(lines_[i])->json);
      head = Chain(head, text);
      lines_[i] = Hex(head) + " " + text;
    }
  }
  void Replace(size_t at, const std::string& what, const std::string& instead) {
    const size_t where = lines_[at].find(what);
    ASSERT_NE(where, std::string::npos) << lines_[at];
    lines_[at].replace(where, what.size(), instead);
  }
  void ExpectWrong(uint64_t number, const std::string& text, const Against& against) {
    SetLines(lines_);
    const Report report = Verified(against);
    ASSERT_TRUE(report.wrong);
    EXPECT_EQ(report.wrong->number, number) << report.wrong->text;
    EXPECT_NE(report.wrong->text.find(text), std::string::npos) << report.wrong->text;
    EXPECT_EQ(report.count, number - 1);
    // What is wrong by itself is not written on.
    if (!against.anchor && Verified().wrong) {
      const std::string before = Content();
      EXPECT_FALSE(TryOpen());
      EXPECT_EQ(Content(), before);
    }
  }
  void ExpectWrong(uint64_t number, const std::string& text) {
    ExpectWrong(number, text, {Key(), {}});
  }
  // The last checkpoint in the log, as an operator would have kept it.
  Checkpoint Kept() { return *ParseCheckpoint(RecordOf(lines_.back())["detail"], ""); }

  std::vector<std::string> lines_;
};

TEST_F(VerifyTest, ChangedRecord) {
  Replace(5, "alice", "mabel");
  ExpectWrong(6, "was changed");
}

TEST_F(VerifyTest, ChangedHash) {
  lines_[5][0] = lines_[5][0] == '0' ? '1' : '0';
  ExpectWrong(6, "was changed");
}

TEST_F(VerifyTest, FirstRecord) {
  Replace(0, "control", "contrul");
  ExpectWrong(1, "not what its hash was made of");
}

TEST_F(VerifyTest, DeletedRecord) {
  lines_.erase(lines_.begin() + 5);
  ExpectWrong(6, "numbered 7");
}

TEST_F(VerifyTest, DeletedFirstRecord) {
  lines_.erase(lines_.begin());
  ExpectWrong(1, "numbered 2");
}

TEST_F(VerifyTest, InsertedRecord) {
  lines_.insert(lines_.begin() + 5, lines_[2]);
  ExpectWrong(6, "numbered 3");
}

TEST_F(VerifyTest, RepeatedLastRecord) {
  lines_.push_back(lines_.back());
  ExpectWrong(16, "numbered 15");
}

TEST_F(VerifyTest, SwappedRecords) {
  std::swap(lines_[5], lines_[6]);
  ExpectWrong(6, "numbered 7");
}

TEST_F(VerifyTest, SwappedRecordsWithFittingHashes) {
  std::swap(lines_[5], lines_[6]);
  Rechain(5);
  ExpectWrong(6, "numbered 7");
}

TEST_F(VerifyTest, ChainWrittenAnewContradictsTheNextCheckpoint) {
  ASSERT_EQ(RecordOf(lines_[7])["action"], "checkpoint");
  Replace(5, "alice", "mabel");
  Rechain(5);
  ExpectWrong(8, "were written anew");
}

TEST_F(VerifyTest, CheckpointMadeToFitHasNoSignature) {
  Replace(5, "alice", "mabel");
  Rechain(5);
  Replace(7, RecordOf(lines_[7])["detail"]["head"], Hex(ParseLine(lines_[6])->hash));
  Rechain(7);
  ExpectWrong(8, "signature of the checkpoint is wrong");
}

TEST_F(VerifyTest, CheckpointOfAnotherKey) {
  const auto other = SigningKey::Create(folder_ / "other.key");
  ASSERT_TRUE(other);
  ExpectWrong(4, "names key", {other->Public(), {}});
}

TEST_F(VerifyTest, CheckpointThatIsNone) {
  Replace(7, "\"signature\"", "\"sign\"");
  Rechain(7);
  ExpectWrong(8, "claims to be a checkpoint");
}

TEST_F(VerifyTest, CutOffEndIsFoundWithAnAnchorOnly) {
  const Checkpoint kept = Kept();
  ASSERT_EQ(kept.count, 14U);
  EXPECT_FALSE(Verified({Key(), kept}).wrong);
  lines_.resize(11);
  SetLines(lines_);
  EXPECT_FALSE(Verified().wrong);
  ExpectWrong(12, "the log was cut off", {Key(), kept});
}

TEST_F(VerifyTest, EmptiedLog) {
  const Checkpoint kept = Kept();
  lines_.clear();
  ExpectWrong(1, "missing", {Key(), kept});
}

// With the key even signatures fit; only what is kept elsewhere tells.
TEST_F(VerifyTest, LogWrittenAnewWithTheKeyIsFoundByTheAnchor) {
  const Checkpoint kept = Kept();
  const PublicKey key = Key();
  std::filesystem::remove(File());
  Write(10);
  lines_ = Lines();
  EXPECT_FALSE(Verified().wrong);
  ExpectWrong(14, "written anew", {key, kept});
}

TEST_F(VerifyTest, AnchorFromFileIsItselfChecked) {
  const std::string path = folder_ / "anchor.json";
  std::ofstream(path) << ToJson(Kept()).dump(2) << "\n";
  auto anchor = LoadCheckpoint(path);
  ASSERT_TRUE(anchor) << anchor.error().Text();
  EXPECT_FALSE(Verified({Key(), *anchor}).wrong);
  anchor->count = 3;
  EXPECT_FALSE(Verify(File(), {Key(), *anchor}));
  std::ofstream(path) << "{}";
  EXPECT_FALSE(LoadCheckpoint(path));
  EXPECT_FALSE(LoadCheckpoint(folder_ / "absent.json"));
}

TEST_F(VerifyTest, ALaterLogFitsAnEarlierAnchor) {
  const Checkpoint kept = Kept();
  Write(4);
  EXPECT_FALSE(Verified({Key(), kept}).wrong);
  // open, four changes, a checkpoint within and one at the end
  EXPECT_EQ(Verified().count, lines_.size() + 7);
}

TEST_F(VerifyTest, WhatIsNoRecordIsNamed) {
  lines_[5] = "hello";
  ExpectWrong(6, "not a record");
  lines_[5] = std::string(kLongestLine + 10, '0');
  ExpectWrong(6, "longer than");
  lines_[5] = "";
  ExpectWrong(6, "not a record");
  lines_[5] = lines_[4].substr(0, 65) + "[[[";
  Rechain(5);
  ExpectWrong(6, "numbered not at all");
}

TEST_F(VerifyTest, IncompleteEndIsNoDamage) {
  const std::string all = Content();
  SetContent(all.substr(0, all.size() - 20));
  const Report report = Verified();
  EXPECT_FALSE(report.wrong);
  EXPECT_EQ(report.count, lines_.size() - 1);
  EXPECT_EQ(report.incomplete_bytes, lines_.back().size() - 19);
}

TEST_F(VerifyTest, NoFile) {
  const auto report = Verify(folder_ / "absent.log", {});
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().Text().find("absent.log"), std::string::npos);
}

}  // namespace
}  // namespace portcullis::audit
