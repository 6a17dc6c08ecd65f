// Policy in generations, and what outlives them; what the program tells of itself.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "bpf/handles.hpp"
#include "bpf/object.hpp"
#include "bpf/portcullis_xdp.skel.h"
#include "bpf/xdp_cases.hpp"

namespace portcullis {
namespace {

using namespace xdp;
using enum Verdict;

class Generations : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    Attach(XdpRole::kUntrusted, true);
  }
  static XdpPolicy Denying(const char* prefix) {
    XdpPolicy policy = Policy();
    policy.first_line.sources = {{Prefix::Parse(prefix).value(), false}};
    return policy;
  }
  static Bytes EspFrom(const std::string& source, uint32_t spi = kSpi) {
    return kTo4 + V4(source, kGate, kEsp) + Esp(spi);
  }
  void Reattach() {
    auto again = XdpPort::Attach(instance_, kPort, "wire0", {});
    ASSERT_TRUE(again) << again.error().Text();
    port_ = std::move(*again);
  }
};

TEST_F(Generations, NothingChangesBeforeCommit) {
  XdpPolicy policy = Denying("192.0.2.2/32");
  policy.generation = 7;
  ASSERT_TRUE(port_->Prepare(policy));
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(port_->generation(), generation_);
  ASSERT_TRUE(port_->Commit());
  EXPECT_EQ(Run(EspFrom(kPeer)), source_denied);
  EXPECT_EQ(port_->generation(), 7U);
  // Once more: there is nothing prepared.
  ASSERT_TRUE(port_->Commit());
  EXPECT_EQ(Run(EspFrom(kPeer)), source_denied);
  // What was prepared last is what counts, and all of it.
  ASSERT_TRUE(port_->Prepare(Denying("192.0.2.66/32")));
  ASSERT_TRUE(port_->Prepare(Denying("192.0.2.3/32")));
  ASSERT_TRUE(port_->Commit());
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(Run(EspFrom("192.0.2.66")), accepted);
  EXPECT_EQ(Run(EspFrom("192.0.2.3")), source_denied);
}

// A table that the next generation asks for again is not filled again: that may take seconds.
TEST_F(Generations, UnchangedTablesAreTheSameTables) {
  const auto element = [&](const char* map, uint32_t index) {
    const Descriptor pinned(bpf_obj_get(Pin(map).c_str()));
    uint32_t value = 0;
    bpf_map_lookup_elem(pinned.get(), &index, &value);
    return value;
  };
  const auto in_force = [&](const char* map) { return element(map, element("current", 0)); };
  XdpPolicy policy = Denying("192.0.2.66/32");
  Apply(policy);
  const uint32_t nets = in_force("protected_nets");
  const uint32_t sources = in_force("sources");
  ASSERT_NE(sources, 0U);
  for (int i = 0; i < 3; ++i) {
    policy.cleartext = !policy.cleartext;
    Apply(policy);
    EXPECT_EQ(in_force("protected_nets"), nets);
    EXPECT_EQ(in_force("sources"), sources);
    EXPECT_EQ(Run(EspFrom("192.0.2.66")), source_denied);
    EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  }
  // One changes and the other does not; then both are gone, and back.
  Apply(Denying("192.0.2.2/32"));
  EXPECT_EQ(in_force("protected_nets"), nets);
  EXPECT_NE(in_force("sources"), sources);
  EXPECT_EQ(Run(EspFrom("192.0.2.66")), accepted);
  EXPECT_EQ(Run(EspFrom(kPeer)), source_denied);
  Apply(Policy());
  EXPECT_EQ(element("sources", 0), 0U);
  EXPECT_EQ(element("sources", 1), 0U);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  // The same prefixes to another end are another table.
  Apply(Denying("192.0.2.2/32"));
  EXPECT_EQ(Run(EspFrom(kPeer)), source_denied);
  policy = Denying("192.0.2.2/32");
  policy.first_line.sources[0].admit = true;
  Apply(policy);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
}

