// What somebody may try who knows the source: each case is a way that once led past a check, made a
// check cost what it should save, or turned a defence against the one whom it should defend.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kWire = TestGate::kWire;
constexpr uint16_t kCore = TestGate::kCore;
constexpr uint32_t kSpi = 0x1001;
constexpr size_t kIpAt = 14;

inline Bytes Ipv6Packet(const char* from, const char* to, uint8_t next, const Bytes& payload,
                        uint8_t hop_limit = 64) {
  Bytes packet(40);
  packet[0] = 0x60;
  packet[4] = static_cast<uint8_t>(payload.size() >> 8U);
  packet[5] = static_cast<uint8_t>(payload.size());
  packet[6] = next;
  packet[7] = hop_limit;
  std::ranges::copy(Address::Parse(from)->bytes(), packet.begin() + 8);
  std::ranges::copy(Address::Parse(to)->bytes(), packet.begin() + 24);
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}
const Bytes kUdp = {0x9c, 0x40, 0x1f, 0x90, 0, 12, 0, 0, 1, 2, 3, 4};  // 40000 → 8080

/// The same packet, as if from elsewhere.
inline Bytes From(Bytes frame, const char* source) {
  std::memcpy(&frame[kIpAt + 12], Address::Parse(source)->wire().data(), 4);
  SetIpv4Checksum(&frame[kIpAt]);
  return frame;
}
/// ESP in UDP (RFC 3948) from `port` to 4500.
inline Bytes InUdp(const Bytes& frame, uint16_t port) {
  const auto length = static_cast<uint16_t>(frame.size() - kIpAt - 20 + 8);
  Bytes out(frame.begin(), frame.begin() + kIpAt + 20);
  for (const uint16_t word : {port, uint16_t{4500}, length, uint16_t{0}}) {
    out.push_back(static_cast<uint8_t>(word >> 8U));
    out.push_back(static_cast<uint8_t>(word));
  }
  out.insert(out.end(), frame.begin() + kIpAt + 20, frame.end());
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(&out[kIpAt]);
  ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(20 + length));
  ip->next_proto_id = 17;
  SetIpv4Checksum(&out[kIpAt]);
  return out;
}
inline Bytes Forged(Bytes frame) {
  frame.back() ^= 1;
  return frame;
}

struct Hostile : ::testing::Test {
  TestGate gate;
  std::unique_ptr<TestSender> sender;

  void Start(const TestGate::SaOptions& options = {}) {
    gate.Policy();
    const Bytes key = gate.AddSa("in", Direction::inbound, kSpi, options);
    sender = std::make_unique<TestSender>(options.algorithm, key, kSpi, options.esn);
  }
};

// IPv4 addresses are kept as ::ffff:a.b.c.d, which on the wire is nobody's address (RFC 4038 4.2):
// an IPv6 packet that carries one would be judged and routed as if it were IPv4.
TEST_F(Hostile, MappedAddressesInIpv6PacketsAreMalformed) {
  Start({.selectors = {Selector{.remote = *Prefix::Parse("10.1.0.0/16")},
                       Selector{.remote = *Prefix::Parse("2001:db8:1::/48")}}});
  uint64_t number = 0;
  const auto refused = [&](const char* from, const char* to) {
    return gate.Run(kWire, {sender->Seal(Ipv6Packet(from, to, 17, kUdp), ++number, 41)}, kCore)
        .empty();
  };
  EXPECT_TRUE(refused("::ffff:10.1.0.2", "2001:db8:2::10"));
  EXPECT_TRUE(refused("2001:db8:1::2", "::ffff:10.2.0.10"));
  EXPECT_EQ(gate.Count(Verdict::inner_malformed), 2U);
  EXPECT_FALSE(refused("2001:db8:1::2", "2001:db8:2::10"));
}

TEST_F(Hostile, MappedAddressesOutsideAreMalformed) {
  Start();
  const Bytes sealed = sender->Seal(InnerPacket(64), 1);
  const Bytes esp(sealed.begin() + TestSender::kEspAt, sealed.end());
  const auto run = [&](const char* from, const char* to) {
    return gate.Run(kWire, {WithEthernet(Ipv6Packet(from, to, 50, esp))}, kCore).size();
  };
  EXPECT_EQ(run("2001:db8::2", "::ffff:192.0.2.1"), 0U);
  EXPECT_EQ(run("::ffff:192.0.2.2", "2001:db8::1"), 0U);
  EXPECT_EQ(gate.Count(Verdict::malformed), 2U);
  EXPECT_EQ(gate.Run(kWire, {sealed}, kCore).size(), 1U);
}

