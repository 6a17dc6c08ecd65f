#include "bench/xdp/floods.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace portcullis::bench {
namespace {

using Random = std::mt19937_64;
constexpr uint8_t kTcp = 6, kUdp = 17, kEsp = 50;
constexpr uint16_t kSessions = 443;
constexpr uint8_t kSyn = 0x02, kAck = 0x10;

uint32_t V4(const char* text) {
  in_addr address{};
  inet_pton(AF_INET, text, &address);
  return address.s_addr;
}

/// Somewhere, but nowhere near a prefix that is named or an address of ours.
uint32_t AnySource(Random& random) {
  return htonl(0x80000000U | (static_cast<uint32_t>(random()) & 0x3fffffffU));
}
uint32_t InPrefix(const Prefix& prefix, Random& random) {
  uint32_t address = 0;
  std::memcpy(&address, prefix.address().wire().data(), sizeof(address));
  return address | htonl(static_cast<uint32_t>(random()) & (UINT32_MAX >> prefix.WrittenLength()));
}
uint32_t NamedSource(const Tables& tables, bool admitted, Random& random) {
  for (;;) {
    const SourceRule& rule = tables.sources[random() % tables.sources.size()];
    if (rule.admit == admitted) return InPrefix(rule.prefix, random);
  }
}
uint32_t KnownSpi(const Tables& tables, Random& random) {
  return htonl(Value(tables.spis[random() % tables.spis.size()]));
}
// The tables' SPIs begin with a 0 bit.
uint32_t AnySpi(Random& random) {
  return htonl(0x80000000U | static_cast<uint32_t>(random()));
}

uint8_t* Ethernet(replay_frame& frame, uint16_t type) {
  frame = {.length = REPLAY_FRAME_BYTES};
  auto* eth = reinterpret_cast<ethhdr*>(frame.bytes);
  std::memset(eth, 2, 2 * ETH_ALEN);
  eth->h_proto = htons(type);
  return frame.bytes + sizeof(*eth);
}

void Checksum(iphdr& ip) {
  uint16_t words[10];
  std::memcpy(words, &ip, sizeof(words));
  uint32_t sum = 0;
  for (const uint16_t word : words) sum += word;
  while (sum > UINT16_MAX) sum = (sum & UINT16_MAX) + (sum >> 16U);
  ip.check = static_cast<uint16_t>(~sum);
}

uint8_t* Ip(replay_frame& frame, uint32_t from, uint32_t to, uint8_t protocol,
            uint16_t fragment = 0) {
  uint8_t* at = Ethernet(frame, ETH_P_IP);
  auto* ip = reinterpret_cast<iphdr*>(at);
  ip->version = 4;
  ip->ihl = 5;
  ip->tot_len = htons(128);
  ip->frag_off = htons(fragment);
  ip->ttl = 64;
  ip->protocol = protocol;
  ip->saddr = from;
  ip->daddr = to;
  Checksum(*ip);
  return at + sizeof(*ip);
}

const uint32_t kGate = V4("192.0.2.1");

void Esp(replay_frame& frame, uint32_t from, uint32_t spi) {
  std::memcpy(Ip(frame, from, kGate, kEsp), &spi, sizeof(spi));
}

void Tcp(replay_frame& frame, uint32_t from, uint32_t to, uint16_t port, uint8_t flags) {
  uint8_t* tcp = Ip(frame, from, to, kTcp);
  const uint16_t wire = htons(port);
  std::memcpy(tcp + 2, &wire, sizeof(wire));
  tcp[12] = 0x50;
  tcp[13] = flags;
}

void Esp6(replay_frame& frame, uint32_t spi, Random& random) {
  uint8_t* at = Ethernet(frame, ETH_P_IPV6);
  auto* ip = reinterpret_cast<ipv6hdr*>(at);
  ip->version = 6;
  ip->payload_len = htons(100);
  ip->nexthdr = kEsp;
  ip->hop_limit = 64;
  const uint64_t source[2] = {random() | 0x20, random()};
  std::memcpy(&ip->saddr, source, sizeof(source));
  inet_pton(AF_INET6, "2001:db8::1", &ip->daddr);
  std::memcpy(at + sizeof(*ip), &spi, sizeof(spi));
}

FirstLine Strangers(bool admitted) {
  FirstLine line;
  line.admit_strangers = admitted;
  return line;
}
FirstLine Limited(SourceLimit FirstLine::*limit) {
  FirstLine line;
  line.*limit = {.per_second = 1, .burst = 1};
  line.sessions = {{kTcp, kSessions, kSessions}};
  return line;
}
FirstLine Host() {
  FirstLine line;
  line.whole_host = false;
  line.sessions = {{kTcp, kSessions, kSessions}};
  return line;
}

}  // namespace

Tables Tables::Of(size_t sources, size_t spis, Random& random) {
  Tables tables;
  std::set<uint32_t> nets;
  while (nets.size() < sources) nets.insert((random() % (90U << 16U)) + (10U << 16U));
  std::vector<uint32_t> order(nets.begin(), nets.end());
  std::ranges::shuffle(order, random);
  for (const uint32_t net : order) {
    const uint32_t wire = htonl(net << 8U);
    tables.sources.push_back({Prefix(Address::V4(&wire), 96 + 24), tables.sources.size() % 2 == 0});
  }
  // Slot index and random tag, as control makes them.
  for (size_t i = 1; i <= spis; ++i) {
    tables.spis.push_back(Spi{static_cast<uint32_t>((random() % 0x3fff + 1) << 17U | i)});
  }
  return tables;
}