TEST_F(Generations, PolicyThatCannotBePreparedChangesNothing) {
  Apply(Denying("192.0.2.2/32"));
  ASSERT_TRUE(port_->Prepare(Policy()));  // admits it; must not be what Commit() finds
  XdpPolicy wrong = Policy();
  wrong.first_line.sessions.assign(FirstLine::kMostServices + 1, {kTcp, 1, 1});
  auto refused = port_->Prepare(wrong);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  ASSERT_TRUE(port_->Commit());
  EXPECT_EQ(port_->generation(), generation_);
  EXPECT_EQ(Run(EspFrom(kPeer)), source_denied);

  wrong = Policy();
  wrong.first_line.ipv4_length = 33;
  EXPECT_EQ(port_->Prepare(wrong).error().kind, ErrorKind::kInvalid);
  wrong = Policy();
  wrong.protected_nets.assign(65537, Prefix::Parse("10.2.0.0/24").value());
  refused = port_->Prepare(wrong);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kExhausted);
  EXPECT_EQ(refused.error().found, "65537");
  EXPECT_EQ(Run(EspFrom(kPeer)), source_denied);

  wrong.first_line.sessions.assign(FirstLine::kMostServices, {kTcp, 1, 1});
  wrong.first_line.ipv4_length = 32;
  wrong.protected_nets.resize(1);
  Apply(wrong);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
}

// Two pairs of policies; in each, settings of one with tables of the other would give a verdict
// that neither gives.
TEST_F(Generations, APacketSeesOnePolicyAndNoMixture) {
  XdpPolicy denied = Denying("192.0.2.2/32");  // with the other's tables: exception
  XdpPolicy closed = Policy();
  closed.first_line.whole_host = false;
  XdpPolicy admitted = Policy();  // with the other's tables: source_denied
  admitted.first_line.admit_strangers = false;
  admitted.first_line.sources = {{Prefix::Parse("192.0.2.2/32").value(), true}};
  const Bytes syn = Finished(kTo4 + V4(kPeer, kGate, kTcp) + Tcp(1, 80, kSyn));
  struct Pair {
    XdpPolicy a, b;
    Verdict verdict_a, verdict_b;
  };
  for (const Pair& pair : {Pair{denied, closed, source_denied, host_denied},
                           Pair{admitted, closed, exception, host_denied}}) {
    Apply(pair.a);
    const XdpCounters before = port_->Read();
    std::atomic<bool> stop = false;
    std::thread traffic([&] {
      while (!stop) {
        LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = syn.data(),
                    .data_size_in = static_cast<uint32_t>(syn.size()), .repeat = 5000);
        if (bpf_prog_test_run_opts(port_->program(), &run) != 0) break;
      }
    });
    for (int i = 0; i < 40; ++i) Apply(i % 2 == 0 ? pair.b : pair.a);
    stop = true;
    traffic.join();
    const XdpCounters after = port_->Read();
    for (const Verdict verdict : kFirstLineVerdicts) {
      const uint64_t packets = after.Of(verdict) - before.Of(verdict);
      const bool expected = verdict == pair.verdict_a || verdict == pair.verdict_b;
      EXPECT_EQ(packets > 0, expected) << Info(verdict).name << ": " << packets;
    }
  }
}

TEST_F(Generations, PolicyAndBucketsOutliveTheProcessAndSpisDoNot) {
  XdpPolicy policy = Denying("192.0.2.66/32");
  constexpr int kBurst = 200;  // seconds, of which Reattach() takes a few on a slow machine
  policy.first_line.packets = {.per_second = 1, .burst = kBurst};
  Apply(policy);
  for (int i = 0; i < kBurst; ++i) ASSERT_EQ(Run(EspFrom(kPeer)), accepted) << i;
  Reattach();
  EXPECT_EQ(port_->generation(), generation_);
  EXPECT_EQ(Run(EspFrom("192.0.2.66")), unknown_spi);
  port_->spis().Add(Spi{kSpi}, 0);
  EXPECT_EQ(Run(EspFrom("192.0.2.66")), source_denied);
  int admitted = 0;
  for (int i = 0; i < kBurst / 2; ++i) admitted += Run(EspFrom(kPeer)) == accepted ? 1 : 0;
  EXPECT_LT(admitted, kBurst / 2);
  EXPECT_EQ(Run(EspFrom("192.0.2.3")), accepted);
  Apply(Policy());  // and goes on from there
  EXPECT_EQ(Run(EspFrom("192.0.2.66")), accepted);
}

