// A packet in, a verdict out: every decision of the XDP program, each refusal beside the packet
// that differs from it in one thing and goes the other way.
#include <linux/in.h>

#include <thread>

#include "bpf/test_port.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kIp4 = 0x0800, kIp6 = 0x86dd, kArp = 0x0806, kVlan = 0x8100, kQinQ = 0x88a8;
constexpr uint16_t kMore = 0x2000;
constexpr uint8_t kEsp = 50, kUdp = 17, kTcp = 6, kIcmp = 1, kIcmp6 = 58;
// Attackers and peers are .2/.66, the gate is .1, the servers are in 10.2.0.0/24 and
// 2001:db8:2::/64.
const std::string kPeer = "192.0.2.2", kGate = "192.0.2.1", kServer = "10.2.0.10";
const std::string kPeer6 = "2001:db8::2", kGate6 = "2001:db8::1", kServer6 = "2001:db8:2::10";
const std::string kSolicited = "33:33:ff:00:00:01", kBroadcast = "ff:ff:ff:ff:ff:ff";

const Bytes kTo4 = Ethernet(kIp4), kTo6 = Ethernet(kIp6);

struct Case {
  const char* description;
  Bytes packet;
  Seen expected;
};

Bytes Quote4(uint8_t protocol, const Bytes& payload, uint16_t fragment = 0) {
  return V4(kGate, kPeer, protocol, {.fragment = fragment}) + payload;
}

