// What policy adds: who may send, how much, to what; each refusal with its twin.
#include <chrono>
#include <functional>
#include <thread>

#include "bpf/shared.h"
#include "bpf/xdp_cases.hpp"

namespace portcullis {
namespace {

using namespace xdp;
using enum Verdict;

constexpr uint8_t kGre = 47, kOspf = 89, kSctp = 132;
const char* const kStranger = "198.51.100.7";

Prefix Net(const char* text) {
  return Prefix::Parse(text).value();
}

class XdpPolicyTest : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    Attach(XdpRole::kUntrusted, true);
  }
  static Bytes From(const std::string& source, uint8_t protocol) {
    return source.find(':') == std::string::npos ? kTo4 + V4(source, kGate, protocol)
                                                 : kTo6 + V6(source, kGate6, protocol);
  }
  static Bytes EspFrom(const std::string& source) { return From(source, kEsp) + Esp(kSpi); }
  static Bytes SynFrom(const std::string& source, uint16_t port = 443) {
    return From(source, kTcp) + Tcp(40000, port, kSyn);
  }
  static bool WaitFor(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }
};

// ---- sources

TEST_F(XdpPolicyTest, TheLongestPrefixDecidesWhoMaySend) {
  XdpPolicy policy = Policy();
  policy.first_line.admit_strangers = false;
  policy.first_line.sources = {{Net("192.0.2.0/24"), true},
                               {Net("192.0.2.64/26"), false},
                               {Net("192.0.2.66/32"), true},
                               {Net("2001:db8::/64"), true},
                               {Net("2001:db8::bad:0/112"), false}};
  Apply(policy);
  Check(
      {{"ESP from an admitted prefix", EspFrom(kPeer), accepted},
       {"ESP from a denied one inside it", EspFrom("192.0.2.65"), source_denied},
       {"ESP from an admitted address inside that", EspFrom("192.0.2.66"), accepted},
       {"ESP from a stranger", EspFrom(kStranger), source_denied},
       {"ESP over IPv6 from an admitted prefix", EspFrom(kPeer6), accepted},
       {"ESP over IPv6 from a denied one inside it", EspFrom("2001:db8::bad:1"), source_denied},
       {"ESP over IPv6 from a stranger", EspFrom("2001:db8:ffff::1"), source_denied},
       {"an unknown SPI costs no look-up of its source", From(kStranger, kEsp) + Esp(0x7777),
        unknown_spi},
       {"UDP/4500 from a stranger", From(kStranger, kUdp) + Udp(1, 4500, Esp(kSpi)), source_denied},
       {"keepalive from a stranger", From(kStranger, kUdp) + Udp(1, 4500, Bytes{0xff}),
        source_denied},
       {"keepalive from an admitted address", From(kPeer, kUdp) + Udp(1, 4500, Bytes{0xff}),
        accepted},
       {"ICMP error about ESP from a stranger",
        From(kStranger, kIcmp) + Icmp(3) + V4(kGate, kPeer, kEsp) + Esp(1), source_denied},
       {"ssh from a stranger", SynFrom(kStranger, 22), source_denied},
       {"ssh from an admitted address", SynFrom(kPeer, 22), exception},
       {"ssh from a denied address", SynFrom("192.0.2.65", 22), source_denied},
       {"ping from a stranger", From(kStranger, kIcmp) + Icmp(8), source_denied},
       {"ARP is nobody's in particular", Ethernet(kArp, kBroadcast) + Bytes(28, 1), exception},
       {"neighbour discovery of a denied address",
        Ethernet(kIp6, kSolicited) + V6("2001:db8::bad:1", "ff02::1:ff00:1", kIcmp6, 255) +
            Icmp(135),
        exception}});
  policy.first_line.admit_strangers = true;
  Apply(policy);
  Check({{"ESP from a stranger, now admitted", EspFrom(kStranger), accepted},
         {"ssh from a stranger, now admitted", SynFrom(kStranger, 22), exception},
         {"a denied address is still denied", EspFrom("192.0.2.65"), source_denied}});
}