std::vector<Flood> Floods(bool large) {
  using T = const Tables&;
  using F = replay_frame&;
  using R = Random&;
  std::vector<Flood> floods = {
      {"random sources, which are denied", Verdict::source_denied, true, Strangers(false), false,
       [](F f, T t, R r) { Esp(f, AnySource(r), KnownSpi(t, r)); }},
      {"random SPIs and sources", Verdict::unknown_spi, true, Strangers(true), false,
       [](F f, T, R r) { Esp(f, AnySource(r), AnySpi(r)); }},
      {"sources denied by name", Verdict::source_denied, false, Strangers(true), false,
       [](F f, T t, R r) { Esp(f, NamedSource(t, false, r), KnownSpi(t, r)); }},
      {"known SPIs from sources admitted by name", Verdict::accepted, false, Strangers(false), true,
       [](F f, T t, R r) { Esp(f, NamedSource(t, true, r), KnownSpi(t, r)); }},
  };
  if (large) {  // figures beside the others
    for (Flood& flood : floods) flood.aim = false;
    return floods;
  }
  const std::vector<Flood> more = {
      {"random IPv6 sources, which are denied", Verdict::source_denied, true, Strangers(false),
       false, [](F f, T t, R r) { Esp6(f, KnownSpi(t, r), r); }},
      {"random SPIs and IPv6 sources", Verdict::unknown_spi, true, Strangers(true), false,
       [](F f, T, R r) { Esp6(f, AnySpi(r), r); }},
      {"no dataplane", Verdict::no_socket, false, Strangers(true), false,
       [](F f, T t, R r) { Esp(f, AnySource(r), KnownSpi(t, r)); }},
      {"wrong checksum", Verdict::malformed, false, Strangers(true), false,
       [](F f, T t, R r) {
         Esp(f, AnySource(r), KnownSpi(t, r));
         f.bytes[sizeof(ethhdr) + 4] ^= 1;
       }},
      {"fragments of UDP", Verdict::fragment, false, Strangers(true), false,
       [](F f, T, R r) { Ip(f, AnySource(r), kGate, kUdp, 100); }},
      {"to another host", Verdict::not_for_us, false, Strangers(true), false,
       [](F f, T, R r) { Tcp(f, AnySource(r), V4("192.0.2.9"), 80, kSyn); }},
      {"cleartext to a server", Verdict::cleartext_denied, false, Strangers(true), false,
       [](F f, T, R r) { Tcp(f, AnySource(r), V4("10.2.0.10"), 80, kSyn); }},
      {"eight sources above their limit", Verdict::source_limited, false,
       Limited(&FirstLine::packets), false,
       [](F f, T t, R r) { Esp(f, V4("192.0.2.8") + htonl(r() % 8), KnownSpi(t, r)); }},
      {"SYNs of eight sources above their limit", Verdict::handshake_limited, false,
       Limited(&FirstLine::handshakes), false,
       [](F f, T, R r) { Tcp(f, V4("192.0.2.8") + htonl(r() % 8), kGate, kSessions, kSyn); }},
      {"SYNs of random sources, strangers above their limit", Verdict::handshake_limited, false,
       Limited(&FirstLine::strangers), false,
       [](F f, T, R r) { Tcp(f, AnySource(r), kGate, kSessions, kSyn); }},
      {"the same, each with a limit of its own", Verdict::handshake_limited, false,
       [] {
         FirstLine line = Limited(&FirstLine::strangers);
         line.handshakes = line.strangers;
         return line;
       }(),
       false, [](F f, T, R r) { Tcp(f, AnySource(r), kGate, kSessions, kSyn); }},
      {"to a closed port of the host", Verdict::host_denied, false, Host(), false,
       [](F f, T, R r) { Tcp(f, AnySource(r), kGate, 23, kSyn); }},
      {"to an open port of the host", Verdict::exception, false, Host(), false,
       [](F f, T, R r) { Tcp(f, AnySource(r), kGate, kSessions, kAck); }},
      {"numbers left of the window", Verdict::stale, false, Strangers(true), false,
       [](F f, T t, R r) { Esp(f, AnySource(r), KnownSpi(t, r)); }},
      {"a suspect SPI, from other sources than its peer", Verdict::auth_throttled, false,
       Strangers(true), false,
       [](F f, T t, R r) { Esp(f, AnySource(r), htonl(Value(t.spis[0]))); }},
  };
  floods.insert(floods.end(), more.begin(), more.end());
  return floods;
}

std::vector<Address> OwnAddresses() {
  return {*Address::Parse("192.0.2.1"), *Address::Parse("2001:db8::1")};
}

std::vector<Prefix> ProtectedNets() {
  std::vector<Prefix> nets = {*Prefix::Parse("2001:db8:2::/64")};
  for (int i = 0; i < 9; ++i) nets.push_back(*Prefix::Parse(fmt::format("10.2.{}.0/24", i)));
  return nets;
}

}  // namespace portcullis::bench