std::vector<Case> WireCases() {
  using enum Seen;
  const Bytes lsrr = {0x83, 7, 4, 10, 2, 0, 10, 0};
  const Bytes router_alert = {0x94, 4, 0, 0};
  return {
      // ESP
      {"ESP to the gate", kTo4 + V4(kPeer, kGate, kEsp) + Esp(0x1001), kRedirected},
      {"ESP to another host", kTo4 + V4(kPeer, "192.0.2.9", kEsp) + Esp(0x1001), kNotForUs},
      {"ESP to a server", kTo4 + V4(kPeer, kServer, kEsp) + Esp(0x1001), kRedirected},
      {"ESP cut before its SPI, for the dataplane to judge",
       kTo4 + V4(kPeer, kGate, kEsp) + Bytes{0, 0}, kRedirected},
      {"ESP behind IP options", kTo4 + V4(kPeer, kGate, kEsp, {.options = router_alert}) + Esp(1),
       kRedirected},
      {"first fragment of ESP", kTo4 + V4(kPeer, kGate, kEsp, {.fragment = kMore}) + Esp(0x1001),
       kRedirected},
      {"later fragment of ESP", kTo4 + V4(kPeer, kGate, kEsp, {.fragment = 185}) + Esp(0x1001),
       kRedirected},
      {"ESP over IPv6", kTo6 + V6(kPeer6, kGate6, kEsp) + Esp(0x1001), kRedirected},
      {"ESP over IPv6 to another host", kTo6 + V6(kPeer6, "2001:db8::9", kEsp) + Esp(0x1001),
       kNotForUs},
      {"ESP behind destination options",
       kTo6 + V6(kPeer6, kGate6, 60) + Extension(kEsp, 1) + Esp(0x1001), kRedirected},
      {"ESP in an IPv6 fragment",
       kTo6 + V6(kPeer6, kGate6, 44) + FragmentHeader(kEsp, 1) + Esp(0x1001), kRedirected},
      {"ESP in a later IPv6 fragment",
       kTo6 + V6(kPeer6, kGate6, 44) + FragmentHeader(kEsp, 0x100) + Esp(0x1001), kRedirected},
      {"ESP with a group MAC address",
       Ethernet(kIp4, "01:00:5e:00:00:01") + V4(kPeer, kGate, kEsp) + Esp(0x1001), kNotForUs},
      // UDP-encapsulated
      {"UDP/4500 to the gate", kTo4 + V4(kPeer, kGate, kUdp) + Udp(50000, 4500) + Esp(0x1001),
       kRedirected},
      {"keepalive", kTo4 + V4(kPeer, kGate, kUdp) + Udp(50000, 4500) + Bytes{0xff}, kRedirected},
      {"UDP/4500 to another host", kTo4 + V4(kPeer, "192.0.2.9", kUdp) + Udp(1, 4500) + Esp(1),
       kNotForUs},
      {"UDP/4501 to the gate is its own", kTo4 + V4(kPeer, kGate, kUdp) + Udp(4500, 4501) + Esp(1),
       kPassed},
      {"UDP/4500 over IPv6", kTo6 + V6(kPeer6, kGate6, kUdp) + Udp(50000, 4500) + Esp(0x1001),
       kRedirected},
      {"first fragment of UDP",
       kTo4 + V4(kPeer, kGate, kUdp, {.fragment = kMore}) + Udp(50000, 4500) + Esp(1), kRedirected},
      {"later fragment of UDP, whose port nobody knows",
       kTo4 + V4(kPeer, kGate, kUdp, {.fragment = 100}) + Bytes(40, 0), kRedirected},
      {"later fragment of TCP to the gate",
       kTo4 + V4(kPeer, kGate, kTcp, {.fragment = 100}) + Bytes(40, 0), kPassed},
      {"UDP to the gate in an atomic fragment is whole",
       kTo6 + V6(kPeer6, kGate6, 44) + FragmentHeader(kUdp, 0) + Udp(1, 53), kPassed},
      {"UDP to the gate in an IPv6 fragment",
       kTo6 + V6(kPeer6, kGate6, 44) + FragmentHeader(kUdp, 1) + Udp(1, 53), kRedirected},
      // ICMP errors
      {"unreachable quoting our ESP",
       kTo4 + V4("203.0.113.1", kGate, kIcmp) + Icmp(3) + Quote4(kEsp, Esp(1)), kRedirected},
      {"unreachable quoting our UDP/4500",
       kTo4 + V4("203.0.113.1", kGate, kIcmp) + Icmp(3) + Quote4(kUdp, Udp(4500, 50000)),
       kRedirected},
      {"time exceeded quoting our ESP",
       kTo4 + V4("203.0.113.1", kGate, kIcmp) + Icmp(11) + Quote4(kEsp, Esp(1)), kRedirected},
      {"unreachable quoting the gate's own TCP",
       kTo4 + V4("203.0.113.1", kGate, kIcmp) + Icmp(3) + Quote4(kTcp, Tcp(1, 2)), kPassed},
      {"unreachable quoting the gate's own UDP",
       kTo4 + V4("203.0.113.1", kGate, kIcmp) + Icmp(3) + Quote4(kUdp, Udp(53, 5353)), kPassed},
      {"echo request that looks as if it quoted ESP",
       kTo4 + V4(kPeer, kGate, kIcmp) + Icmp(8) + Quote4(kEsp, Esp(1)), kPassed},
      {"later fragment of ICMP with data that looks like an error quoting ESP",
       kTo4 + V4(kPeer, kGate, kIcmp, {.fragment = 100}) + Icmp(3) + Quote4(kEsp, Esp(1)), kPassed},
      {"unreachable quoting ESP, to another host",
       kTo4 + V4(kPeer, "192.0.2.9", kIcmp) + Icmp(3) + Quote4(kEsp, Esp(1)), kNotForUs},
      {"unreachable quoting a later UDP fragment",
       kTo4 + V4(kPeer, kGate, kIcmp) + Icmp(3) + Quote4(kUdp, Udp(4500, 4500), 100), kPassed},
      {"packet too big quoting our ESP over IPv6",
       kTo6 + V6(kPeer6, kGate6, kIcmp6) + Icmp(2) + V6(kGate6, kPeer6, kEsp) + Esp(1),
       kRedirected},
      {"packet too big quoting the gate's own TCP over IPv6",
       kTo6 + V6(kPeer6, kGate6, kIcmp6) + Icmp(2) + V6(kGate6, kPeer6, kTcp) + Tcp(1, 2), kPassed},
      // cleartext to and from the protected prefixes
      {"cleartext to a server", kTo4 + V4(kPeer, kServer, kTcp) + Tcp(1, 80), kRedirected},
      {"cleartext to the prefix next door", kTo4 + V4(kPeer, "10.2.1.10", kTcp) + Tcp(1, 80),
       kNotForUs},
      {"a server's address as the source", kTo4 + V4(kServer, kGate, kTcp) + Tcp(80, 1),
       kRedirected},
      {"a peer's address as the source", kTo4 + V4(kPeer, kGate, kTcp) + Tcp(80, 1), kPassed},
      {"cleartext to a server over IPv6", kTo6 + V6(kPeer6, kServer6, kTcp) + Tcp(1, 80),
       kRedirected},
      {"cleartext to the IPv6 prefix next door",
       kTo6 + V6(kPeer6, "2001:db8:3::10", kTcp) + Tcp(1, 80), kNotForUs},
      {"a server's IPv6 address as the source", kTo6 + V6(kServer6, kGate6, kTcp) + Tcp(1, 80),
       kRedirected},
      {"fragment to a server", kTo4 + V4(kPeer, kServer, kUdp, {.fragment = 100}) + Bytes(40, 0),
       kRedirected},
      // the host's own
      {"ssh to the gate", kTo4 + V4(kPeer, kGate, kTcp) + Tcp(1, 22), kPassed},
      {"ssh to another host", kTo4 + V4(kPeer, "192.0.2.9", kTcp) + Tcp(1, 22), kNotForUs},
      {"ssh to the gate over IPv6", kTo6 + V6(kPeer6, kGate6, kTcp) + Tcp(1, 22), kPassed},
      {"ping to the gate", kTo4 + V4(kPeer, kGate, kIcmp) + Icmp(8), kPassed},
      {"source route through the gate to a server",
       kTo4 + V4(kPeer, kGate, kTcp, {.options = lsrr}) + Tcp(1, 80), kNotForUs},
      {"routing header through the gate to a server",
       kTo6 + V6(kPeer6, kGate6, 43) + Extension(kTcp, 2, 4, 1) + Bytes(0, 0) + Tcp(1, 80),
       kNotForUs},
      {"routing header that ends at the gate",
       kTo6 + V6(kPeer6, kGate6, 43) + Extension(kTcp, 2, 4, 0) + Tcp(1, 80), kPassed},
      {"IPv4 broadcast",
       Ethernet(kIp4, kBroadcast) + V4(kPeer, "255.255.255.255", kUdp) + Udp(1, 67), kNotForUs},
      {"IPv4 multicast",
       Ethernet(kIp4, "01:00:5e:00:00:05") + V4(kPeer, "224.0.0.5", 89) + Bytes(40, 0), kNotForUs},
      // ARP and neighbour discovery
      {"ARP request", Ethernet(kArp, kBroadcast) + Bytes(28, 1), kPassed},
      {"ARP reply", Ethernet(kArp) + Bytes(28, 1), kPassed},
      {"neighbour solicitation to the solicited-node group",
       Ethernet(kIp6, kSolicited) + V6(kPeer6, "ff02::1:ff00:1", kIcmp6, 255) + Icmp(135), kPassed},
      {"neighbour solicitation from another link",
       Ethernet(kIp6, kSolicited) + V6(kPeer6, "ff02::1:ff00:1", kIcmp6, 254) + Icmp(135),
       kNotForUs},
      {"neighbour advertisement to a link-local address",
       kTo6 + V6("fe80::2", "fe80::77", kIcmp6, 255) + Icmp(136), kPassed},
      {"neighbour advertisement to the gate", kTo6 + V6(kPeer6, kGate6, kIcmp6, 255) + Icmp(136),
       kPassed},
      {"router advertisement",
       Ethernet(kIp6, "33:33:00:00:00:01") + V6("fe80::2", "ff02::1", kIcmp6, 255) + Icmp(134),
       kPassed},
      {"something dressed as a neighbour solicitation, to a server",
       kTo6 + V6(kPeer6, kServer6, kIcmp6, 255) + Icmp(135), kRedirected},
      {"something dressed as a neighbour solicitation, to another host",
       kTo6 + V6(kPeer6, "2001:db8::9", kIcmp6, 255) + Icmp(135), kNotForUs},
      {"something dressed as a neighbour solicitation, to a wider group",
       Ethernet(kIp6, kSolicited) + V6(kPeer6, "ff05::1:ff00:1", kIcmp6, 255) + Icmp(135),
       kNotForUs},
      {"fragmented neighbour solicitation (RFC 6980)",
       Ethernet(kIp6, kSolicited) + V6(kPeer6, "ff02::1:ff00:1", 44, 255) +
           FragmentHeader(kIcmp6, 1) + Icmp(135),
       kNotForUs},
      {"multicast listener query",
       Ethernet(kIp6, "33:33:00:00:00:01") + V6("fe80::2", "ff02::1", kIcmp6, 1) + Icmp(130),
       kNotForUs},
      {"echo request to all nodes, hop limit 255",
       Ethernet(kIp6, "33:33:00:00:00:01") + V6("fe80::2", "ff02::1", kIcmp6, 255) + Icmp(128),
       kNotForUs},
      // VLAN tags
      {"ESP in a VLAN", Ethernet(kVlan) + Vlan(kIp4) + V4(kPeer, kGate, kEsp) + Esp(1),
       kRedirected},
      {"cleartext to a server in a VLAN",
       Ethernet(kVlan) + Vlan(kIp4) + V4(kPeer, kServer, kTcp) + Tcp(1, 80), kRedirected},
      {"ESP in two VLANs",
       Ethernet(kQinQ) + Vlan(kVlan) + Vlan(kIp4) + V4(kPeer, kGate, kEsp) + Esp(1), kRedirected},
      {"ESP in three VLANs",
       Ethernet(kQinQ) + Vlan(kVlan) + Vlan(kVlan) + Vlan(kIp4) + V4(kPeer, kGate, kEsp) + Esp(1),
       kNotForUs},
      {"ssh to the gate in a VLAN",
       Ethernet(kVlan) + Vlan(kIp6) + V6(kPeer6, kGate6, kTcp) + Tcp(1, 22), kPassed},
      // what cannot be followed
      {"VLAN tag cut short", Ethernet(kVlan) + Bytes{0, 1}, kMalformed},
      {"IPv4 header cut short", kTo4 + Bytes(19, 0x45), kMalformed},
      {"IPv4 header length 4", kTo4 + Bytes{0x44} + Bytes(60, 0), kMalformed},
      {"IPv4 options beyond the frame", kTo4 + Bytes{0x4f} + Bytes(30, 0), kMalformed},
      {"IPv6 in an IPv4 frame", kTo4 + V6(kPeer6, kGate6, kTcp) + Tcp(1, 2), kMalformed},
      {"IPv6 header cut short", kTo6 + Bytes(39, 0x60), kMalformed},
      {"IPv6 extension beyond the frame",
       kTo6 + V6(kPeer6, kGate6, 60) + Bytes{kEsp, 40, 0, 0, 0, 0, 0, 0}, kMalformed},
      {"five IPv6 extensions before ESP",
       kTo6 + V6(kPeer6, kGate6, 60) + Extension(60) + Extension(60) + Extension(60) +
           Extension(60) + Extension(kEsp) + Esp(1),
       kRedirected},
      {"six IPv6 extensions before ESP",
       kTo6 + V6(kPeer6, kGate6, 60) + Extension(60) + Extension(60) + Extension(60) +
           Extension(60) + Extension(60) + Extension(kEsp) + Esp(1),
       kMalformed},
      {"LLDP", Ethernet(0x88cc, "01:80:c2:00:00:0e") + Bytes(40, 0), kNotForUs},
      {"MPLS", Ethernet(0x8847) + Bytes(40, 0), kNotForUs},
  };
}

