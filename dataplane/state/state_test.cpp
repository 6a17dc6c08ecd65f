// What changes under the workers' eyes: SAs, peers, grants. No worker runs here (see
// pipeline/load_test.cpp for that); what a worker would find is asked as a worker asks.
#include "dataplane/state/state.hpp"

#include <gtest/gtest.h>
#include <rte_cycles.h>
#include <rte_eal.h>

#include <array>
#include <cstdio>

namespace portcullis {
namespace {

constexpr uint32_t kCapacity = 64;
constexpr uint64_t kSecondNs = 1'000'000'000;

// Tables, SAs and key schedules live in DPDK's memory.
class WithEal : public testing::Environment {
 public:
  void SetUp() override {
    const char* args[] = {"state_test",
                          "--no-huge",
                          "-m",
                          "128",
                          "--no-pci",
                          "-l",
                          "0",
                          "--no-shconf",
                          "--no-telemetry",
                          "--log-level=lib.eal:error"};
    ASSERT_GE(rte_eal_init(static_cast<int>(std::size(args)), const_cast<char**>(args)), 0);
  }
};
const auto* const kEal = testing::AddGlobalTestEnvironment(new WithEal);

PeerPolicy Peer(const std::string& name, std::initializer_list<const char*> prefixes) {
  PeerPolicy peer{.name = name, .rules = {Selector{}}};
  for (const char* prefix : prefixes) peer.prefixes.push_back(*Prefix::Parse(prefix));
  return peer;
}

struct StateTest : ::testing::Test {
  const std::string path = "/dev/shm/portcullis-state-test-" + std::to_string(getpid());
  std::unique_ptr<State> state;
  uint64_t generation = 0;
  uint8_t keys = 0;