TEST_F(Generations, ClosingAPortThatIsServedTakesNothingFromIt) {
  const ClosedPort ports[] = {{kPort, "wire0", {}}};
  Ip("address add 192.0.2.1/24 dev wire0");
  Apply(Denying("192.0.2.66/32"));
  ASSERT_TRUE(CloseInterfaces(instance_, ports));
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(Run(EspFrom("192.0.2.66")), source_denied);
}

TEST_F(Generations, SpisComeAndGoBySlot) {
  const auto judge = [&](uint32_t spi) { return Run(EspFrom(kPeer, spi)); };
  EXPECT_EQ(judge(0x5005), unknown_spi);
  port_->spis().Add(Spi{0x5005}, 0);
  EXPECT_EQ(judge(0x5005), accepted);
  port_->spis().Add(Spi{0x9405}, 0);  // the same slot
  EXPECT_EQ(judge(0x9405), accepted);
  EXPECT_EQ(judge(0x5005), unknown_spi);
  port_->spis().Remove(Spi{0x5005});  // the slot is another's by now
  EXPECT_EQ(judge(0x9405), accepted);
  port_->spis().Remove(Spi{0x9405});
  port_->spis().Remove(Spi{0x9405});
  EXPECT_EQ(judge(0x9405), unknown_spi);
  EXPECT_EQ(judge(kSpi), accepted);
  port_->spis().RemoveAll();
  EXPECT_EQ(judge(kSpi), unknown_spi);
  EXPECT_EQ(judge(2), unknown_spi);
}

TEST_F(Generations, ALargerTableOfSpisIsAnotherLayout) {
  CloseSocket();
  generation_ = 0;
  Attach(XdpVariant{.sa_capacity = 65536}, true);
  port_->spis().Add(Spi{0x5005}, 0);
  port_->spis().Add(Spi{0x9405}, 0);  // another slot now
  EXPECT_EQ(Run(EspFrom(kPeer, 0x5005)), accepted);
  EXPECT_EQ(Run(EspFrom(kPeer, 0x9405)), accepted);
  EXPECT_EQ(Run(EspFrom(kPeer, 0x15005)), unknown_spi);
}

// ---- what was dropped

TEST_F(Generations, DropsAreCopiedToWhoeverWatches) {
  const Bytes unknown = Finished(EspFrom(kPeer, 0x7777));
  const Bytes large = Finished(kTo4 + V4(kPeer, "192.0.2.9", kTcp) + Bytes(1000, 0xab));
  EXPECT_EQ(Run(unknown), unknown_spi);
  EXPECT_TRUE(port_->TakeDrops(10).empty());
  ASSERT_TRUE(port_->WatchDrops(1));
  EXPECT_TRUE(port_->TakeDrops(10).empty());
  EXPECT_EQ(Run(unknown), unknown_spi);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(Run(kTo4 + V4(kPeer, kGate, kTcp) + Tcp(1, 22)), exception);
  EXPECT_EQ(Run(large), not_for_us);
  EXPECT_EQ(Run(unknown), unknown_spi);
  auto drops = port_->TakeDrops(2);
  ASSERT_EQ(drops.size(), 2U);
  EXPECT_EQ(drops[0].verdict, unknown_spi);
  EXPECT_EQ(drops[0].frame, unknown);
  EXPECT_EQ(drops[0].length, unknown.size());
  EXPECT_GT(drops[0].at.count(), 0);
  EXPECT_EQ(drops[1].verdict, not_for_us);
  EXPECT_EQ(drops[1].frame, Bytes(large.begin(), large.begin() + 128));
  EXPECT_EQ(drops[1].length, large.size());
  EXPECT_GE(drops[1].at, drops[0].at);
  EXPECT_EQ(port_->TakeDrops(2).size(), 1U);
  ASSERT_TRUE(port_->WatchDrops(0));
  EXPECT_EQ(Run(unknown), unknown_spi);
  EXPECT_TRUE(port_->TakeDrops(10).empty());
}