std::vector<Case> InsideCases() {
  using enum Seen;
  return {
      {"a server's answer to a peer", kTo4 + V4(kServer, "10.1.0.2", kTcp) + Tcp(80, 1),
       kRedirected},
      {"the same over IPv6", kTo6 + V6(kServer6, "2001:db8:1::2", kTcp) + Tcp(80, 1), kRedirected},
      {"a later fragment", kTo4 + V4(kServer, "10.1.0.2", kUdp, {.fragment = 100}) + Bytes(40, 0),
       kRedirected},
      {"to the gate itself", kTo4 + V4(kServer, kGate, kTcp) + Tcp(1, 22), kPassed},
      {"ESP to the gate itself, which has none on this side",
       kTo4 + V4(kServer, kGate, kEsp) + Esp(1), kPassed},
      {"source route through the gate",
       kTo4 + V4(kServer, kGate, kTcp, {.options = {0x83, 7, 4, 10, 1, 0, 2, 0}}) + Tcp(1, 22),
       kNotForUs},
      {"ARP", Ethernet(kArp, kBroadcast) + Bytes(28, 1), kPassed},
      {"neighbour solicitation",
       Ethernet(kIp6, kSolicited) + V6(kServer6, "ff02::1:ff00:1", kIcmp6, 255) + Icmp(135),
       kPassed},
      {"multicast",
       Ethernet(kIp4, "01:00:5e:00:00:05") + V4(kServer, "224.0.0.5", 89) + Bytes(9, 0), kNotForUs},
      {"multicast to a unicast MAC address", kTo4 + V4(kServer, "224.0.0.5", 89) + Bytes(9, 0),
       kNotForUs},
      {"broadcast", Ethernet(kIp4, kBroadcast) + V4(kServer, "255.255.255.255", kUdp) + Udp(1, 67),
       kNotForUs},
      {"IPv6 multicast",
       Ethernet(kIp6, "33:33:00:00:00:fb") + V6("fe80::2", "ff02::fb", kUdp) + Udp(5353, 5353),
       kNotForUs},
      {"to the gate's link-local address", kTo6 + V6("fe80::2", "fe80::1", kTcp) + Tcp(1, 22),
       kPassed},
      {"to another link-local address", kTo6 + V6("fe80::2", "fe80::9", kTcp) + Tcp(1, 22),
       kNotForUs},
      {"IPv4 header cut short", kTo4 + Bytes(10, 0x45), kMalformed},
      {"LLDP", Ethernet(0x88cc, "01:80:c2:00:00:0e") + Bytes(40, 0), kNotForUs},
  };
}