// Both families share one space of prefixes, in which ::/0 contains all of IPv4.
TEST_F(XdpPolicyTest, PrefixesOfIpv6SayNothingOfIpv4) {
  XdpPolicy policy = Policy();
  policy.protected_nets.push_back(Net("::/0"));
  policy.first_line.sources = {{Net("::/0"), false}, {Net("0.0.0.0/0"), true}};
  policy.first_line.admit_strangers = false;
  Apply(policy);
  Check({{"ssh over IPv4", SynFrom(kPeer, 22), exception},
         {"ESP over IPv4", EspFrom(kPeer), accepted},
         {"ssh over IPv6, where all is protected", SynFrom(kPeer6, 22), cleartext_denied},
         {"ESP over IPv6, where all is denied", EspFrom(kPeer6), source_denied}});
  policy.first_line.sources = {{Net("::/0"), true}};
  Apply(policy);
  Check({{"ESP over IPv4, which is a stranger's now", EspFrom(kPeer), source_denied},
         {"ESP over IPv6", EspFrom(kPeer6), accepted}});
  policy.first_line.sources = {{Net("::/0"), true}, {Net("192.0.2.2/32"), true}};
  Apply(policy);
  Check({{"ESP over IPv4 from the one address that is named", EspFrom(kPeer), accepted},
         {"ESP over IPv4 from another", EspFrom("192.0.2.3"), source_denied}});
}

TEST_F(XdpPolicyTest, CleartextGoesToTheDataplaneOnlyWhereSomeRuleMayAdmitIt) {
  XdpPolicy policy = Policy();
  policy.first_line.sources = {{Net("198.51.100.0/24"), false}};
  const std::vector<Bytes> cleartext = {kTo4 + V4(kPeer, kServer, kTcp) + Tcp(1, 80),
                                        kTo4 + V4(kServer, kGate, kTcp) + Tcp(80, 1),
                                        kTo6 + V6(kPeer6, kServer6, kTcp) + Tcp(1, 80)};
  Apply(policy);
  for (const Bytes& packet : cleartext) EXPECT_EQ(Run(packet), cleartext_denied);
  policy.cleartext = true;
  Apply(policy);
  for (const Bytes& packet : cleartext) EXPECT_EQ(Run(packet), accepted);
  Check({{"cleartext from a denied source", kTo4 + V4(kStranger, kServer, kTcp) + Tcp(1, 80),
          source_denied},
         {"cleartext to nobody", kTo4 + V4(kPeer, "10.9.9.9", kTcp) + Tcp(1, 80), not_for_us}});
}

// ---- buckets

TEST_F(XdpPolicyTest, ASourceMaySendABurstAndNoMore) {
  XdpPolicy policy = Policy();
  policy.cleartext = true;
  policy.first_line.packets = {.per_second = 1, .burst = 3};
  Apply(policy);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Run(EspFrom(kPeer)), accepted) << i;
  Check({{"the fourth", EspFrom(kPeer), source_limited},
         {"another kind of the same source's", From(kPeer, kUdp) + Udp(1, 4500, Bytes{0xff}),
          source_limited},
         {"cleartext of the same source", kTo4 + V4(kPeer, kServer, kTcp) + Tcp(1, 80),
          source_limited},
         {"an unknown SPI is that first", From(kPeer, kEsp) + Esp(0x7777), unknown_spi},
         {"another source", EspFrom("192.0.2.3"), accepted},
         {"to the host itself there is no such limit", SynFrom(kPeer, 22), exception}});
  policy.first_line.packets = {};
  Apply(policy);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
}

TEST_F(XdpPolicyTest, BucketsFillAgain) {
  XdpPolicy policy = Policy();
  policy.first_line.packets = {.per_second = 5, .burst = 1};
  Apply(policy);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(Run(EspFrom(kPeer)), source_limited);
  EXPECT_TRUE(WaitFor([&] { return Run(EspFrom(kPeer)) == accepted; }));
  EXPECT_EQ(Run(EspFrom(kPeer)), source_limited);
}

TEST_F(XdpPolicyTest, APrefixIsOneSource) {
  XdpPolicy policy = Policy();
  policy.first_line.packets = {.per_second = 1, .burst = 1};
  policy.first_line.ipv4_length = 24;
  policy.first_line.ipv6_length = 56;
  Apply(policy);
  Check({{"the first of a /24", EspFrom("192.0.2.2"), accepted},
         {"its neighbour", EspFrom("192.0.2.200"), source_limited},
         {"the next /24", EspFrom("192.0.3.2"), accepted},
         {"the first of a /56", EspFrom("2001:db8:0:7f::1"), accepted},
         {"its neighbour", EspFrom("2001:db8:0:1::2"), source_limited},
         {"the next /56", EspFrom("2001:db8:0:100::1"), accepted}});
}

