// The first line of defence as a stage of the pipeline: each refusal beside the packet that differs
// from it in one thing and goes on. That it says the same as XDP is tests/first_line's subject.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kWire = TestGate::kWire;
constexpr uint16_t kCore = TestGate::kCore;
constexpr uint32_t kSpi = 0x1001;
constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kEsp = 50;
constexpr uint8_t kSyn = 0x02, kAck = 0x10;
constexpr const char* kPeer = "192.0.2.2";
constexpr const char* kOther = "203.0.113.9";
constexpr const char* kGate = "192.0.2.1";

struct Ip {
  const char* source = kPeer;
  const char* destination = kGate;
  uint16_t fragment = 0;  // flags and offset
  uint8_t options = 0;    // bytes
};
Bytes Frame(const Ip& ip, uint8_t protocol, const Bytes& payload) {
  const size_t header = 20U + ip.options;
  Bytes packet(header, 1);  // options: no operation
  packet[0] = static_cast<uint8_t>(0x40U | header / 4);
  packet[1] = 0;
  const be16 words[] = {be16(static_cast<uint16_t>(header + payload.size())), be16(7),
                        be16(ip.fragment)};
  std::memcpy(&packet[2], words, sizeof(words));
  packet[8] = 64;
  packet[9] = protocol;
  std::memcpy(&packet[12], Address::Parse(ip.source)->wire().data(), 4);
  std::memcpy(&packet[16], Address::Parse(ip.destination)->wire().data(), 4);
  SetIpv4Checksum(packet.data());
  packet.insert(packet.end(), payload.begin(), payload.end());
  return WithEthernet(packet);
}
Bytes Ports(uint16_t to, size_t size) {
  Bytes header(size);
  const be16 ports[] = {be16(40000), be16(to)};
  std::memcpy(header.data(), ports, sizeof(ports));
  return header;
}
Bytes Udp(uint16_t to) {
  Bytes datagram = Ports(to, 16);
  datagram[5] = 16;
  return datagram;
}
Bytes Tcp(uint16_t to, uint8_t flags) {
  Bytes segment = Ports(to, 20);
  segment[13] = flags;
  return segment;
}
Bytes Esp(uint32_t spi) {
  Bytes esp(64, 0xee);
  const be32 wire(spi);
  std::memcpy(esp.data(), &wire, sizeof(wire));
  return esp;
}
Bytes Icmp(uint8_t type) {
  return {type, 0, 0, 0, 0, 0, 0, 0};
}
Bytes ToGroup(Bytes frame) {
  frame[0] = 1;
  return frame;
}

SourceRule Rule(const char* prefix, bool admit) {
  return {*Prefix::Parse(prefix), admit};
}

struct PrefilterTest : ::testing::Test {
  explicit PrefilterTest(unsigned workers = 1) : gate(workers) {
    gate.port(kWire).exception = kCore;  // what is the host's leaves by that
    Apply({});
    Bytes key = gate.AddSa("in", Direction::inbound, kSpi, {.window = 1024});
    sender = std::make_unique<TestSender>(Algorithm::aes_128_gcm_16, key, kSpi, true);
  }
  ~PrefilterTest() override { gate.port(kWire).exception = Port::kNone; }

  /// One peer; the servers are in 10.2.0.0/24.
  void Apply(const FirstLine& line, std::vector<BypassRule> bypasses = {}) {
    PolicyUpdate update{.full = true};
    update.peers = {TestGate::Peer("csmf", {"10.1.0.0/16"})};
    update.interfaces = {{.name = "nsmf", .prefixes = {*Prefix::Parse("10.2.0.0/24")}}};
    update.bypasses = std::move(bypasses);
    update.first_line = std::make_shared<const FirstLine>(line);
    gate.Apply(std::move(update));
  }
  /// The verdict of this packet alone.
  std::string Of(const Bytes& frame) {
    std::array<uint64_t, kVerdictCount> before{};
    for (size_t v = 0; v < kVerdictCount; ++v) before[v] = gate.Count(static_cast<Verdict>(v));
    gate.Run(kWire, {frame}, kCore);
    std::string verdicts;
    for (size_t v = 0; v < kVerdictCount; ++v) {
      if (gate.Count(static_cast<Verdict>(v)) == before[v]) continue;
      verdicts += (verdicts.empty() ? "" : " ") + std::string(kVerdicts[v].name);
    }
    return verdicts;
  }
  /// The next legitimate packet, as if from `source`.
  Bytes Next(const char* source = kPeer) {
    Bytes frame = sender->Seal(InnerPacket(64), ++sequence);
    std::memcpy(&frame[14 + 12], Address::Parse(source)->wire().data(), 4);
    SetIpv4Checksum(&frame[14]);
    return frame;
  }