TEST_F(Hostile, EthertypeAndVersionMustAgree) {
  Start();
  Bytes frame = sender->Seal(InnerPacket(64), 1);
  frame[12] = 0x86;
  frame[13] = 0xdd;
  EXPECT_TRUE(gate.Run(kWire, {frame}, kCore).empty());
  Bytes back = WithEthernet(InnerPacket(64, "10.2.0.10", "10.1.0.2"));
  back[12] = 0x86;
  back[13] = 0xdd;
  EXPECT_TRUE(gate.Run(kCore, {back}, kWire).empty());
  EXPECT_EQ(gate.Count(Verdict::malformed), 2U);
  EXPECT_EQ(gate.Run(kWire, {sender->Seal(InnerPacket(64), 2)}, kCore).size(), 1U);
}

// Whatever selectors and rules say: the inner source is one of the peer's own addresses.
TEST_F(Hostile, APeerSpeaksOnlyForItself) {
  PolicyUpdate update{.full = true};
  update.peers = {TestGate::Peer("csmf", {"10.1.0.0/16"}),
                  TestGate::Peer("narrow", {"10.1.7.0/24"})};
  gate.Apply(std::move(update));
  const Bytes key = gate.AddSa("in", Direction::inbound, kSpi, {});
  TestSender from(Algorithm::aes_128_gcm_16, key, kSpi, true);
  EXPECT_TRUE(gate.Run(kWire, {from.Seal(InnerPacket(64, "10.1.7.1"), 1)}, kCore).empty());
  EXPECT_TRUE(gate.Run(kWire, {from.Seal(InnerPacket(64, "10.2.0.11"), 2)}, kCore).empty());
  EXPECT_TRUE(gate.Run(kWire, {from.Seal(InnerPacket(64, "127.0.0.1"), 3)}, kCore).empty());
  EXPECT_EQ(gate.Count(Verdict::no_policy), 3U);
  EXPECT_EQ(gate.Run(kWire, {from.Seal(InnerPacket(64, "10.1.8.1"), 4)}, kCore).size(), 1U);
}

// An authentic packet uses up its number also when what is in it is nonsense: else whoever recorded
// it could have it decrypted again and again.
TEST_F(Hostile, AuthenticNonsenseIsNotOpenedTwice) {
  Start();
  Bytes payload = InnerPacket(64);
  payload.insert(payload.end(), {7, 7, 2, 4});  // padding that does not count 1, 2 (RFC 4303 2.4)
  const Bytes sealed = sender->SealRaw(payload, 1);
  EXPECT_TRUE(gate.Run(kWire, {sealed}, kCore).empty());
  EXPECT_TRUE(gate.Run(kWire, {sealed}, kCore).empty());
  EXPECT_EQ(gate.Count(Verdict::inner_malformed), 1U);
  EXPECT_EQ(gate.Count(Verdict::replayed), 1U);
  EXPECT_EQ(gate.Run(kWire, {sender->Seal(InnerPacket(64), 2)}, kCore).size(), 1U);
}

// The first line throttles strangers by their address. Forgeries from the peer's own address, but
// another port, must not make it drop the peer.
TEST_F(Hostile, TheEndpointsAddressIsNeverThrottledInTheFirstLine) {
  Tunnel tunnel{.local = *Address::Parse("192.0.2.1"), .remote = *Address::Parse("192.0.2.2")};
  tunnel.udp_encap = true;
  Start({.tunnel = tunnel});
  // How many the first line throttles: they never get as far as the SA.
  const auto flood = [&](const char* source, uint16_t port) {
    const auto before =
        gate.Count(Verdict::auth_throttled) - gate.CountOfSa("in", Verdict::auth_throttled);
    for (uint64_t n = 1; n <= 500; ++n) {
      gate.Run(kWire, {From(InUdp(Forged(sender->Seal(InnerPacket(64), n)), port), source)}, kCore);
    }
    return gate.Count(Verdict::auth_throttled) - gate.CountOfSa("in", Verdict::auth_throttled) -
           before;
  };
  EXPECT_EQ(flood("192.0.2.2", 5000), 0U);
  EXPECT_GT(gate.Count(Verdict::auth_throttled), 0U);
  EXPECT_GT(flood("203.0.113.9", 4500), 400U);
  EXPECT_EQ(flood("192.0.2.2", 4501), 0U);
}