TEST_F(XdpPolicyTest, AnotherPolicysDebtsAreForgiven) {
  XdpPolicy policy = Policy();
  policy.first_line.packets = {.per_second = 1, .burst = 100};
  Apply(policy);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Run(EspFrom(kPeer)), accepted) << i;
  EXPECT_EQ(Run(EspFrom(kPeer)), source_limited);
  policy.first_line.packets = {.per_second = 2, .burst = 2};
  Apply(policy);  // else it would have to wait for a hundred seconds
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(Run(EspFrom(kPeer)), accepted);
  EXPECT_EQ(Run(EspFrom(kPeer)), source_limited);
}

// ---- the host's own services

TEST_F(XdpPolicyTest, WhoBeginsASessionHasABudget) {
  XdpPolicy policy = Policy();
  policy.first_line.sessions = {{kTcp, 443, 443}, {kUdp, 443, 444}};
  policy.first_line.handshakes = {.per_second = 1, .burst = 2};
  Apply(policy);
  Check(
      {{"the first SYN", SynFrom(kPeer), exception},
       {"the second", SynFrom(kPeer), exception},
       {"the third", SynFrom(kPeer), handshake_limited},
       {"with FIN, which the kernel takes as well", From(kPeer, kTcp) + Tcp(1, 443, kSyn | 0x01),
        handshake_limited},
       {"a UDP datagram", From(kPeer, kUdp) + Udp(1, 444, Bytes(10, 1)), handshake_limited},
       {"what belongs to a connection", From(kPeer, kTcp) + Tcp(1, 443, kAck), exception},
       {"a SYN-ACK, which begins nothing", From(kPeer, kTcp) + Tcp(1, 443, kSyn | kAck), exception},
       {"a SYN to another service", SynFrom(kPeer, 22), exception},
       {"UDP to another service", From(kPeer, kUdp) + Udp(1, 445), exception},
       {"ESP", EspFrom(kPeer), accepted},
       {"another source", SynFrom("192.0.2.3"), exception},
       {"the first over IPv6", SynFrom(kPeer6), exception},
       {"the second of its /64", SynFrom("2001:db8::99"), exception},
       {"the third", SynFrom(kPeer6), handshake_limited}});
}

TEST_F(XdpPolicyTest, StrangersHaveOneBudgetTogether) {
  XdpPolicy policy = Policy();
  policy.first_line.sources = {{Net("192.0.2.2/32"), true}, {Net("192.0.2.66/32"), false}};
  policy.first_line.sessions = {{kTcp, 443, 443}};
  policy.first_line.strangers = {.per_second = 1, .burst = 2};
  Apply(policy);
  Check({{"a stranger", SynFrom("198.51.100.1"), exception},
         {"a second one", SynFrom("2001:db8:1::1"), exception},
         {"a third one", SynFrom("198.51.100.3"), handshake_limited},
         {"a denied one", SynFrom("192.0.2.66"), source_denied},
         {"one that is admitted by name", SynFrom(kPeer), exception},
         {"the same again", SynFrom(kPeer), exception},
         {"a stranger to another service", SynFrom("198.51.100.3", 22), exception}});
}

// Else one stranger could shut out all the others.
TEST_F(XdpPolicyTest, WhoIsAboveHisOwnLimitTakesNothingFromTheOthers) {
  XdpPolicy policy = Policy();
  policy.first_line.sessions = {{kTcp, 443, 443}};
  policy.first_line.handshakes = {.per_second = 1, .burst = 1};
  policy.first_line.strangers = {.per_second = 1, .burst = 3};
  Apply(policy);
  EXPECT_EQ(Run(SynFrom("198.51.100.1")), exception);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Run(SynFrom("198.51.100.1")), handshake_limited);
  Check({{"a second stranger", SynFrom("198.51.100.2"), exception},
         {"a third", SynFrom("198.51.100.3"), exception},
         {"a fourth", SynFrom("198.51.100.4"), handshake_limited}});
}