  TestGate gate;
  std::unique_ptr<TestSender> sender;
  uint64_t sequence = 0;
};

TEST_F(PrefilterTest, WithoutLimitsItSaysWhoseAPacketIs) {
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(Of(Next(kOther)), "accepted") << "anybody may bring ESP that is authentic";
  EXPECT_EQ(Of(ToGroup(Next())), "not_for_us");
  EXPECT_EQ(Of(Frame({}, kEsp, Esp(0x2002))), "unknown_spi");
  EXPECT_EQ(Of(Frame({.destination = "192.0.2.9"}, kEsp, Esp(0x2002))), "not_for_us");
  EXPECT_EQ(Of(Frame({.destination = "192.0.2.9"}, kEsp, Esp(kSpi))), "not_for_us");
  EXPECT_EQ(Of(Frame({.destination = "10.2.0.10"}, kEsp, Esp(0x2002))), "cleartext_denied");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(22, kSyn))), "exception");
  EXPECT_EQ(Of(Frame({.options = 4}, kTcp, Tcp(22, kSyn))), "not_for_us")
      << "may be a source route";
  EXPECT_EQ(Of(Frame({.destination = "192.0.2.9"}, kTcp, Tcp(22, kSyn))), "not_for_us");
  EXPECT_EQ(Of(Frame({.destination = "10.2.0.10"}, kTcp, Tcp(80, kSyn))), "cleartext_denied");
  EXPECT_EQ(Of(Frame({.source = "10.2.0.10"}, kTcp, Tcp(80, kSyn))), "cleartext_denied");
  Bytes frame = Frame({}, kTcp, Tcp(22, kSyn));
  frame[12] = 0x08;
  frame[13] = 0x06;
  EXPECT_EQ(Of(frame), "exception") << "ARP";
  EXPECT_EQ(Of(ToGroup(frame)), "exception");
  frame[12] = 0x88;
  frame[13] = 0xcc;
  EXPECT_EQ(Of(frame), "not_for_us") << "LLDP";
}

TEST_F(PrefilterTest, Fragments) {
  constexpr uint16_t kMore = 0x2000;
  EXPECT_EQ(Of(Frame({.fragment = kMore}, kEsp, Esp(kSpi))), "fragment");
  EXPECT_EQ(Of(Frame({.fragment = 8}, kUdp, Bytes(40))), "fragment");
  EXPECT_EQ(Of(Frame({.destination = "192.0.2.9", .fragment = 8}, kUdp, Bytes(40))), "not_for_us");
  EXPECT_EQ(Of(Frame({.destination = "10.2.0.10", .fragment = 8}, kUdp, Bytes(40))),
            "cleartext_denied");
  EXPECT_EQ(Of(Frame({.fragment = 8}, kTcp, Bytes(40))), "exception");
}

TEST_F(PrefilterTest, Sources) {
  Apply({.sources = {Rule("203.0.113.0/24", false), Rule("203.0.113.8/32", true)}});
  EXPECT_EQ(Of(Next(kOther)), "source_denied");
  EXPECT_EQ(Of(Next("203.0.113.8")), "accepted");
  EXPECT_EQ(Of(Next("198.51.100.1")), "accepted") << "a stranger";
  EXPECT_EQ(Of(Frame({.source = kOther}, kTcp, Tcp(22, kSyn))), "source_denied");
  EXPECT_EQ(Of(Frame({.source = "203.0.113.8"}, kTcp, Tcp(22, kSyn))), "exception");
  // What is nobody's here, or is not allowed anyway, needs no look at its source.
  EXPECT_EQ(Of(Frame({.source = kOther}, kEsp, Esp(0x2002))), "unknown_spi");
  EXPECT_EQ(Of(Frame({.source = kOther, .destination = "192.0.2.9"}, kTcp, Tcp(22, kSyn))),
            "not_for_us");
  EXPECT_EQ(Of(Frame({.source = kOther, .destination = "10.2.0.10"}, kTcp, Tcp(80, kSyn))),
            "cleartext_denied");
}