  void SetUp() override {
    std::remove(path.c_str());
    Open();
    ASSERT_TRUE(Apply({Peer("a", {"10.1.0.0/16"}), Peer("b", {"10.3.0.0/16"})}));
  }
  void TearDown() override {
    state.reset();
    std::remove(path.c_str());
  }
  // As a new process would, on the same boot.
  void Open() {
    state.reset();
    auto file = StateFile::Open(path, kCapacity, "test-boot");
    ASSERT_TRUE(file) << file.error().Text();
    state = std::make_unique<State>(
        StateConfig{
            .sa_capacity = kCapacity, .workers = 2, .lab = true, .tsc_hz = rte_get_tsc_hz()},
        *MakeIpsecMbEngine(), std::move(*file));
    generation = 0;
  }
  Result<void> Apply(std::vector<PeerPolicy> peers) {
    PolicyUpdate update{.generation = ++generation, .full = true};
    update.peers = std::move(peers);
    return state->Apply(std::move(update));
  }
  /// With a key never used before, unless `key` is given.
  SaSpec Spec(const std::string& id, Direction direction, uint32_t spi, uint8_t key = 0) {
    SaSpec spec{.id = id, .peer = "a", .direction = direction, .spi = Spi{spi}};
    const std::array<uint8_t, 20> bytes{key == 0 ? ++keys : key};
    spec.key = Secret(bytes);
    spec.replay_window = direction == Direction::inbound ? 1024 : 0;
    spec.selectors = {Selector{}};
    spec.tunnel.local = *Address::Parse("192.0.2.1");
    spec.tunnel.remote = *Address::Parse("192.0.2.2");
    spec.lab = true;
    return spec;
  }
  template <class... Specs>
  std::vector<State::Added> Add(bool atomic, Specs... specs) {
    std::vector<SaSpec> list;
    (list.push_back(std::move(specs)), ...);
    return state->AddSas(std::move(list), atomic);
  }
  /// One alone: "" or why not.
  std::string Add(SaSpec spec) {
    const auto added = Add(true, std::move(spec));
    return added[0].fingerprint ? "" : added[0].fingerprint.error().Text();
  }
  size_t Remove(const std::string& id) { return state->RemoveSas(std::array{id}); }
  std::vector<std::string> Outbound(const std::string& peer = "a") {
    std::vector<std::string> ids;
    for (const Sa* sa : *state->peers().at(peer)->outbound.load()) ids.push_back(sa->spec.id);
    return ids;
  }
  std::string InSlot(uint32_t spi) {
    const Sa* sa = state->FindInbound(Spi{spi});
    return sa == nullptr ? "" : sa->spec.id;
  }
};
using Ids = std::vector<std::string>;
constexpr auto kIn = Direction::inbound;
constexpr auto kOut = Direction::outbound;

// ---- adding, replacing, removing

TEST_F(StateTest, AddedSasAreFoundAndRemovedOnesAreNot) {
  EXPECT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  EXPECT_EQ(Add(Spec("out-1", kOut, 0x2001)), "");
  EXPECT_EQ(Add(Spec("out-2", kOut, 0x2002)), "");
  EXPECT_EQ(InSlot(0x1001), "in");
  EXPECT_EQ(InSlot(0x1001 + kCapacity), "");  // the slot is not enough
  EXPECT_EQ(InSlot(0x2001), "");              // that is the peer's SPI, not ours
  EXPECT_EQ(Outbound(), (Ids{"out-2", "out-1"})) << "the newest is used";
  const Address remote = *Address::Parse("192.0.2.2");
  EXPECT_NE(state->FindOutbound(remote, Spi{0x2001}), nullptr);
  EXPECT_EQ(state->FindOutbound(*Address::Parse("192.0.2.3"), Spi{0x2001}), nullptr);
  EXPECT_EQ(Remove("in"), 1U);
  EXPECT_EQ(Remove("out-2"), 1U);
  EXPECT_EQ(Remove("out-2"), 0U);
  EXPECT_EQ(InSlot(0x1001), "");
  EXPECT_EQ(Outbound(), (Ids{"out-1"}));
  EXPECT_EQ(state->FindOutbound(remote, Spi{0x2002}), nullptr);
  EXPECT_NE(state->FindOutbound(remote, Spi{0x2001}), nullptr);
}

TEST_F(StateTest, RefusalsNameTheReason) {
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  EXPECT_NE(Add(Spec("in", kIn, 0x1002)).find("there already"), std::string::npos);
  SaSpec nobodys = Spec("x", kIn, 0x1002);
  nobodys.peer = "nobody";
  EXPECT_NE(Add(std::move(nobodys)).find("no peer \"nobody\""), std::string::npos);
  SaSpec replaces = Spec("x", kIn, 0x1002);
  replaces.replaces = "nothing";
  EXPECT_NE(Add(std::move(replaces)).find("no SA \"nothing\""), std::string::npos);
  EXPECT_NE(Add(Spec("x", kIn, 0x1001 + kCapacity)).find("slot"), std::string::npos);
  EXPECT_EQ(Add(Spec("x", kIn, 0x1002)), "");
  EXPECT_EQ(Add(Spec("y", kOut, 0x1001 + kCapacity)), "") << "the peer's SPIs have no slots here";
}

TEST_F(StateTest, CapacityIsALimitAndNotACrash) {
  for (uint32_t i = 0; i < kCapacity; ++i) {
    ASSERT_EQ(Add(Spec("in-" + std::to_string(i), kIn, 0x1000 + i)), "");
  }
  EXPECT_NE(Add(Spec("more", kOut, 0x2000)).find("sas.capacity"), std::string::npos);
  EXPECT_EQ(Remove("in-7"), 1U);
  EXPECT_EQ(Add(Spec("more", kOut, 0x2000)), "");
}

TEST_F(StateTest, AReplacementTakesNameSlotAndPlace) {
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  ASSERT_EQ(Add(Spec("out", kOut, 0x2001)), "");
  SaSpec same_name = Spec("in", kIn, 0x1002);
  same_name.replaces = "in";
  EXPECT_EQ(Add(std::move(same_name)), "");
  EXPECT_EQ(InSlot(0x1001), "");
  EXPECT_EQ(InSlot(0x1002), "in");
  SaSpec same_slot = Spec("in-2", kIn, 0x1002 + kCapacity);
  same_slot.replaces = "in";
  EXPECT_EQ(Add(std::move(same_slot)), "");
  EXPECT_EQ(InSlot(0x1002), "");
  EXPECT_EQ(InSlot(0x1002 + kCapacity), "in-2");
  SaSpec out = Spec("out-2", kOut, 0x2002);
  out.replaces = "out";
  EXPECT_EQ(Add(std::move(out)), "");
  EXPECT_EQ(Outbound(), (Ids{"out-2"}));
  EXPECT_EQ(state->sas().size(), 2U);
}

// Packets under way were protected with the old key: the new one would refuse them.
TEST_F(StateTest, AReplacementNeedsAnSpiOfItsOwn) {
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  SaSpec same = Spec("in", kIn, 0x1001);
  same.replaces = "in";
  EXPECT_NE(Add(std::move(same)).find("an SPI of its own"), std::string::npos);
  EXPECT_EQ(InSlot(0x1001), "in");
  SaSpec other = Spec("in", kIn, 0x1003);
  other.replaces = "in";
  EXPECT_EQ(Add(std::move(other)), "");
}

// ---- all or nothing

TEST_F(StateTest, ARefusedRequestLeavesNothingBehind) {
  ASSERT_EQ(Add(Spec("old", kIn, 0x1001)), "");
  const auto request = [&](bool atomic, const char* peer) {
    SaSpec replacing = Spec("new", kIn, 0x1002, 101);
    replacing.replaces = "old";
    SaSpec bad = Spec("bad", kIn, 0x1003, 102);
    bad.peer = peer;
    return Add(atomic, std::move(replacing), Spec("out", kOut, 0x2001, 103), std::move(bad));
  };
  auto results = request(true, "nobody");
  ASSERT_EQ(results.size(), 3U);
  for (const auto& result : results) EXPECT_FALSE(result.fingerprint) << result.id;
  EXPECT_EQ(InSlot(0x1001), "old");
  EXPECT_EQ(InSlot(0x1002), "");
  EXPECT_TRUE(Outbound().empty());
  EXPECT_EQ(state->sas().size(), 1U);
  // Made right, the same request with the same keys goes through.
  results = request(true, "b");
  for (const auto& result : results) EXPECT_TRUE(result.fingerprint) << result.id;
  EXPECT_EQ(InSlot(0x1001), "");
  EXPECT_EQ(InSlot(0x1002), "new");
}

TEST_F(StateTest, WithoutAtomicTheGoodOnesGoThrough) {
  SaSpec bad = Spec("bad", kIn, 0x1003);
  bad.peer = "nobody";
  const auto results = Add(false, Spec("in", kIn, 0x1001), std::move(bad), Spec("out", kOut, 0x9));
  EXPECT_TRUE(results[0].fingerprint && !results[1].fingerprint && results[2].fingerprint);
  EXPECT_EQ(InSlot(0x1001), "in");
  EXPECT_EQ(Outbound(), (Ids{"out"}));
}

TEST_F(StateTest, OneRequestCannotContradictItself) {
  const auto second = [&](SaSpec one, SaSpec two) {
    const auto results = Add(true, std::move(one), std::move(two));
    return results[1].fingerprint ? "" : results[1].fingerprint.error().Text();
  };
  EXPECT_NE(second(Spec("x", kIn, 0x1001), Spec("x", kIn, 0x1002)).find("there already"),
            std::string::npos);
  EXPECT_NE(second(Spec("x", kIn, 0x1001), Spec("y", kIn, 0x1001 + kCapacity)).find("slot"),
            std::string::npos);
  EXPECT_NE(second(Spec("x", kIn, 0x1001, 99), Spec("y", kOut, 0x1002, 99)).find("this key"),
            std::string::npos);
  ASSERT_EQ(Add(Spec("old", kOut, 0x2001)), "");
  SaSpec one = Spec("x", kOut, 0x2002);
  SaSpec two = Spec("y", kOut, 0x2003);
  one.replaces = two.replaces = "old";
  EXPECT_NE(second(std::move(one), std::move(two)).find("replaced by another"), std::string::npos);
  EXPECT_EQ(second(Spec("x", kIn, 0x1001, 99), Spec("y", kOut, 0x1002, 98)), "");
}

// ---- over a restart

TEST_F(StateTest, ResumeNeedsARecordAndNewNeedsNone) {
  ASSERT_EQ(Add(Spec("out", kOut, 0x2001, 50)), "");
  ASSERT_EQ(Add(Spec("gone", kOut, 0x2002, 51)), "");
  Remove("gone");
  state->sas().at("out")->record->highest = 41;
  Open();
  ASSERT_TRUE(Apply({Peer("a", {"10.1.0.0/16"})}));
  const auto spec = [&](SaMode mode, uint8_t key, uint32_t spi = 0x2001) {
    SaSpec s = Spec("out", kOut, spi, key);
    s.mode = mode;
    return s;
  };
  EXPECT_NE(Add(spec(SaMode::fresh, 50)).find("used before"), std::string::npos);
  EXPECT_NE(Add(spec(SaMode::fresh, 51)).find("used before"), std::string::npos);
  EXPECT_NE(Add(spec(SaMode::resume, 51, 0x2002)).find("nothing is remembered"), std::string::npos);
  EXPECT_NE(Add(spec(SaMode::resume, 50, 0x2002)).find("other parameters"), std::string::npos);
  EXPECT_EQ(Add(spec(SaMode::resume, 50)), "");
  EXPECT_EQ(state->sas().at("out")->record->highest, 41U);
}

TEST_F(StateTest, ARefusedRequestDoesNotLoseRecordsToResume) {
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001, 50)), "");
  Open();
  ASSERT_TRUE(Apply({Peer("a", {"10.1.0.0/16"})}));
  const auto request = [&](uint8_t other) {
    SaSpec resumed = Spec("in", kIn, 0x1001, 50);
    SaSpec fails = Spec("other", kIn, 0x1002, other);
    resumed.mode = SaMode::resume;
    fails.mode = other == 51 ? SaMode::resume : SaMode::fresh;  // of 51 nothing is remembered
    return Add(true, std::move(resumed), std::move(fails));
  };
  auto results = request(51);
  EXPECT_FALSE(results[0].fingerprint || results[1].fingerprint);
  EXPECT_EQ(InSlot(0x1001), "");
  results = request(52);
  EXPECT_TRUE(results[0].fingerprint && results[1].fingerprint);
}