class XdpVerdict : public PortTest {
 protected:
  void Check(const std::vector<Case>& cases, bool socket) {
    for (const Case& c : cases) {
      const Seen expected =
          c.expected == Seen::kRedirected && !socket ? Seen::kNoSocket : c.expected;
      const Seen seen = Run(c.packet);
      EXPECT_EQ(seen, expected) << c.description << ": expected " << Name(expected) << ", was "
                                << Name(seen);
    }
  }
};

TEST_F(XdpVerdict, OnTheUntrustedSide) {
  Attach(XdpRole::kUntrusted, true);
  Check(WireCases(), true);
}

TEST_F(XdpVerdict, OnTheUntrustedSideWithoutADataplane) {
  Attach(XdpRole::kUntrusted, false);
  Check(WireCases(), false);
}

TEST_F(XdpVerdict, OnTheTrustedSide) {
  Attach(XdpRole::kTrusted, true);
  Check(InsideCases(), true);
}

TEST_F(XdpVerdict, OnTheTrustedSideWithoutADataplane) {
  Attach(XdpRole::kTrusted, false);
  Check(InsideCases(), false);
}

TEST_F(XdpVerdict, OnTheLocalSide) {
  Attach(XdpRole::kLocal, true);
  Check(InsideCases(), true);
}