TEST_F(PrefilterTest, Strangers) {
  Apply({.admit_strangers = false, .sources = {Rule("203.0.113.8/32", true)}});
  EXPECT_EQ(Of(Next(kPeer)), "source_denied");
  EXPECT_EQ(Of(Next("203.0.113.8")), "accepted");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(22, kSyn))), "source_denied");
  EXPECT_EQ(Of(Frame({.source = "203.0.113.8"}, kTcp, Tcp(22, kSyn))), "exception");
  Apply({});
  EXPECT_EQ(Of(Next(kPeer)), "accepted");
}

TEST_F(PrefilterTest, CleartextThatABypassRuleMayAdmitIsJudgedByItsSource) {
  const Bytes good = Frame({.source = "198.51.100.1", .destination = "10.2.0.10"}, kUdp, Udp(53));
  const Bytes bad = Frame({.source = kOther, .destination = "10.2.0.10"}, kUdp, Udp(53));
  const FirstLine line{.sources = {Rule("203.0.113.0/24", false)}};
  Apply(line);
  EXPECT_EQ(Of(good), "cleartext_denied");
  EXPECT_EQ(Of(bad), "cleartext_denied");
  Apply(line, {{.name = "dns", .selector = {}}});
  EXPECT_EQ(Of(good), "bypassed");
  EXPECT_EQ(Of(bad), "source_denied");
}

TEST_F(PrefilterTest, PacketsOfOneSource) {
  const FirstLine line{.ipv4_length = 24, .packets = {.per_second = 1, .burst = 5}};
  Apply(line);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Of(Next("203.0.113.8")), "accepted");
  EXPECT_EQ(Of(Next("203.0.113.8")), "source_limited");
  EXPECT_EQ(Of(Next("203.0.113.9")), "source_limited") << "the same source prefix";
  EXPECT_EQ(Of(Next(kPeer)), "accepted");
  EXPECT_EQ(Of(Frame({.source = kOther}, kTcp, Tcp(22, kSyn))), "exception")
      << "not the pipeline's";
  Apply(line);
  EXPECT_EQ(Of(Next(kOther)), "source_limited") << "a new policy forgets nothing";
  Apply({});
  EXPECT_EQ(Of(Next(kOther)), "accepted");
}

// What is left of the window ends before it can use up what its source may send.
TEST_F(PrefilterTest, StaleNumbersOfOneSource) {
  const Bytes old = Next();
  EXPECT_EQ(Of(old), "accepted");
  EXPECT_EQ(Of(old), "replayed");
  sequence = 5000;
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(Of(old), "stale") << "without limits the window tells it";
  EXPECT_EQ(gate.CountOfSa("in", Verdict::stale), 1U);
  Apply({.packets = {.per_second = 1, .burst = 2}});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Of(old), "stale");
  EXPECT_EQ(gate.CountOfSa("in", Verdict::stale), 1U) << "no SA hears of it";
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(Of(Next()), "source_limited");
  EXPECT_EQ(Of(old), "stale");
}

// The first line hears of the window's edge in steps of an eighth, and never more than is true.
TEST_F(PrefilterTest, TheEdgeIsToldInSteps) {
  const Sa& sa = *gate.state().sas().at("in");
  const SaRecord& record = *sa.record;
  std::set<uint64_t> told;
  for (int i = 0; i < 3 * record.window; ++i) {
    ASSERT_EQ(Of(Next()), "accepted");
    ASSERT_LE(sa.oldest, OldestOf(record));
    ASSERT_GE(sa.oldest + record.window / 8, OldestOf(record));
    told.insert(sa.oldest);
  }
  EXPECT_GT(told.size(), 14U);
  EXPECT_LT(told.size(), 18U);
  sequence = (uint64_t{1} << 31) + 7;
  ASSERT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(sa.oldest, OldestOf(record));
  const uint64_t before = sa.oldest;
  sequence -= 2;  // behind the newest: the edge stays
  ASSERT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(sa.oldest, before);
}