// Hints of outsiders (path MTU, whom to throttle) share a ring with what workers cannot do without.
TEST_F(Hostile, AFloodOfHintsLeavesTheRingToOthers) {
  Start();
  Bytes quoted(28);
  quoted[0] = 0x45;
  quoted[9] = 50;
  Bytes icmp = {3, 4, 0, 0, 0, 0, 5, 0};
  icmp.insert(icmp.end(), quoted.begin(), quoted.end());
  Bytes packet(20);
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(packet.data());
  ip->version_ihl = RTE_IPV4_VHL_DEF;
  ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(20 + icmp.size()));
  ip->time_to_live = 64;
  ip->next_proto_id = 1;
  std::memcpy(&ip->src_addr, Address::Parse("203.0.113.1")->wire().data(), 4);
  std::memcpy(&ip->dst_addr, Address::Parse("192.0.2.1")->wire().data(), 4);
  SetIpv4Checksum(packet.data());
  packet.insert(packet.end(), icmp.begin(), icmp.end());
  for (int i = 0; i < 4; ++i) gate.Run(kWire, std::vector<Bytes>(500, WithEthernet(packet)), kCore);
  EXPECT_EQ(gate.Count(Verdict::icmp_consumed), 2000U);
  gate.Resolve(kCore, false);
  EXPECT_TRUE(gate.Run(kWire, {sender->Seal(InnerPacket(64), 1)}, kCore).empty());
  const auto told = gate.Told();
  EXPECT_EQ(std::ranges::count(told, MainMessage::Kind::resolve, &MainMessage::kind), 1);
  const auto hints = std::ranges::count(told, MainMessage::Kind::pmtu, &MainMessage::kind);
  EXPECT_GT(hints, 0);
  EXPECT_LT(hints, 200);
}

// Forgeries spread over many SAs, below each one's own limit, are bounded by the worker's share.
TEST(HostileSpread, FailuresAreCappedOverAllSas) {
  TestGate gate(1, {.cpu_percent = 1});
  gate.Policy();
  constexpr uint32_t kSas = 200;
  constexpr auto kSlow = Algorithm::aes_256_cbc_hmac_sha_256_128;
  std::vector<TestSender> senders;
  for (uint32_t i = 0; i < kSas; ++i) {
    const Bytes key =
        gate.AddSa("in-" + std::to_string(i), Direction::inbound, kSpi + i, {.algorithm = kSlow});
    senders.emplace_back(kSlow, key, kSpi + i, true);
  }
  std::vector<Bytes> frames;
  frames.reserve(senders.size());
  for (TestSender& sender : senders) {
    frames.push_back(From(Forged(sender.Seal(InnerPacket(1400), 2)), "203.0.113.9"));
  }
  // One by one, when each costs the engine most: the share counts time, and what a sanitizer makes
  // slow is the rest of us.
  for (int i = 0; i < 95; ++i) {
    for (const Bytes& frame : frames) gate.Run(kWire, {frame}, kCore);
  }
  EXPECT_GT(gate.Count(Verdict::auth_throttled), kSas);
  for (const auto& [id, sa] : gate.state().sas()) EXPECT_FALSE(sa->auth.Suspect(rte_rdtsc())) << id;
  // From where the peers are, every one passes.
  for (TestSender& sender : senders) {
    EXPECT_EQ(gate.Run(kWire, {sender.Seal(InnerPacket(64), 1)}, kCore).size(), 1U);
  }
}

// A peer that moves on IPv4 moves none of its IPv6 tunnels.
TEST_F(Hostile, NatMovesOnlyTheTunnelThatMoved) {
  Tunnel v4{.local = *Address::Parse("192.0.2.1"), .remote = *Address::Parse("192.0.2.2")};
  v4.udp_encap = v4.follow_nat = true;
  Tunnel v6{.local = *Address::Parse("2001:db8::1"), .remote = *Address::Parse("2001:db8::2")};
  v6.udp_encap = v6.follow_nat = true;
  Start({.tunnel = v4});
  gate.AddSa("out-4", Direction::outbound, 0x2001, {.tunnel = v4});
  gate.AddSa("out-6", Direction::outbound, 0x2002, {.tunnel = v6});
  const Bytes moved = From(InUdp(sender->Seal(InnerPacket(64), 1), 61000), "192.0.2.77");
  EXPECT_EQ(gate.Run(kWire, {moved}, kCore).size(), 1U);
  EXPECT_EQ(gate.state().sas().at("out-4")->endpoint.address().Text(), "192.0.2.77");
  EXPECT_EQ(gate.state().sas().at("out-6")->endpoint.address().Text(), "2001:db8::2");
}