TEST_F(XdpVerdict, EmptyMapsPassNothingButArpAndNeighbourDiscovery) {
  Attach(XdpRole::kUntrusted, true);
  ASSERT_TRUE(port_->SetOwnAddresses({}));
  ASSERT_TRUE(port_->SetProtected({}));
  for (const Case& c : WireCases()) {
    const Seen seen = Run(c.packet);
    if (seen != Seen::kPassed) {
      EXPECT_TRUE(seen == Seen::kNotForUs || seen == Seen::kMalformed)
          << c.description << ": " << Name(seen);
      continue;
    }
    const uint16_t ethertype = static_cast<uint16_t>(c.packet[12] << 8 | c.packet[13]);
    const bool neighbour =
        ethertype == kIp6 && c.packet[21] == 255 && (c.packet[38] == 0xff || c.packet[38] == 0xfe);
    EXPECT_TRUE(ethertype == kArp || neighbour) << c.description << " was passed to the kernel";
  }
}

TEST_F(XdpVerdict, DyingDataplaneClosesThePortAndItsSuccessorOpensIt) {
  Attach(XdpRole::kUntrusted, true);
  const Bytes esp = kTo4 + V4(kPeer, kGate, kEsp) + Esp(0x1001);
  EXPECT_EQ(Run(esp), Seen::kRedirected);
  CloseSocket();
  EXPECT_EQ(Run(esp), Seen::kNoSocket);
  OpenSocket();
  EXPECT_EQ(Run(esp), Seen::kRedirected);
}