TEST_F(StateTest, ALifetimeThatEndedDuringARestartIsOver) {
  SaSpec spec = Spec("in", kIn, 0x1001, 50);
  spec.hard.seconds = 60;
  ASSERT_EQ(Add(std::move(spec)), "");
  state->sas().at("in")->record->born_boot_ns -= 61 * kSecondNs;
  for (const uint64_t seconds : {60, 3600}) {
    Open();
    ASSERT_TRUE(Apply({Peer("a", {"10.1.0.0/16"})}));
    SaSpec again = Spec("in", kIn, 0x1001, 50);
    again.mode = SaMode::resume;
    again.hard.seconds = seconds;
    ASSERT_EQ(Add(std::move(again)), "");
    EXPECT_EQ(state->FindInbound(Spi{0x1001})->usable(), seconds == 3600);
  }
}

// ---- policy

TEST_F(StateTest, GenerationsGrowAndChangesNameTheirBase) {
  const auto apply = [&](PolicyUpdate update) {
    const auto applied = state->Apply(std::move(update));
    return applied ? "" : applied.error().Text();
  };
  EXPECT_NE(apply({.generation = 1, .full = true}).find("more than 1"), std::string::npos);
  EXPECT_NE(apply({.generation = 3, .base_generation = 2}).find("expected 1"), std::string::npos);
  EXPECT_EQ(state->snapshot()->generation, 1U);
  EXPECT_EQ(apply({.generation = 3, .base_generation = 1}), "");
  EXPECT_EQ(state->snapshot()->generation, 3U);
}