// The counters of an SA do not depend on which worker its packets arrive at.
TEST(HostileWorkers, CountersOfAnSaAreTheSameWithTwoWorkers) {
  for (const unsigned workers : {1U, 2U}) {
    TestGate gate(workers);
    PolicyUpdate update{.full = true};
    update.peers = {TestGate::Peer("a", {"10.3.0.0/16"}), TestGate::Peer("b", {"10.1.0.0/16"})};
    gate.Apply(std::move(update));
    const Bytes key =
        gate.AddSa("in", Direction::inbound, kSpi, {.hard = {.packets = 1}, .peer = "b"});
    EXPECT_EQ(gate.state().sas().at("in")->worker, workers - 1);
    TestSender from(Algorithm::aes_128_gcm_16, key, kSpi, true);
    for (uint64_t n = 1; n <= 5; ++n) gate.Run(kWire, {from.Seal(InnerPacket(64), n)}, kCore);
    EXPECT_EQ(gate.CountOfSa("in", Verdict::accepted), 1U);
    EXPECT_EQ(gate.CountOfSa("in", Verdict::sa_expired), 4U);
  }
}

// Removing an SA waits for a worker that naps while a packet of that SA waits for its neighbour.
TEST_F(Hostile, RemovalWaitsForPacketsThatWait) {
  gate.Policy();
  gate.Resolve(kCore, false);
  gate.Start();
  for (uint32_t i = 1; i <= 20; ++i) {
    const std::vector<std::string> id = {"in"};
    const Bytes key = gate.AddSa(id[0], Direction::inbound, kSpi + i, {});
    TestSender from(Algorithm::aes_128_gcm_16, key, kSpi + i, true);
    ASSERT_TRUE(gate.Offer(kWire, from.Seal(InnerPacket(64), 1)));
    for (int tries = 0; gate.Told().empty(); ++tries) {
      ASSERT_LT(tries, 2000);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_EQ(gate.state().RemoveSas(id), 1U);
    ASSERT_EQ(gate.Count(Verdict::no_neighbour), i);
  }
}

// Multicast, loopback and the like lead nowhere, whatever the default route says.
TEST_F(Hostile, NobodysAddressesAreNotRouted) {
  Start();
  gate.AddRoute("0.0.0.0/0", kCore);
  gate.AddRoute("::/0", kCore);
  uint64_t number = 0;
  for (const char* to : {"127.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "169.254.1.1"}) {
    const Bytes inner = InnerPacket(64, "10.1.0.2", to);
    EXPECT_TRUE(gate.Run(kWire, {sender->Seal(inner, ++number)}, kCore).empty()) << to;
  }
  for (const char* to : {"::1", "ff02::1", "::", "fe80::1"}) {
    const Bytes inner = Ipv6Packet("2001:db8:1::2", to, 17, kUdp);
    EXPECT_TRUE(gate.Run(kWire, {sender->Seal(inner, ++number, 41)}, kCore).empty()) << to;
  }
  EXPECT_EQ(gate.Count(Verdict::no_route), number);
  const Bytes inner = InnerPacket(64, "10.1.0.2", "203.0.113.1");
  EXPECT_EQ(gate.Run(kWire, {sender->Seal(inner, ++number)}, kCore).size(), 1U);
}

// The peers of ::/0 are those with IPv6.
TEST_F(Hostile, PrefixesOfOneFamilyDoNotMatchTheOther) {
  PolicyUpdate update{.full = true};
  update.peers = {TestGate::Peer("csmf", {"::/0"})};
  gate.Apply(std::move(update));
  gate.AddSa("out", Direction::outbound, kSpi, {});
  const auto out = [&](const Bytes& inner) {
    return gate.Run(kCore, {WithEthernet(inner)}, kWire).size();
  };
  EXPECT_EQ(out(InnerPacket(64, "10.2.0.10", "10.1.0.2")), 0U);
  EXPECT_EQ(gate.Count(Verdict::no_policy), 1U);
  EXPECT_EQ(out(Ipv6Packet("2001:db8:2::10", "2001:db8:1::2", 17, kUdp)), 1U);
  // The same of a rule's selector.
  gate.Policy({Selector{.remote = *Prefix::Parse("::/0")}});
  EXPECT_EQ(out(InnerPacket(64, "10.2.0.10", "10.1.0.2")), 0U);
  EXPECT_EQ(gate.Count(Verdict::no_policy), 2U);
  EXPECT_EQ(out(Ipv6Packet("2001:db8:2::10", "2001:db8:1::2", 17, kUdp)), 1U);
}

// What the kernel needs on a port that it does not own, and nothing else (as the XDP program does
// on ports that it shares).
TEST_F(Hostile, NeighbourDiscoveryReachesTheExceptionPort) {
  gate.Policy();
  const Bytes solicitation = {135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 0,
                              0,   0, 0, 0, 0, 0, 0, 0, 0,    0,    0, 1};
  for (const auto& [in, out] : {std::pair{kWire, kCore}, std::pair{kCore, kWire}}) {
    gate.port(in).exception = out;
    const auto passes = [&, in = in, out = out](const char* to, uint8_t hop_limit) {
      const Bytes frame = WithEthernet(Ipv6Packet("fe80::2", to, 58, solicitation, hop_limit));
      return gate.Run(in, {frame}, out) == std::vector<Bytes>{frame};
    };
    EXPECT_TRUE(passes("ff02::1:ff00:1", 255)) << in;
    EXPECT_FALSE(passes("ff02::1:ff00:1", 64)) << in;   // crossed a router (RFC 4861 7.1.1)
    EXPECT_FALSE(passes("2001:db8:2::10", 255)) << in;  // a router could lead it on
    gate.port(in).exception = Port::kNone;
  }
  EXPECT_EQ(gate.Count(Verdict::exception), 2U);
}

TEST_F(Hostile, HostTrafficOfATrustedPortReachesTheHost) {
  gate.Policy();
  HostAddresses hosts(RTE_MAX_ETHPORTS);
  hosts[kCore].push_back(*Address::Parse("10.2.0.1"));
  gate.state().Publish(std::make_unique<const HostAddresses>(hosts));
  gate.port(kCore).exception = kWire;
  const Bytes own = WithEthernet(InnerPacket(64, "10.2.0.10", "10.2.0.1"));
  const Bytes other = WithEthernet(InnerPacket(64, "10.2.0.10", "10.2.0.2"));
  EXPECT_EQ(gate.Run(kCore, {own, other}, kWire), std::vector<Bytes>{own});
  gate.port(kCore).exception = Port::kNone;
}

// The host's address on the wire is the host's, unless policy protects it; before there is a policy
// nobody knows.
TEST_F(Hostile, CleartextToTheProtectedIsNotTheHosts) {
  HostAddresses hosts(RTE_MAX_ETHPORTS);
  hosts[kWire] = {*Address::Parse("192.0.2.1"), *Address::Parse("10.2.0.10")};
  gate.state().Publish(std::make_unique<const HostAddresses>(hosts));
  gate.port(kWire).exception = kCore;
  const auto passes = [&](const char* from, const char* to) {
    const Bytes frame = WithEthernet(InnerPacket(64, from, to));
    return gate.Run(kWire, {frame}, kCore) == std::vector<Bytes>{frame};
  };
  EXPECT_FALSE(passes("203.0.113.1", "192.0.2.1"));
  PolicyUpdate update{.full = true};
  update.peers = {TestGate::Peer("csmf", {"10.1.0.0/16"})};
  update.interfaces = {{.name = "nsmf", .prefixes = {*Prefix::Parse("10.2.0.10/32")}}};
  gate.Apply(std::move(update));
  EXPECT_TRUE(passes("203.0.113.1", "192.0.2.1"));
  EXPECT_FALSE(passes("203.0.113.1", "10.2.0.10"));
  EXPECT_FALSE(passes("10.1.0.2", "192.0.2.1"));
  EXPECT_EQ(gate.Count(Verdict::cleartext_denied), 3U);
  gate.port(kWire).exception = Port::kNone;
}

// An answer to a tagged frame carries the tag.
TEST_F(Hostile, IcmpErrorsKeepTheVlan) {
  gate.Policy();
  gate.AddSa("out", Direction::outbound, kSpi, {});
  HostAddresses hosts(RTE_MAX_ETHPORTS);
  hosts[kCore].push_back(*Address::Parse("10.2.0.1"));
  gate.state().Publish(std::make_unique<const HostAddresses>(hosts));
  Bytes frame = WithEthernet(InnerPacket(1490, "10.2.0.10", "10.1.0.2"));
  frame.insert(frame.begin() + 12, {0x81, 0x00, 0x00, 0x05});
  const auto replies = gate.Run(kCore, {frame}, kCore);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_EQ(Bytes(replies[0].begin() + 12, replies[0].begin() + 18),
            (Bytes{0x81, 0x00, 0x00, 0x05, 0x08, 0x00}));
  EXPECT_EQ(gate.Count(Verdict::too_big), 1U);
}

}  // namespace
}  // namespace portcullis