TEST_F(XdpPolicyTest, OnlyListedServicesOfTheHostAreOpen) {
  XdpPolicy policy = Policy();
  policy.first_line.whole_host = false;
  policy.first_line.host = {{kTcp, 22, 22}, {kUdp, 53, 60}, {kOspf, 0, 65535}, {kSctp, 9, 9}};
  policy.first_line.sessions = {{kTcp, 443, 443}};
  const std::vector<Case> open = {
      {"a listed TCP port", SynFrom(kPeer, 22), exception},
      {"a session port", SynFrom(kPeer, 443), exception},
      {"the first listed UDP port", From(kPeer, kUdp) + Udp(1, 53), exception},
      {"the last", From(kPeer, kUdp) + Udp(1, 60), exception},
      {"a listed TCP port over IPv6", SynFrom(kPeer6, 22), exception},
      {"a listed protocol without ports", From(kPeer, kOspf) + Bytes(20, 0), exception},
      {"a listed SCTP port", From(kPeer, kSctp) + Tcp(1, 9), exception},
      {"ping", From(kPeer, kIcmp) + Icmp(8), exception},
      {"ping over IPv6", From(kPeer6, kIcmp6) + Icmp(128), exception},
      {"a fragment of ping", kTo4 + V4(kPeer, kGate, kIcmp, {.fragment = 100}) + Bytes(40, 0),
       exception},
      {"an answer to a connection of the host's own", From(kPeer, kTcp) + Tcp(443, 40000, kAck),
       exception}};
  const std::vector<Case> closed = {
      {"another TCP port", SynFrom(kPeer, 23), host_denied},
      {"another UDP port", From(kPeer, kUdp) + Udp(53, 61), host_denied},
      {"another TCP port over IPv6", SynFrom(kPeer6, 23), host_denied},
      {"another protocol", From(kPeer, kGre) + Bytes(20, 0), host_denied},
      {"another SCTP port", From(kPeer, kSctp) + Tcp(1, 10), host_denied},
      {"ICMPv6 over IPv4", From(kPeer, kIcmp6) + Icmp(128), host_denied}};
  Apply(policy);
  Check(open);
  Check(closed);
  policy.first_line.whole_host = true;
  Apply(policy);
  Check(open);
  for (const Case& c : closed) EXPECT_EQ(Run(c.packet), exception) << c.description;
}

// What shows neither port nor flags may show them in another piece.
TEST_F(XdpPolicyTest, PiecesDoNotGetAroundTheServices) {
  const auto piece = [](uint16_t fragment, const Bytes& payload) {
    return kTo4 + V4(kPeer, kGate, kTcp, {.fragment = fragment}) + payload;
  };
  const std::vector<Bytes> pieces = {
      piece(kMore, Bytes{0, 1, 1, 0xbb, 0, 0, 0, 0}), piece(1, Bytes(12, kSyn)),
      piece(kMore, Tcp(1, 443, kSyn)),
      kTo6 + V6(kPeer6, kGate6, 44) + FragmentHeader(60, 1) + Extension(kTcp) + Tcp(1, 443, kSyn)};
  XdpPolicy policy = Policy();
  policy.first_line.sessions = {{kTcp, 443, 443}};
  Apply(policy);
  for (const Bytes& packet : pieces) EXPECT_EQ(Run(packet), fragment);
  Check({{"TCP without its flags", From(kPeer, kTcp) + Bytes(13, 0), malformed},
         {"TCP without the rest of its header", From(kPeer, kTcp) + Bytes(19, kAck), malformed},
         {"TCP", From(kPeer, kTcp) + Tcp(1, 443, kAck), exception}});
  // Where services are not told apart, pieces are the kernel's as any others.
  Apply(Policy());
  for (const Bytes& packet : pieces) EXPECT_EQ(Run(packet), exception);
}

TEST_F(XdpPolicyTest, WhereTheDataplaneReassemblesItGetsFragmentsOfSourcesThatMaySend) {
  const Bytes first = kTo4 + V4(kPeer, kGate, kEsp, {.fragment = kMore}) + Esp(0x7777);
  const Bytes later = kTo4 + V4(kPeer, kGate, kUdp, {.fragment = 100}) + Bytes(40, 0);
  const Bytes six = kTo6 + V6(kPeer6, kGate6, 44) + FragmentHeader(kEsp, 0x100) + Bytes(40, 0);
  for (const Bytes& packet : {first, later, six}) EXPECT_EQ(Run(packet), fragment);
  CloseSocket();
  Attach(XdpVariant{.reassemble = true}, true);
  for (const Bytes& packet : {first, later, six}) EXPECT_EQ(Run(packet), accepted);
  XdpPolicy policy = Policy();
  policy.first_line.sources = {{Net("192.0.2.2/32"), false}};
  policy.first_line.packets = {.per_second = 1, .burst = 1};
  Apply(policy);
  EXPECT_EQ(Run(later), source_denied);
  EXPECT_EQ(Run(six), accepted);
  EXPECT_EQ(Run(six), source_limited);
}

TEST_F(XdpPolicyTest, TheInsideIsNotJudgedByThisPolicy) {
  CloseSocket();
  Attach(XdpRole::kTrusted, true);
  XdpPolicy policy = Policy();
  policy.first_line.admit_strangers = false;
  policy.first_line.whole_host = false;
  policy.first_line.packets = {.per_second = 1, .burst = 1};
  Apply(policy);
  Check(InsideCases());
}

}  // namespace
}  // namespace portcullis