TEST_F(StateTest, ChangesTouchOnlyThePeersThatTheyName) {
  const Snapshot* before = state->snapshot();
  const PeerState* a = before->PeerOf(*Address::Parse("10.1.2.3"));
  const PeerPolicy* policy_of_a = &before->PolicyOf(*a);
  PolicyUpdate update{.generation = 2, .base_generation = 1};
  update.removed_peers = {"b"};
  update.peers = {Peer("c", {"10.4.0.0/16"})};
  ASSERT_TRUE(state->Apply(std::move(update)));
  const Snapshot* now = state->snapshot();
  EXPECT_EQ(now->PeerOf(*Address::Parse("10.1.2.3")), a);
  EXPECT_EQ(&now->PolicyOf(*a), policy_of_a) << "shared, not compiled again";
  EXPECT_EQ(now->PeerOf(*Address::Parse("10.3.0.1")), nullptr);
  EXPECT_EQ(now->PeerOf(*Address::Parse("10.4.0.1"))->name, "c");
  EXPECT_EQ(state->peers().size(), 2U);
  // Indices are used again, so that the arrays stay dense.
  generation = 2;
  ASSERT_TRUE(Apply({Peer("a", {"10.1.0.0/16"}), Peer("d", {"10.5.0.0/16"})}));
  EXPECT_LE(state->snapshot()->peers.size(), 4U);
  EXPECT_EQ(state->snapshot()->PeerOf(*Address::Parse("10.1.2.3")), a);
}