// Whoever throws forgeries at an SA makes it suspect; then strangers' packets end in the first
// line, but for a few. The peer goes on, also from where it has moved to.
TEST_F(PrefilterTest, SuspectSa) {
  Sa& sa = *gate.state().sas().at("in");
  const auto forge = [&](int packets, const char* source) {
    std::map<std::string, int> verdicts;
    for (int i = 0; i < packets; ++i) {
      Bytes frame = sender->Seal(InnerPacket(64), 1'000'000 + i);
      frame.back() ^= 1;
      std::memcpy(&frame[14 + 12], Address::Parse(source)->wire().data(), 4);
      SetIpv4Checksum(&frame[14]);
      ++verdicts[Of(frame)];
    }
    return verdicts;
  };
  const auto heard = [&] { return gate.CountOfSa("in", Verdict::auth_throttled); };
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(sa.suspicion.until, 0U);
  EXPECT_GT(forge(1000, kOther)["auth_throttled"], 500);
  EXPECT_TRUE(sa.suspicion.Holds(gate.worker().now()));
  EXPECT_EQ(sa.suspicion.endpoint, *Address::Parse(kPeer));
  const uint64_t before = heard();
  EXPECT_GT(forge(500, "198.51.100.1")["auth_throttled"], 400);
  EXPECT_LT(heard() - before, 100U) << "the SA hears of few";
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(Of(Frame({.source = kOther}, kTcp, Tcp(22, kSyn))), "exception");
  // It moves: some packet gets through in the end, and from then on all do.
  while (Of(Next(kOther)) != "accepted") {
  }
  EXPECT_EQ(sa.suspicion.endpoint, *Address::Parse(kOther)) << "told at once";
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Of(Next(kOther)), "accepted");
  EXPECT_GT(forge(100, kPeer)["auth_throttled"], 50) << "where it was it is a stranger";
}

// The first line is reminded by any packet, also of the peer's own, twice a second.
TEST_F(PrefilterTest, SuspicionIsRenewedAsLongAsItLasts) {
  Sa& sa = *gate.state().sas().at("in");
  for (int i = 0; i < 1000 && sa.suspicion.until == 0; ++i) {
    Bytes frame = Next(kOther);
    frame.back() ^= 1;
    Of(frame);
  }
  const uint64_t first = sa.suspicion.until;
  ASSERT_NE(first, 0U);
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(sa.suspicion.until, first) << "not for each packet";
  const uint64_t hz = rte_get_tsc_hz();
  while (sa.suspicion.until == first) ASSERT_EQ(Of(Next()), "accepted");
  EXPECT_GE(sa.suspicion.until - first, hz / 2);
}

TEST_F(PrefilterTest, HandshakesOfOneSource) {
  FirstLine line{.handshakes = {.per_second = 1, .burst = 3},
                 .sessions = {{.protocol = kTcp, .first = 4433, .last = 4433},
                              {.protocol = kUdp, .first = 4433, .last = 4433}}};
  Apply(line);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Of(Frame({}, kTcp, Tcp(4433, kSyn))), "exception");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(4433, kSyn))), "handshake_limited");
  EXPECT_EQ(Of(Frame({}, kUdp, Udp(4433))), "handshake_limited");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(4433, kAck))), "exception") << "of one that has begun";
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(4433, kSyn | kAck))), "exception");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(4434, kSyn))), "exception") << "another service";
  EXPECT_EQ(Of(Frame({}, kIcmp, Icmp(8))), "exception");
  EXPECT_EQ(Of(Frame({.source = kOther}, kTcp, Tcp(4433, kSyn))), "exception");
  EXPECT_EQ(Of(Next()), "accepted");
  EXPECT_EQ(Of(Frame({}, kTcp, Ports(4433, 19))), "malformed") << "flags cut off";
  EXPECT_EQ(Of(Frame({.fragment = 0x2000}, kTcp, Tcp(4433, kSyn))), "fragment");
}