TEST_F(XdpVerdict, ThrottlesOneSpiFromOneSource) {
  using namespace std::chrono_literals;
  Attach(XdpRole::kUntrusted, true);
  const auto esp = [](const std::string& source, uint32_t spi) {
    return kTo4 + V4(source, kGate, kEsp) + Esp(spi);
  };
  ASSERT_TRUE(port_->Throttle(Spi{0x1001}, Address::Parse("192.0.2.66").value(), 1h));
  EXPECT_EQ(Run(esp("192.0.2.66", 0x1001)), Seen::kThrottled);
  EXPECT_EQ(Run(kTo4 + V4("192.0.2.66", kGate, kUdp) + Udp(4500, 4500) + Esp(0x1001)),
            Seen::kThrottled);
  // The peer whose SPI it is, and the attacker's other traffic, go on.
  EXPECT_EQ(Run(esp(kPeer, 0x1001)), Seen::kRedirected);
  EXPECT_EQ(Run(esp("192.0.2.66", 0x1002)), Seen::kRedirected);
  EXPECT_EQ(Run(kTo4 + V4("192.0.2.66", kGate, kTcp) + Tcp(1, 22)), Seen::kPassed);
  // Taken back.
  ASSERT_TRUE(port_->Throttle(Spi{0x1001}, Address::Parse("192.0.2.66").value(), 0s));
  EXPECT_EQ(Run(esp("192.0.2.66", 0x1001)), Seen::kRedirected);
  // And over IPv6.
  ASSERT_TRUE(port_->Throttle(Spi{0x1001}, Address::Parse(kPeer6).value(), 1h));
  EXPECT_EQ(Run(kTo6 + V6(kPeer6, kGate6, kEsp) + Esp(0x1001)), Seen::kThrottled);
  EXPECT_EQ(Run(kTo6 + V6("2001:db8::3", kGate6, kEsp) + Esp(0x1001)), Seen::kRedirected);
}

TEST_F(XdpVerdict, ThrottlingEndsByItself) {
  using namespace std::chrono_literals;
  Attach(XdpRole::kUntrusted, true);
  const Bytes esp = kTo4 + V4(kPeer, kGate, kEsp) + Esp(0x1001);
  ASSERT_TRUE(port_->Throttle(Spi{0x1001}, Address::Parse(kPeer).value(), 200ms));
  EXPECT_EQ(Run(esp), Seen::kThrottled);
  std::this_thread::sleep_for(250ms);
  EXPECT_EQ(Run(esp), Seen::kRedirected);
}

TEST_F(XdpVerdict, NonEspMarkerIsNotAnSpi) {
  using namespace std::chrono_literals;
  Attach(XdpRole::kUntrusted, true);
  ASSERT_TRUE(port_->Throttle(Spi{0}, Address::Parse(kPeer).value(), 1h));
  EXPECT_EQ(Run(kTo4 + V4(kPeer, kGate, kUdp) + Udp(4500, 4500) + Esp(0)), Seen::kRedirected);
}

}  // namespace
}  // namespace portcullis