TEST_F(StateTest, OnePrefixBelongsToOnePeer) {
  const auto refused = Apply({Peer("a", {"10.9.0.0/16"}), Peer("e", {"10.9.0.0/16"})});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().Text().find("10.9.0.0/16"), std::string::npos);
  // The old policy goes on, and of the new one nothing is left.
  EXPECT_EQ(state->snapshot()->generation, 1U);
  EXPECT_FALSE(state->peers().contains("e"));
  EXPECT_EQ(state->snapshot()->PeerOf(*Address::Parse("10.1.0.1"))->name, "a");
  // A longer one may be another's, and a peer may repeat itself.
  ASSERT_TRUE(Apply({Peer("a", {"10.9.0.0/16", "10.9.0.0/16"}), Peer("e", {"10.9.0.0/24"})}));
  EXPECT_EQ(state->snapshot()->PeerOf(*Address::Parse("10.9.0.1"))->name, "e");
  EXPECT_EQ(state->snapshot()->PeerOf(*Address::Parse("10.9.1.1"))->name, "a");
}

TEST_F(StateTest, SasGoWithTheirPeer) {
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  ASSERT_EQ(Add(Spec("out", kOut, 0x2001)), "");
  SaSpec of_b = Spec("in-b", kIn, 0x1002);
  of_b.peer = "b";
  ASSERT_EQ(Add(std::move(of_b)), "");
  ASSERT_TRUE(Apply({Peer("b", {"10.3.0.0/16"})}));
  EXPECT_EQ(InSlot(0x1001), "");
  EXPECT_EQ(InSlot(0x1002), "in-b");
  EXPECT_EQ(state->sas().size(), 1U);
}

TEST_F(StateTest, CountersOfRemovedSasStayWithThePeer) {
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  ASSERT_EQ(Add(Spec("in-2", kIn, 0x1002)), "");
  constexpr auto kAccepted = static_cast<size_t>(Verdict::accepted);
  for (const char* id : {"in", "in-2"}) {
    state->sas().at(id)->counters.Count(Verdict::accepted);
    state->sas().at(id)->counters.CountBytes(100);
  }
  Remove("in");
  const CounterValues sum = state->PeerCounters().at("a");
  EXPECT_EQ(sum.packets[kAccepted], 2U);
  EXPECT_EQ(sum.bytes, 200U);
}

TEST_F(StateTest, PeersAreSpreadOverWorkers) {
  SaSpec of_b = Spec("in-b", kIn, 0x1002);
  of_b.peer = "b";
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  ASSERT_EQ(Add(Spec("out", kOut, 0x2001)), "");
  ASSERT_EQ(Add(std::move(of_b)), "");
  EXPECT_EQ(state->sas().at("in")->worker, state->sas().at("out")->worker);
  EXPECT_NE(state->sas().at("in")->worker, state->sas().at("in-b")->worker);
}

// ---- rights that end

TEST_F(StateTest, RevocationIsAFlagThatOutlivesPolicies) {
  const auto granted = [&](const char* name) { return state->peers().at(name)->granted(); };
  EXPECT_FALSE(state->Revoke("nobody", true));
  ASSERT_TRUE(state->Revoke("a", true));
  EXPECT_FALSE(granted("a"));
  EXPECT_TRUE(granted("b"));
  ASSERT_TRUE(Apply({Peer("a", {"10.1.0.0/16"}), Peer("b", {"10.3.0.0/16"})}));
  EXPECT_FALSE(granted("a"));
  ASSERT_TRUE(state->Revoke("a", false));
  EXPECT_TRUE(granted("a"));
}

