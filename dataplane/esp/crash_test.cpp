// kill -9 at every place where it could matter: between any two stores to a record. The store
// policy is the one through which production writes too; here it stops writing after the n-th
// store, and what then lies in memory is what the next process finds.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "base/test_seed.hpp"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/esp/test_support.hpp"

namespace portcullis {
namespace {

/// Lets `left` stores happen, then none.
class CutStore {
 public:
  explicit CutStore(uint64_t left) : left_(left) {}
  template <class T>
  void operator()(T& place, T value) noexcept {
    if (left_ == 0) {
      dead_ = true;
      return;
    }
    --left_;
    place = value;
  }
  [[nodiscard]] bool dead() const { return dead_; }

 private:
  uint64_t left_;
  bool dead_ = false;
};

uint64_t PickInbound(const SaRecord& r, uint32_t window, std::mt19937_64& random) {
  const uint64_t h = r.highest;
  switch (random() % 6) {
    case 0:
      return h + 1 + random() % (3 * window);  // over several words, now and then the whole ring
    case 1:
    case 2:
      return h + 1 + random() % 4;
    default:
      return h - std::min<uint64_t>(h, random() % (window + 3));
  }
}

struct CrashTest : testing::TestWithParam<uint32_t> {};

// A process accepts packets; a packet is sent on only when its commit has returned. It is killed
// after store n of some commit, the next process goes on with the memory as it is, is killed
// again, and so on. Nothing that was ever sent on is accepted again, by any of them.
TEST_P(CrashTest, NothingIsAcceptedTwice) {
  const uint32_t window = GetParam();
  std::mt19937_64 random(TestSeed(window * 31));
  for (int round = 0; round < 12; ++round) {
    TestRecord r(window);
    r.record.highest = round % 2 == 0 ? 0 : (uint64_t{1} << 32) - 2 * window;
    std::set<uint64_t> sent;
    uint64_t crashes = 0;
    for (int life = 0; life < 120; ++life) {
      CutStore store(random() % 400);
      while (!store.dead()) {
        const uint64_t n = PickInbound(r.record, window, random);
        const Verdict v = CommitReplay(r.record, Sequence{n}, store);
        if (store.dead() || v != Verdict::accepted) continue;
        ASSERT_TRUE(sent.insert(n).second) << n << " was accepted before";
      }
      ++crashes;
      // An attacker now replays all that the window could still be open for.
      for (auto it = sent.rbegin(); it != sent.rend(); ++it) {
        if (*it + 3 * window < r.record.highest) break;
        ASSERT_NE(CheckReplay(r.record, Sequence{*it}), Verdict::accepted) << *it;
      }
      // Legitimate traffic goes on: the next number always passes.
      ASSERT_EQ(CheckReplay(r.record, Sequence{r.record.highest + 1}), Verdict::accepted);
    }
    EXPECT_EQ(crashes, 120U);
    EXPECT_GT(sent.size(), 200U);
  }
}

// The same, exhaustively: one commit, cut after each of its stores, for every kind of advance.
TEST_P(CrashTest, EveryCutOfOneCommit) {
  const uint32_t window = GetParam();
  std::mt19937_64 random(TestSeed(window));
  const uint64_t ring = uint64_t{64} * RingWords(window);
  for (const uint64_t advance :
       {uint64_t{1}, uint64_t{63}, uint64_t{64}, uint64_t{65}, uint64_t{window} - 1,
        uint64_t{window}, ring - 1, ring, 3 * ring}) {
    TestRecord before(window);
    std::set<uint64_t> sent;
    for (uint64_t n = 1000; n < 1000 + 2 * window; ++n) {
      if (random() % 3 == 0) continue;
      ASSERT_EQ(before.Commit(n), Verdict::accepted);
      sent.insert(n);
    }
    const uint64_t number = before.record.highest + advance;
    for (uint64_t cut = 0;; ++cut) {
      TestRecord r = before;
      CutStore store(cut);
      CommitReplay(r.record, Sequence{number}, store);
      for (const uint64_t n : sent) {
        ASSERT_NE(CheckReplay(r.record, Sequence{n}), Verdict::accepted)
            << n << " after store " << cut << " of the commit of " << number;
      }
      if (store.dead()) continue;
      EXPECT_NE(CheckReplay(r.record, Sequence{number}), Verdict::accepted);
      EXPECT_GE(cut, 2U);
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Windows, CrashTest, testing::ValuesIn(kWindows),
                         testing::PrintToStringParamName());

// The test can fail: a commit in the tempting order, clear first, is caught by the same cuts.
TEST(CrashTestItself, CatchesClearBeforeAdvance) {
  const uint32_t window = 64;
  TestRecord r(window);
  for (uint64_t n = 1000; n < 1064; ++n) r.Commit(n);
  CutStore store(2);
  for (uint64_t word = 1063 / 64 + 1; word <= 1200 / 64; ++word) {
    store(r.words[word & r.record.word_mask], uint64_t{0});
  }
  store(r.record.highest, uint64_t{1200});
  ASSERT_TRUE(store.dead());
  EXPECT_EQ(r.Check(1030), Verdict::accepted) << "a replay would have passed here";
}

TEST(CrashOutbound, NoNumberIsUsedTwice) {
  std::mt19937_64 random(TestSeed(9));
  for (const bool esn : {false, true}) {
    TestRecord r;
    r.record.highest = esn ? (uint64_t{1} << 32) - 500 : 0;
    std::set<uint64_t> used;
    uint64_t packets = 0;
    for (int life = 0; life < 500; ++life) {
      CutStore store(random() % 30);
      while (!store.dead()) {
        const auto next = NextSequence(r.record, esn, store);
        if (store.dead()) break;
        ASSERT_NE(next, kNoSequence);
        // From here on the number is under way into a packet.
        ASSERT_TRUE(used.insert(Value(next)).second) << Value(next);
        CountPackets(r.record, 1, 100, store);
        if (store.dead()) break;
        ++packets;
      }
      // What was sent was counted before; a crash may count one that was not.
      ASSERT_GE(r.record.packets, packets);
      ASSERT_LE(r.record.packets, used.size());
      ASSERT_GE(r.record.bytes, packets * 100);
    }
    EXPECT_GT(used.size(), 1000U);
  }
}

}  // namespace
}  // namespace portcullis