TEST_F(PrefilterTest, HandshakesOfAllStrangers) {
  Apply({.sources = {Rule("203.0.113.8/32", true)},
         .strangers = {.per_second = 1, .burst = 3},
         .sessions = {{.protocol = kTcp, .first = 4433, .last = 4433}}});
  for (const char* source : {"198.51.100.1", "198.51.100.2", "198.51.100.3"}) {
    EXPECT_EQ(Of(Frame({.source = source}, kTcp, Tcp(4433, kSyn))), "exception");
  }
  EXPECT_EQ(Of(Frame({.source = "198.51.100.4"}, kTcp, Tcp(4433, kSyn))), "handshake_limited");
  EXPECT_EQ(Of(Frame({.source = "203.0.113.8"}, kTcp, Tcp(4433, kSyn))), "exception");
}

TEST_F(PrefilterTest, OnlyWhatIsOpenOfTheHost) {
  Apply({.sessions = {{.protocol = kTcp, .first = 4433, .last = 4433}},
         .whole_host = false,
         .host = {{.protocol = kTcp, .first = 22, .last = 22}, {.protocol = 89}}});
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(22, kSyn))), "exception");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(4433, kSyn))), "exception");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(23, kSyn))), "host_denied");
  EXPECT_EQ(Of(Frame({}, kTcp, Tcp(23, kSyn | kAck))), "exception") << "the host has begun that";
  EXPECT_EQ(Of(Frame({}, kUdp, Udp(22))), "host_denied");
  EXPECT_EQ(Of(Frame({}, kIcmp, Icmp(8))), "exception");
  EXPECT_EQ(Of(Frame({}, 89, Bytes(20))), "exception");
  EXPECT_EQ(Of(Frame({}, 88, Bytes(20))), "host_denied");
  EXPECT_EQ(Of(Frame({.fragment = 8}, kTcp, Bytes(20))), "fragment");
  EXPECT_EQ(Of(Next()), "accepted");
}

// A change that does not name the first line leaves it as it is; a whole policy does not.
TEST_F(PrefilterTest, StaysWhereAChangeDoesNotNameIt) {
  Apply({.sources = {Rule("203.0.113.0/24", false)}});
  PolicyUpdate change;
  change.interfaces = {{.name = "nsmf", .prefixes = {*Prefix::Parse("10.2.0.0/24")}}};
  gate.Apply(std::move(change));
  EXPECT_EQ(Of(Next(kOther)), "source_denied");
  gate.Policy();
  EXPECT_EQ(Of(Next(kOther)), "accepted");
}

// Received by one worker, opened by another: counted once, and not lost.
struct PrefilterHandoff : PrefilterTest {
  PrefilterHandoff() : PrefilterTest(2) {}
};
TEST_F(PrefilterHandoff, CountsOnce) {
  PolicyUpdate update{.full = true};
  update.peers = {TestGate::Peer("csmf", {"10.1.0.0/16"}),
                  TestGate::Peer("other", {"10.3.0.0/16"})};
  update.first_line =
      std::make_shared<const FirstLine>(FirstLine{.packets = {.per_second = 1, .burst = 10}});
  gate.Apply(std::move(update));
  const Bytes key = gate.AddSa("far", Direction::inbound, 0x1002, {.peer = "other"});
  ASSERT_NE(gate.state().sas().at("far")->worker, gate.state().sas().at("in")->worker);
  TestSender far(Algorithm::aes_128_gcm_16, key, 0x1002, true);
  for (uint64_t n = 1; n <= 5; ++n) {
    EXPECT_EQ(Of(far.Seal(InnerPacket(64, "10.3.0.2"), n)), "accepted");
    EXPECT_EQ(Of(Next()), "accepted");
  }
  EXPECT_EQ(Of(far.Seal(InnerPacket(64, "10.3.0.2"), 6)), "source_limited");
}

}  // namespace
}  // namespace portcullis
