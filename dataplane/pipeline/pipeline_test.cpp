// The whole pipeline on bursts of the test's making. What needs Scapy, namespaces or time is in
// tests/; here are the cases that want exact bursts or very many packets.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <span>

#include "base/test_seed.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kWire = TestGate::kWire;
constexpr uint16_t kCore = TestGate::kCore;
constexpr uint32_t kSpi = 0x1001;

struct Inbound : ::testing::TestWithParam<Algorithm> {
  TestGate gate;
  std::unique_ptr<TestSender> sender;

  void Start(const TestGate::SaOptions& options) {
    gate.Policy();
    const Bytes key = gate.AddSa("in", Direction::inbound, kSpi, options);
    sender = std::make_unique<TestSender>(options.algorithm, key, kSpi, options.esn);
  }
};
INSTANTIATE_TEST_SUITE_P(Algorithms, Inbound,
                         ::testing::Values(Algorithm::aes_128_gcm_16, Algorithm::aes_256_gcm_16,
                                           Algorithm::chacha20_poly1305,
                                           Algorithm::aes_128_cbc_hmac_sha_256_128,
                                           Algorithm::aes_256_cbc_hmac_sha_256_128),
                         [](const auto& info) {
                           std::string name(Info(info.param).name);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(Inbound, EverySizeArrivesAsItWasSent) {
  Start({.algorithm = GetParam()});
  for (size_t size = 24; size <= 1400; size += 1) {
    const Bytes inner = InnerPacket(size);
    const auto left = gate.Run(kWire, {sender->Seal(inner, size)}, kCore);
    ASSERT_EQ(left.size(), 1U) << size;
    Bytes wanted = inner;
    ASSERT_TRUE(DecrementTtl(wanted.data()));
    ASSERT_EQ(Bytes(left[0].begin() + 14, left[0].end()), wanted) << size;
  }
}

// The mutated packets are all refused, and the genuine ones among them all pass: a forgery moves
// no window and spoils no neighbour in its burst. 200,000 for each algorithm: a million in all.
TEST_P(Inbound, NoMutationIsAccepted) {
  constexpr int kMutations = 200'000;
  Start({.algorithm = GetParam(), .window = 8192});
  gate.state();
  std::mt19937_64 random(TestSeed(42));
  uint64_t sequence = 0;
  uint64_t genuine = 0;
  Bytes packet;
  for (int done = 0; done < kMutations;) {
    std::vector<Bytes> burst;
    const Bytes good = sender->Seal(InnerPacket(64 + random() % 200), ++sequence);
    for (int i = 0; i < 31; ++i, ++done) {
      Bytes bad = good;
      const int changes = 1 + static_cast<int>(random() % 4);
      for (int c = 0; c < changes; ++c) {
        const size_t at = TestSender::kEspAt + random() % (bad.size() - TestSender::kEspAt);
        bad[at] = static_cast<uint8_t>(bad[at] ^ (1 + random() % 255));
      }
      if (random() % 16 == 0)
        bad.resize(TestSender::kEspAt + random() % (bad.size() - TestSender::kEspAt));
      if (bad == good) bad.back() ^= 1;  // two changes may undo each other
      burst.push_back(std::move(bad));
    }
    burst.push_back(good);
    ++genuine;
    ASSERT_EQ(gate.Run(kWire, burst, kCore).size(), 1U);
  }
  EXPECT_EQ(gate.Count(Verdict::accepted), genuine);
}

TEST_F(Inbound, DuplicatesInOneBurstPassOnce) {
  Start({});
  const Bytes packet = sender->Seal(InnerPacket(100), 7);
  EXPECT_EQ(gate.Run(kWire, std::vector<Bytes>(32, packet), kCore).size(), 1U);
  EXPECT_EQ(gate.Count(Verdict::replayed), 31U);
}

// For every window: each of the last W packets once and never again, in any order.
TEST_F(Inbound, ReplaysOfTheWholeWindowAreRefused) {
  gate.Policy();
  for (const uint16_t window : {64, 100, 128, 1024, 2048, 8192}) {
    for (const bool esn : {false, true}) {
      const std::string id = "in-" + std::to_string(window) + (esn ? "-esn" : "");
      const uint32_t spi = 0x2000U + window / 4 + (esn ? 1 : 0);
      const Bytes key = gate.AddSa(id, Direction::inbound, spi, {.esn = esn, .window = window});
      TestSender from(Algorithm::aes_128_gcm_16, key, spi, esn);
      std::vector<Bytes> packets;
      for (uint64_t i = 1; i <= window; ++i) packets.push_back(from.Seal(InnerPacket(64), i));
      std::mt19937_64 random(TestSeed(window));
      std::ranges::shuffle(packets, random);
      size_t first = 0;
      size_t again = 0;
      const auto run_all = [&](size_t& accepted) {
        const std::span all(packets);
        for (size_t at = 0; at < all.size(); at += 1024) {
          const auto part = all.subspan(at, std::min<size_t>(1024, all.size() - at));
          accepted += gate.Run(kWire, {part.begin(), part.end()}, kCore).size();
        }
      };
      run_all(first);
      run_all(again);
      EXPECT_EQ(first, window) << id;
      EXPECT_EQ(again, 0U) << id;
    }
  }
}

TEST_F(Inbound, ForgeriesFarAheadDoNotMoveTheWindow) {
  Start({});
  Bytes forged = sender->Seal(InnerPacket(64), 1'000'000);
  forged.back() ^= 1;
  EXPECT_TRUE(gate.Run(kWire, {forged}, kCore).empty());
  EXPECT_EQ(gate.Count(Verdict::auth_failed), 1U);
  EXPECT_EQ(gate.Run(kWire, {sender->Seal(InnerPacket(64), 1)}, kCore).size(), 1U);
}

TEST_F(Inbound, OldPacketsUnderEsnCostNoCrypto) {
  Start({.window = 64});
  constexpr uint64_t kWrap = uint64_t{1} << 32U;
  // Forward in leaps that are below 2^31, across the wrap.
  for (const uint64_t s : {kWrap / 2 - 1, kWrap - 10, kWrap + 40}) {
    ASSERT_EQ(gate.Run(kWire, {sender->Seal(InnerPacket(64), s)}, kCore).size(), 1U) << s;
  }
  // In the window, from before the wrap: good once.
  const Bytes late = sender->Seal(InnerPacket(64), kWrap - 5);
  EXPECT_EQ(gate.Run(kWire, {late, late}, kCore).size(), 1U);
  EXPECT_EQ(gate.Count(Verdict::replayed), 1U);
  // Left of the window: stale, and not one integrity check more.
  EXPECT_TRUE(gate.Run(kWire, {sender->Seal(InnerPacket(64), kWrap - 100)}, kCore).empty());
  EXPECT_EQ(gate.Count(Verdict::stale), 1U);
  EXPECT_EQ(gate.Count(Verdict::auth_failed), 0U);
}

TEST_F(Inbound, HardLimitsAreExact) {
  gate.Policy();
  const Bytes key = gate.AddSa("in", Direction::inbound, kSpi, {.hard = {.packets = 10}});
  TestSender from(Algorithm::aes_128_gcm_16, key, kSpi, true);
  std::vector<Bytes> packets;
  for (uint64_t i = 1; i <= 20; ++i) packets.push_back(from.Seal(InnerPacket(64), i));
  EXPECT_EQ(gate.Run(kWire, packets, kCore).size(), 10U);
  EXPECT_EQ(gate.Count(Verdict::sa_expired), 10U);
}

struct Outbound : ::testing::Test {
  TestGate gate;
};

TEST_F(Outbound, NumbersGrowByOneAndOpenAgain) {
  gate.Policy();
  const Bytes key = gate.AddSa("out", Direction::outbound, kSpi, {});
  const std::vector<Bytes> frames(
      40, WithEthernet(InnerPacket(100, "10.2.0.10", "10.1.0.2", 8080, 40000)));
  const auto sealed = gate.Run(kCore, frames, kWire);
  ASSERT_EQ(sealed.size(), frames.size());
  uint32_t number = 0;
  for (const Bytes& frame : sealed) {
    const auto* esp = reinterpret_cast<const EspHeader*>(&frame[TestSender::kEspAt]);
    EXPECT_EQ(esp->spi.host(), kSpi);
    EXPECT_EQ(esp->sequence.host(), ++number);
  }
}

TEST_F(Outbound, NothingLeavesWithoutSaOrRule) {
  const Bytes frame = WithEthernet(InnerPacket(100, "10.2.0.10", "10.1.0.2", 8080, 40000));
  EXPECT_TRUE(gate.Run(kCore, {frame}, kWire).empty());  // no policy at all
  gate.Policy();
  EXPECT_TRUE(gate.Run(kCore, {frame}, kWire).empty());  // a rule, no SA
  gate.AddSa("out", Direction::outbound, kSpi, {});
  EXPECT_EQ(gate.Run(kCore, {frame}, kWire).size(), 1U);
  gate.Policy({});
  EXPECT_TRUE(gate.Run(kCore, {frame}, kWire).empty());  // an SA, no rule
  EXPECT_EQ(gate.Count(Verdict::no_policy), 3U);
}

TEST_F(Outbound, RemovedSaIsForgottenAndItsKeyRefused) {
  gate.Policy();
  gate.AddSa("out", Direction::outbound, kSpi, {.key_byte = 9});
  const std::vector<std::string> ids = {"out"};
  EXPECT_EQ(gate.state().RemoveSas(ids), 1U);
  EXPECT_THROW(gate.AddSa("again", Direction::outbound, kSpi, {.key_byte = 9}), std::runtime_error);
  EXPECT_NO_THROW(gate.AddSa("again", Direction::outbound, kSpi, {.key_byte = 10}));
}

// The picture in the documentation is this list.
TEST(Pipeline, StagesAreInTheOrderOfTheDesign) {
  const auto names = [](std::span<const Stage> stages) {
    std::string text;
    for (const Stage& stage : stages)
      text += std::string(text.empty() ? "" : " ") + std::string(stage.name);
    return text;
  };
  EXPECT_EQ(
      names(InboundStages()),
      "parse prefilter find_sa handoff replay_check open replay_commit authorise police forward");
  EXPECT_EQ(names(OutboundStages()), "parse select_sa handoff police seal forward");
}

}  // namespace
}  // namespace portcullis
