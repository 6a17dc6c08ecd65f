// The inference of the upper half, against RFC 4303 appendix A2.2 as it is written, except where we
// deviate on purpose; then together with the window across 2^32.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/test_seed.hpp"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/esp/test_support.hpp"

namespace portcullis {
namespace {

constexpr uint64_t kTwo32 = uint64_t{1} << 32;

/// Appendix A2.2, cases A and B, word for word. Nothing: the upper half would be below zero.
std::optional<uint64_t> ByTheRfc(uint64_t highest, uint32_t window, uint32_t low) {
  const auto tl = static_cast<uint32_t>(highest);
  const uint64_t th = highest >> 32;
  const uint32_t bl = tl - window + 1;
  if (tl >= window - 1) return (low >= bl ? th : th + 1) << 32 | low;
  if (low < bl) return th << 32 | low;
  return th == 0 ? std::nullopt : std::optional((th - 1) << 32 | low);
}

TEST(InferSequence, FollowsTheRfcExceptForJumpsOverTwoTo31) {
  std::mt19937_64 random(TestSeed(3));
  int inferred = 0;
  int stale = 0;
  for (int i = 0; i < 500'000; ++i) {
    const uint32_t window = kWindows[random() % std::size(kWindows)];
    uint64_t highest = random() % 7 << 32;
    const uint64_t near = random() % 20'000;
    switch (random() % 4) {
      case 0:
        highest += near;
        break;
      case 1:
        highest += kTwo32 - near;
        break;
      default:
        highest += random() % kTwo32;
    }
    const auto low =
        static_cast<uint32_t>(random() % 2 == 0 ? random() : highest + random() % 40'000 - 20'000);
    const auto rfc = ByTheRfc(highest, window, low);
    const auto ours = InferSequence(highest, window, true, low);
    const bool plausible =
        rfc && *rfc != 0 && (*rfc <= highest || *rfc - highest <= (uint64_t{1} << 31));
    ASSERT_EQ(ours != kNoSequence, plausible) << highest << " " << low << " " << window;
    if (plausible) {
      ASSERT_EQ(Value(ours), *rfc) << highest << " " << low;
    }
    (plausible ? inferred : stale)++;
  }
  EXPECT_GT(inferred, 100'000);
  EXPECT_GT(stale, 50'000);
}

TEST(InferSequence, Edges) {
  constexpr uint32_t kHalf = uint32_t{1} << 31;
  // The first packet of all.
  EXPECT_EQ(InferSequence(0, 64, true, 1), Sequence{1});
  EXPECT_EQ(InferSequence(0, 64, true, 0), kNoSequence);
  EXPECT_EQ(InferSequence(0, 64, false, 0), kNoSequence);
  EXPECT_EQ(InferSequence(0, 64, false, 1), Sequence{1});
  // 0 on the wire is a number like others once the upper half is not 0 …
  EXPECT_EQ(InferSequence(kTwo32 - 1, 64, true, 0), Sequence{kTwo32});
  EXPECT_EQ(InferSequence(kTwo32 + 5, 64, true, 0), Sequence{kTwo32});
  // … but below that it would be number 0.
  EXPECT_EQ(InferSequence(5, 64, true, 0), kNoSequence);
  EXPECT_EQ(InferSequence(5, 64, true, UINT32_MAX), kNoSequence);
  // The left edge of the window.
  EXPECT_EQ(InferSequence(1000, 64, true, 937), Sequence{937});
  EXPECT_EQ(InferSequence(1000, 64, true, 936), kNoSequence);
  // The farthest jump.
  EXPECT_EQ(InferSequence(1000, 64, true, 1000 + kHalf), Sequence{1000 + uint64_t{kHalf}});
  EXPECT_EQ(InferSequence(1000, 64, true, 1001 + kHalf), kNoSequence);
  // Without ESN the number is what it says.
  EXPECT_EQ(InferSequence(1000, 64, false, UINT32_MAX), Sequence{UINT32_MAX});
  EXPECT_EQ(InferSequence(UINT32_MAX, 64, false, 1), Sequence{1});
  // Past the end of all numbers.
  EXPECT_EQ(InferSequence(UINT64_MAX, 64, true, 0), kNoSequence);
  EXPECT_EQ(InferSequence(UINT64_MAX, 64, true, UINT32_MAX), Sequence{UINT64_MAX});
  // No window, no left edge.
  EXPECT_EQ(InferSequence(100'000, 0, true, 1), Sequence{1});
  EXPECT_EQ(High(Sequence{kTwo32 * 7 + 3}), 7U);
  EXPECT_EQ(Low(Sequence{kTwo32 * 7 + 3}), 3U);
}

struct EsnWrap : testing::TestWithParam<uint32_t> {};

// Only the lower halves reach the receiver; the window lies on both sides of 2^32 and packets come
// in any order that it permits. All are inferred rightly and accepted once.
TEST_P(EsnWrap, WindowOnBothSides) {
  const uint32_t window = GetParam();
  std::mt19937_64 random(TestSeed(window));
  for (const uint64_t wrap : {kTwo32, 2 * kTwo32, 9 * kTwo32}) {
    TestRecord r(window);
    r.record.highest = wrap - 4 * window;
    std::vector<uint64_t> order(size_t{8} * window);
    std::iota(order.begin(), order.end(), r.record.highest + 1);
    // A random offset, so that the wrap falls at any place of a shuffled stretch.
    const size_t offset = random() % window;
    for (size_t i = offset; i + window <= order.size(); i += window) {
      std::shuffle(order.begin() + i, order.begin() + i + window, random);
    }
    for (const uint64_t n : order) {
      const auto low = static_cast<uint32_t>(n);
      const auto inferred = InferSequence(r.record.highest, window, true, low);
      ASSERT_EQ(Value(inferred), n);
      ASSERT_EQ(CommitReplay(r.record, inferred), Verdict::accepted) << n;
    }
    // All of them again, from the oldest to the newest: stale or replayed, never a jump ahead.
    std::ranges::sort(order);
    for (const uint64_t n : order) {
      const auto again = InferSequence(r.record.highest, window, true, static_cast<uint32_t>(n));
      if (again != kNoSequence) {
        ASSERT_EQ(CommitReplay(r.record, again), Verdict::replayed) << n;
      }
    }
  }
}

// An attacker keeps a packet until the counter has gone once around: the same 32 bits now lie right
// ahead, are inferred as the new number and die on the ICV; the window does not let old numbers in.
TEST_P(EsnWrap, PacketFromTheLastEpochIsANewNumber) {
  TestRecord r(GetParam());
  ASSERT_EQ(r.Commit(100), Verdict::accepted);
  r.record.highest = kTwo32 + 99;
  EXPECT_EQ(InferSequence(r.record.highest, GetParam(), true, 100), Sequence{kTwo32 + 100});
}

INSTANTIATE_TEST_SUITE_P(Windows, EsnWrap, testing::ValuesIn(kWindows),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace portcullis
