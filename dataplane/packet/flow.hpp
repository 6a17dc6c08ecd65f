// What a packet says it is: addresses, protocol, ports. Read from any IP packet: the inner one of
// an ESP packet, one from the trusted side, or cleartext on the wire.
#pragma once

#include <netinet/in.h>
#include <rte_ip.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ip.hpp"
#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/ipv4.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis {

struct Flow {
  Address source;
  Address destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  bool has_ports = false;   // false: no ports, or a fragment: they are never read from one
  bool fragment = false;    // first, middle or last
  bool icmp_error = false;  // then all but lengths, traffic class and TTL is the quoted packet's
  bool is_v4 = false;
  uint8_t protocol = 0;
  bool dont_fragment = false;
  uint8_t traffic_class = 0;   // DSCP and ECN
  uint8_t ttl = 0;             // or hop limit
  uint16_t header_length = 0;  // IP header with options or extension headers, bytes
  uint16_t length = 0;         // the whole packet as its header states it, bytes
};

/// Reads the IP packet at the start of `bytes`, which may be longer (padding).
/// Returns accepted, or malformed when a field contradicts another, the space or an IPv4 header's
/// checksum (RFC 1812 5.2.2). For an ICMP error the addresses and ports are those of the packet
/// that it quotes, reversed (RFC 4301 6.2): it belongs to the flow that it is about.
inline Verdict ReadFlow(std::span<const uint8_t> bytes, Flow& flow) noexcept;
Verdict ReadAnyFlow(std::span<const uint8_t> bytes, Flow& flow) noexcept;

/// TCP, UDP, SCTP.
inline bool HasPorts(uint8_t protocol) noexcept {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/// The same for nearly every packet: IPv4 without options, whole, with ports. False: anything else,
/// also what is wrong.
inline bool ReadPlainFlow(std::span<const uint8_t> bytes, Flow& flow) noexcept {
  constexpr size_t kPorts = 4;
  constexpr size_t kLeast = sizeof(rte_ipv4_hdr) + kPorts;
  if (bytes.size() < kLeast) return false;
  const PlainIpv4 ip(bytes.data());
  const uint16_t length = ip.length();
  if (!ip.IsPlain() || !HasPorts(ip.protocol()) || length < kLeast || length > bytes.size() ||
      !ip.ChecksumValid()) {
    return false;
  }
  const auto* ports = reinterpret_cast<const be16*>(bytes.data() + sizeof(rte_ipv4_hdr));
  flow.source = ip.source();
  flow.destination = ip.destination();
  flow.source_port = ports[0].host();
  flow.destination_port = ports[1].host();
  flow.has_ports = true;
  flow.fragment = false;
  flow.icmp_error = false;
  flow.is_v4 = true;
  flow.protocol = ip.protocol();
  flow.dont_fragment = ip.dont_fragment();
  flow.traffic_class = ip.traffic_class();
  flow.ttl = ip.ttl();
  flow.header_length = sizeof(rte_ipv4_hdr);
  flow.length = length;
  return true;
}

Verdict ReadFlow(std::span<const uint8_t> bytes, Flow& flow) noexcept {
  return ReadPlainFlow(bytes, flow) ? Verdict::accepted : ReadAnyFlow(bytes, flow);
}

/// The addresses of an IPv4 or IPv6 header that was read before.
inline Address SourceAt(const uint8_t* ip) noexcept {
  return ip[0] >> 4U == 4 ? Address::V4(ip + offsetof(rte_ipv4_hdr, src_addr))
                          : Address::V6(ip + offsetof(rte_ipv6_hdr, src_addr));
}
inline Address DestinationAt(const uint8_t* ip) noexcept {
  return ip[0] >> 4U == 4 ? Address::V4(ip + offsetof(rte_ipv4_hdr, dst_addr))
                          : Address::V6(ip + offsetof(rte_ipv6_hdr, dst_addr));
}

/// The transport protocol of an IPv6 packet behind its extension headers.
struct Ipv6Chain {
  uint8_t protocol = 0;
  uint16_t header_length = 0;  // fixed header and extension headers, bytes
  bool fragment = false;
};
/// False when the chain is cut off, too long (8 extension headers or more) or leads on to somewhere
/// else (RFC 5095).
bool WalkIpv6(std::span<const uint8_t> packet, Ipv6Chain& chain) noexcept;

/// True for the ICMP types that quote a packet (RFC 792; RFC 4443 2.1).
bool IsIcmpError(bool v4, uint8_t protocol, uint8_t type) noexcept;

}  // namespace portcullis