TEST_F(StateTest, DeadlinesAndHardLifetimesEndByTheBootClock) {
  const uint64_t now = BootNs();
  PeerPolicy a = Peer("a", {"10.1.0.0/16"});
  a.deadline_boot_ns = now + 100 * kSecondNs;
  ASSERT_TRUE(Apply({std::move(a), Peer("b", {"10.3.0.0/16"})}));
  SaSpec spec = Spec("in", kIn, 0x1001);
  spec.hard.seconds = 50;
  ASSERT_EQ(Add(std::move(spec)), "");
  const auto at = [&](uint64_t seconds) {
    state->CheckDeadlines(now + seconds * kSecondNs);
    return std::pair(state->peers().at("a")->granted(), state->FindInbound(Spi{0x1001})->usable());
  };
  EXPECT_EQ(at(49), std::pair(true, true));
  EXPECT_EQ(at(52), std::pair(true, false));
  EXPECT_EQ(at(101), std::pair(false, false));
  EXPECT_TRUE(state->peers().at("b")->granted());
  // A later deadline gives the right back; an SA that has ended stays ended.
  a = Peer("a", {"10.1.0.0/16"});
  a.deadline_boot_ns = now + 1000 * kSecondNs;
  ASSERT_TRUE(Apply({std::move(a)}));
  EXPECT_EQ(at(102), std::pair(true, false));
}

// ---- the first line

TEST_F(StateTest, AFirstLineStaysUntilAPolicyNamesAnother) {
  EXPECT_TRUE(state->snapshot()->first_line->admit_strangers) << "never null";
  const auto closed = std::make_shared<const FirstLine>(FirstLine{.admit_strangers = false});
  const auto apply = [&](bool full, std::shared_ptr<const FirstLine> line) {
    PolicyUpdate update{.generation = generation + 1, .full = full, .base_generation = generation};
    update.first_line = std::move(line);
    ++generation;
    ASSERT_TRUE(state->Apply(std::move(update)));
  };
  apply(false, closed);
  EXPECT_EQ(state->snapshot()->first_line, closed);
  apply(false, nullptr);
  EXPECT_EQ(state->snapshot()->first_line, closed);
  apply(true, nullptr);
  EXPECT_TRUE(state->snapshot()->first_line->admit_strangers);
}

TEST_F(StateTest, WhatIsNotAgreedToIsNotInForce) {
  const uint64_t before = state->snapshot()->generation;
  const auto apply = [&](const Result<void>& answer) {
    PolicyUpdate update{.generation = before + 1, .full = true};
    update.peers = {Peer("c", {"10.4.0.0/16"})};
    return state->Apply(std::move(update), [&](const Snapshot& next) {
      EXPECT_EQ(next.generation, before + 1);
      EXPECT_EQ(state->snapshot()->generation, before) << "asked before";
      return answer;
    });
  };
  const auto refused = apply(Fail(ErrorKind::kExhausted, "no room"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "no room");
  EXPECT_EQ(state->snapshot()->generation, before);
  EXPECT_FALSE(state->peers().contains("c"));
  EXPECT_TRUE(state->peers().contains("a"));
  ASSERT_TRUE(apply({}));
  EXPECT_TRUE(state->peers().contains("c"));
}

TEST_F(StateTest, WhoWatchesKnowsEachInboundSpi) {
  std::vector<std::pair<uint32_t, bool>> seen;
  state->WatchInbound([&](const Sa& sa, bool there) { seen.emplace_back(Value(sa.spi), there); });
  using Seen = std::vector<std::pair<uint32_t, bool>>;
  const auto take = [&] { return std::exchange(seen, {}); };
  ASSERT_EQ(Add(Spec("in", kIn, 0x1001)), "");
  EXPECT_EQ(take(), (Seen{{0x1001, true}}));
  ASSERT_EQ(Add(Spec("out", kOut, 0x1002)), "");
  EXPECT_NE(Add(Spec("same slot", kIn, 0x2001)), "");
  EXPECT_EQ(take(), Seen{});
  // The successor is there before the old one goes; here it even has the same slot.
  SaSpec next = Spec("next", kIn, 0x2001);
  next.replaces = "in";
  ASSERT_EQ(Add(std::move(next)), "");
  EXPECT_EQ(take(), (Seen{{0x2001, true}, {0x1001, false}}));
  EXPECT_EQ(Remove("next"), 1U);
  EXPECT_EQ(take(), (Seen{{0x2001, false}}));
  ASSERT_EQ(Add(Spec("of a", kIn, 0x1003)), "");
  ASSERT_TRUE(Apply({Peer("b", {"10.3.0.0/16"})}));  // its peer goes, and it with him
  EXPECT_EQ(take(), (Seen{{0x1003, true}, {0x1003, false}}));
}

}  // namespace
}  // namespace portcullis