TEST_F(Generations, OneDropInSoManyIsCopiedAndAFullRingLosesOnlyCopies) {
  const Bytes unknown = Finished(EspFrom(kPeer, 0x7777));
  const auto flood = [&](int repeat) {
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = unknown.data(),
                .data_size_in = static_cast<uint32_t>(unknown.size()), .repeat = repeat);
    ASSERT_EQ(bpf_prog_test_run_opts(port_->program(), &run), 0);
    EXPECT_EQ(run.retval, 1U);  // XDP_DROP
  };
  constexpr int kPackets = 4000;
  ASSERT_TRUE(port_->WatchDrops(7));  // one in 8
  flood(kPackets);
  const size_t taken = port_->TakeDrops(kPackets).size();
  EXPECT_GT(taken, kPackets / 16U);
  EXPECT_LT(taken, kPackets / 4U);
  ASSERT_TRUE(port_->WatchDrops(1));
  const uint64_t before = port_->Read().Of(unknown_spi);
  flood(kPackets);
  EXPECT_EQ(port_->Read().Of(unknown_spi), before + kPackets);
  const size_t kept = port_->TakeDrops(kPackets).size();
  EXPECT_GT(kept, 1000U);
  EXPECT_LT(kept, size_t{kPackets});
  flood(10);  // there is room again
  EXPECT_EQ(port_->TakeDrops(kPackets).size(), 10U);
}

// ---- complexity

TEST_F(Generations, TheVerifiersWorkIsRecorded) {
  constexpr uint32_t kMostInstructions = 100'000;  // of the kernel's 1,000,000
  for (const auto& [name, role, reassemble] : {std::tuple{"untrusted", 0U, 0U},
                                               {"untrusted, reassembling", 0U, 1U},
                                               {"trusted", 1U, 0U}}) {
    const std::unique_ptr<bpf_object, decltype(&bpf_object__close)> object(
        bpf_object__open_file(ObjectPath().c_str(), nullptr), &bpf_object__close);
    ASSERT_TRUE(object);
    for (bpf_map* map = nullptr; (map = bpf_object__next_map(object.get(), map)) != nullptr;) {
      if (!bpf_map__is_internal(map)) continue;
      const portcullis_xdp::portcullis_xdp__rodata constants = {role, 0, reassemble};
      ASSERT_EQ(bpf_map__set_initial_value(map, &constants, sizeof(constants)), 0);
    }
    bpf_program* program = bpf_object__find_program_by_name(object.get(), "xsk_def_prog");
    ASSERT_NE(program, nullptr);
    std::string log(1 << 16, '\0');
    bpf_program__set_log_buf(program, log.data(), log.size());
    constexpr uint32_t kStatistics = 4;
    bpf_program__set_log_level(program, kStatistics);
    ASSERT_EQ(bpf_object__load(object.get()), 0);
    unsigned instructions = 0, states = 0, peak = 0;
    const size_t at = log.find("processed ");
    ASSERT_NE(at, std::string::npos);
    ASSERT_EQ(std::sscanf(log.c_str() + at,
                          "processed %u insns (limit %*u) max_states_per_insn %*u total_states %u "
                          "peak_states %u",
                          &instructions, &states, &peak),
              3);
    std::printf("[ verifier ] %s: %u instructions processed, %u states, %u at most at once\n", name,
                instructions, states, peak);
    EXPECT_GT(instructions, 0U);
    EXPECT_LT(instructions, kMostInstructions) << name;
  }
}

}  // namespace
}  // namespace portcullis
