// The window: nothing twice, nothing wrongly refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

#include "base/test_seed.hpp"
#include "bpf/shared.h"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/esp/test_support.hpp"

namespace portcullis {
namespace {

constexpr auto kAccepted = Verdict::accepted;
constexpr auto kReplayed = Verdict::replayed;
constexpr auto kStale = Verdict::stale;

struct Step {
  uint64_t number;
  Verdict verdict;
};
struct Sequel {
  const char* name;
  uint32_t window;
  std::vector<Step> steps;
};
void PrintTo(const Sequel& s, std::ostream* out) {
  *out << s.name;
}

constexpr uint64_t kTwo32 = uint64_t{1} << 32;

const Sequel kSequels[] = {
    {"zero_is_never_valid", 64, {{0, kStale}, {1, kAccepted}, {0, kStale}}},
    {"first_and_again", 64, {{1, kAccepted}, {1, kReplayed}, {2, kAccepted}, {2, kReplayed}}},
    {"starts_high", 64, {{9999, kAccepted}, {9999, kReplayed}, {9936, kAccepted}, {9935, kStale}}},
    {"whole_window_backwards_edge",
     64,
     {{64, kAccepted},
      {1, kAccepted},
      {65, kAccepted},
      {1, kStale},
      {2, kAccepted},
      {2, kReplayed}}},
    {"word_boundaries",
     128,
     {{63, kAccepted},
      {64, kAccepted},
      {65, kAccepted},
      {127, kAccepted},
      {128, kAccepted},
      {129, kAccepted},
      {63, kReplayed},
      {64, kReplayed},
      {65, kReplayed},
      {127, kReplayed},
      {128, kReplayed},
      {62, kAccepted},
      {2, kAccepted},
      {1, kStale}}},
    {"window_is_no_multiple_of_64",
     100,
     {{1000, kAccepted},
      {901, kAccepted},
      {900, kStale},
      {901, kReplayed},
      {902, kAccepted},
      {1001, kAccepted},
      {901, kStale},
      {902, kReplayed},
      {903, kAccepted}}},
    {"jump_within_the_ring_clears",
     64,
     {{1, kAccepted}, {129, kAccepted}, {128, kAccepted}, {66, kAccepted}, {65, kStale}}},
    {"jump_of_exactly_the_ring",
     64,
     {{5, kAccepted},
      {5 + 128, kAccepted},
      {4 + 128, kAccepted},
      {5 + 128, kReplayed},
      {5 + 128 - 63, kAccepted},
      {5 + 128 - 64, kStale}}},
    {"jump_far_beyond_the_ring",
     1024,
     {{7, kAccepted},
      {8, kAccepted},
      {kTwo32 * 5, kAccepted},
      {kTwo32 * 5 - 1, kAccepted},
      {kTwo32 * 5 - 1023, kAccepted},
      {kTwo32 * 5 - 1024, kStale},
      {7, kStale},
      {8, kStale},
      {kTwo32 * 5, kReplayed}}},
    {"over_2_to_the_32",
     64,
     {{kTwo32 - 2, kAccepted},
      {kTwo32 + 1, kAccepted},
      {kTwo32, kAccepted},
      {kTwo32 - 1, kAccepted},
      {kTwo32 - 2, kReplayed},
      {kTwo32 - 1, kReplayed},
      {kTwo32, kReplayed},
      {kTwo32 - 62, kAccepted},
      {kTwo32 - 63, kStale}}},
    {"up_to_the_very_end",
     64,
     {{UINT64_MAX - 1, kAccepted},
      {UINT64_MAX, kAccepted},
      {UINT64_MAX, kReplayed},
      {UINT64_MAX - 63, kAccepted},
      {UINT64_MAX - 64, kStale}}},
    {"no_window", 0, {{5, kAccepted}, {5, kAccepted}, {3, kAccepted}, {0, kStale}}},
};

struct ReplayTable : testing::TestWithParam<Sequel> {};

TEST_P(ReplayTable, Holds) {
  TestRecord r(GetParam().window);
  for (size_t i = 0; i < GetParam().steps.size(); ++i) {
    const Step& step = GetParam().steps[i];
    EXPECT_EQ(Info(r.Check(step.number)).name, Info(step.verdict).name) << "before step " << i;
    EXPECT_EQ(Info(r.Commit(step.number)).name, Info(step.verdict).name) << "step " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Sequels, ReplayTable, testing::ValuesIn(kSequels),
                         [](const auto& info) { return std::string(info.param.name); });

struct ReplayWindow : testing::TestWithParam<uint32_t> {
  const uint32_t window = GetParam();
  std::mt19937_64 random{TestSeed(window)};
};

TEST_P(ReplayWindow, RingHoldsIt) {
  EXPECT_GE(RingWords(window), (window + 63) / 64 + 1);
  EXPECT_EQ(RingWords(window) & (RingWords(window) - 1), 0U);
}

// Each packet at most window - 1 late, however they are shuffled: none is dropped, and each of the
// last `window` numbers is refused when it comes again.
TEST_P(ReplayWindow, ReorderingLosesNothingAndReplaysPassNever) {
  for (const uint64_t start : {uint64_t{1}, uint64_t{63}, uint64_t{64}, kTwo32 - 3 * window}) {
    TestRecord r(window);
    std::vector<uint64_t> order(size_t{6} * window);
    std::iota(order.begin(), order.end(), start);
    for (size_t i = 0; i < order.size(); i += window) {
      std::shuffle(order.begin() + i, order.begin() + i + window, random);
    }
    uint64_t highest = 0;
    for (const uint64_t n : order) {
      ASSERT_EQ(r.Commit(n), kAccepted) << n;
      ASSERT_EQ(r.Commit(n), kReplayed) << n;
      highest = std::max(highest, n);
    }
    for (uint64_t n = highest; n > highest - window; --n) ASSERT_EQ(r.Commit(n), kReplayed) << n;
    EXPECT_EQ(r.Commit(highest - window), kStale);
    EXPECT_EQ(r.Commit(highest + 1), kAccepted);
  }
}

// Every second packet comes as late as the window permits. (All windows here are even, so the late
// ones are the odd numbers.)
TEST_P(ReplayWindow, LatestPossiblePacketStillPasses) {
  TestRecord r(window);
  for (uint64_t n = window; n < 4 * window; ++n) {
    ASSERT_EQ(r.Commit(n * 2), kAccepted);
    ASSERT_EQ(r.Commit(n * 2 - (window - 1)), kAccepted) << n;
    ASSERT_EQ(r.Check(n * 2 - window), kStale);
  }
}

// Against the plainest model there is: the set of numbers accepted so far.
TEST_P(ReplayWindow, AgreesWithASet) {
  for (int round = 0; round < 20; ++round) {
    TestRecord r(window);
    std::set<uint64_t> accepted;
    uint64_t highest = 0;
    for (int i = 0; i < 5000; ++i) {
      uint64_t n = 0;
      switch (random() % 8) {
        case 0:
          n = highest + 1 + random() % (4 * window);
          break;
        case 1:
          n = highest + 1 + random() % 3;
          break;
        default:
          n = highest - std::min<uint64_t>(highest, random() % (window + window / 8 + 2));
      }
      const Verdict expected = n == 0                  ? kStale
                               : n + window <= highest ? kStale
                               : accepted.contains(n)  ? kReplayed
                                                       : kAccepted;
      ASSERT_EQ(Info(r.Check(n)).name, Info(expected).name) << n << " highest " << highest;
      ASSERT_EQ(r.Commit(n), expected);
      if (expected == kAccepted) accepted.insert(n);
      highest = std::max(highest, expected == kAccepted ? n : highest);
    }
    EXPECT_EQ(r.record.highest, highest);
  }
}

// A forgery gets no further than CheckReplay, which changes nothing.
TEST_P(ReplayWindow, CheckMovesNothing) {
  TestRecord r(window);
  r.Commit(1000);
  const TestRecord before = r;
  EXPECT_EQ(r.Check(5'000'000), kAccepted);
  EXPECT_EQ(r.Check(999), kAccepted);
  EXPECT_EQ(std::memcmp(&before, &r, sizeof(r)), 0);
  EXPECT_EQ(r.Commit(1001), kAccepted);
}

INSTANTIATE_TEST_SUITE_P(Windows, ReplayWindow, testing::ValuesIn(kWindows),
                         testing::PrintToStringParamName());

TEST(WindowsEdge, IsTheLowestNumberThatIsNotStale) {
  for (const uint32_t window : kWindows) {
    TestRecord r(window);
    EXPECT_EQ(OldestOf(r.record), 0U);
    r.Commit(window - 1);
    EXPECT_EQ(OldestOf(r.record), 0U);
    for (const uint64_t highest : {uint64_t{window}, uint64_t{9000}, kTwo32 + 5, UINT64_MAX}) {
      r.Commit(highest);
      const uint64_t oldest = OldestOf(r.record);
      EXPECT_EQ(r.Check(oldest - 1), kStale);
      EXPECT_EQ(r.Check(oldest), kAccepted) << highest << " " << window;
    }
  }
  TestRecord none(0);
  none.Commit(100'000);
  EXPECT_EQ(OldestOf(none.record), 0U);
}

// XDP knows the lower half of the edge, perhaps of a while ago, and the lower half of a number.
// What it calls stale the dataplane must refuse, with or without ESN, also where numbers wrap and
// half of all numbers away.
TEST(WindowsEdge, TheFirstLineRefusesNothingThatTheWindowAccepts) {
  static_assert(kMaxReplayWindow * 2 <= (uint32_t{1} << 31) - PORTCULLIS_STALE_SPAN);
  std::mt19937_64 random(TestSeed(11));
  constexpr uint64_t kHalf = uint64_t{1} << 31;
  unsigned stale = 0;
  unsigned far = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const uint32_t window = kWindows[random() % std::size(kWindows)];
    const bool esn = random() % 2 == 0;
    TestRecord r(window);
    const uint64_t base = esn ? random() % 4 * kTwo32 : 0;
    const uint64_t corner = random() % 4 * kHalf / 2;
    r.record.highest = base + (corner + random() % (random() % 2 == 0 ? 40'000 : kHalf)) % kTwo32;
    // Told at most a window ago; production's steps are shorter.
    const uint64_t edge = OldestOf(r.record);
    const uint64_t told = edge - std::min(edge, random() % window);
    const auto oldest = static_cast<uint32_t>(told);
    const auto low = static_cast<uint32_t>(
        random() % 3 == 0 ? random() : oldest - random() % 2 * kHalf + random() % 40'000 - 20'000);
    if (portcullis_is_stale(oldest, low) == 0) continue;
    ++stale;
    far += oldest - low > kHalf - 40'000 ? 1 : 0;
    const Sequence number = InferSequence(r.record.highest, window, esn, low);
    ASSERT_EQ(CheckReplay(r.record, number), kStale)
        << r.record.highest << " " << window << " " << esn << " " << oldest << " " << low;
  }
  EXPECT_GT(stale, 100'000U);
  EXPECT_GT(far, 5'000U);
}

TEST(Outbound, CountsUpAndStopsAtTheEnd) {
  TestRecord r;
  EXPECT_EQ(NextSequence(r.record, false), Sequence{1});
  EXPECT_EQ(NextSequence(r.record, false), Sequence{2});
  r.record.highest = UINT32_MAX - 1;
  EXPECT_EQ(NextSequence(r.record, false), Sequence{UINT32_MAX});
  EXPECT_EQ(NextSequence(r.record, false), kNoSequence);
  EXPECT_EQ(NextSequence(r.record, false), kNoSequence);
  EXPECT_EQ(NextSequence(r.record, true), Sequence{kTwo32});
  r.record.highest = UINT64_MAX - 1;
  EXPECT_EQ(NextSequence(r.record, true), Sequence{UINT64_MAX});
  EXPECT_EQ(NextSequence(r.record, true), kNoSequence);
  EXPECT_EQ(r.record.highest, UINT64_MAX);
}

TEST(Outbound, LifetimeCounts) {
  TestRecord r;
  CountPackets(r.record, 1, 1400);
  CountPackets(r.record, 1, 60);
  EXPECT_EQ(r.record.packets, 2U);
  EXPECT_EQ(r.record.bytes, 1460U);
}

}  // namespace
}  // namespace portcullis
