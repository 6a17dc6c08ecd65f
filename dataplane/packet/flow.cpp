#include "dataplane/packet/flow.hpp"

#include <netinet/in.h>
#include <rte_byteorder.h>
#include <rte_ip.h>

#include <algorithm>
#include <utility>

namespace portcullis {
namespace {

constexpr size_t kIcmpHeader = 8;

// Addresses, lengths and protocol. A quoted packet (in an ICMP error) is cut off: its stated length
// may exceed what is there.
Verdict ReadIpv4(std::span<const uint8_t> bytes, bool quoted, Flow& flow) noexcept {
  if (bytes.size() < sizeof(rte_ipv4_hdr)) return Verdict::malformed;
  const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(bytes.data());
  const size_t header = rte_ipv4_hdr_len(ip);
  flow.length = rte_be_to_cpu_16(ip->total_length);
  if (header < sizeof(*ip) || header > bytes.size() || flow.length < header) {
    return Verdict::malformed;
  }
  if (!quoted && (flow.length > bytes.size() || !Ipv4ChecksumValid(bytes.data()))) {
    return Verdict::malformed;
  }
  const uint16_t fragment = rte_be_to_cpu_16(ip->fragment_offset);
  flow.header_length = static_cast<uint16_t>(header);
  flow.source = Address::V4(&ip->src_addr);
  flow.destination = Address::V4(&ip->dst_addr);
  flow.protocol = ip->next_proto_id;
  flow.is_v4 = true;
  flow.traffic_class = ip->type_of_service;
  flow.ttl = ip->time_to_live;
  flow.fragment = (fragment & (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0;
  flow.dont_fragment = (fragment & RTE_IPV4_HDR_DF_FLAG) != 0;
  return Verdict::accepted;
}

Verdict ReadIpv6(std::span<const uint8_t> bytes, bool quoted, Flow& flow) noexcept {
  Ipv6Chain chain;
  if (!WalkIpv6(bytes, chain)) return Verdict::malformed;
  const auto* ip = reinterpret_cast<const rte_ipv6_hdr*>(bytes.data());
  const size_t length = sizeof(*ip) + rte_be_to_cpu_16(ip->payload_len);
  if (length < chain.header_length || length > UINT16_MAX) return Verdict::malformed;
  if (!quoted && length > bytes.size()) return Verdict::malformed;
  const uint32_t first_word = rte_be_to_cpu_32(ip->vtc_flow);
  flow.length = static_cast<uint16_t>(length);
  flow.header_length = chain.header_length;
  flow.source = Address::V6(ip->src_addr);
  flow.destination = Address::V6(ip->dst_addr);
  // ::ffff:a.b.c.d is how we keep IPv4; on the wire it is nobody's (RFC 4038 4.2).
  if (flow.source.IsV4() || flow.destination.IsV4()) return Verdict::malformed;
  flow.protocol = chain.protocol;
  flow.is_v4 = false;
  flow.traffic_class = static_cast<uint8_t>(first_word >> 20U);
  flow.ttl = ip->hop_limits;
  flow.fragment = chain.fragment;
  flow.dont_fragment = true;  // routers never fragment IPv6
  return Verdict::accepted;
}

Verdict ReadIp(std::span<const uint8_t> bytes, bool quoted, Flow& flow) noexcept {
  if (bytes.empty()) return Verdict::malformed;
  switch (bytes[0] >> 4U) {
    case 4:
      return ReadIpv4(bytes, quoted, flow);
    case 6:
      return ReadIpv6(bytes, quoted, flow);
    default:
      return Verdict::malformed;
  }
}

void ReadPorts(std::span<const uint8_t> transport, Flow& flow) noexcept {
  flow.has_ports = !flow.fragment && HasPorts(flow.protocol) && transport.size() >= 4;
  if (!flow.has_ports) return;
  flow.source_port = static_cast<uint16_t>(transport[0] << 8U | transport[1]);
  flow.destination_port = static_cast<uint16_t>(transport[2] << 8U | transport[3]);
}

}  // namespace

bool WalkIpv6(std::span<const uint8_t> packet, Ipv6Chain& chain) noexcept {
  if (packet.size() < sizeof(rte_ipv6_hdr)) return false;
  uint8_t next = reinterpret_cast<const rte_ipv6_hdr*>(packet.data())->proto;
  size_t at = sizeof(rte_ipv6_hdr);
  constexpr int kMostHeaders = 8;
  constexpr uint8_t kFragmentBits = 0xf9;  // the offset's last five, and "more"
  for (int i = 0; i < kMostHeaders; ++i) {
    switch (next) {
      case IPPROTO_HOPOPTS:
      case IPPROTO_DSTOPTS:
        if (at + 8 > packet.size()) return false;
        next = packet[at];
        at += 8 * (size_t{packet[at + 1]} + 1);
        break;
      case IPPROTO_FRAGMENT:
        if (at + 8 > packet.size()) return false;
        // What follows may belong to another packet's middle: it is not read.
        if ((packet[at + 2] | (packet[at + 3] & kFragmentBits)) != 0) {
          chain = {packet[at], static_cast<uint16_t>(at + 8), true};
          return true;
        }
        next = packet[at];  // an atomic fragment is whole (RFC 6946)
        at += 8;
        break;
      case IPPROTO_ROUTING:
        if (at + 8 > packet.size() || packet[at + 3] != 0) return false;
        next = packet[at];  // it has arrived (RFC 8200 4.4)
        at += 8 * (size_t{packet[at + 1]} + 1);
        break;
      default:
        if (at > packet.size()) return false;
        chain = {next, static_cast<uint16_t>(at), chain.fragment};
        return true;
    }
  }
  return false;
}

bool IsIcmpError(bool v4, uint8_t protocol, uint8_t type) noexcept {
  if (v4) {
    return protocol == IPPROTO_ICMP &&
           (type == 3 || type == 4 || type == 5 || type == 11 || type == 12);
  }
  return protocol == IPPROTO_ICMPV6 && type < 128;
}

Verdict ReadAnyFlow(std::span<const uint8_t> bytes, Flow& flow) noexcept {
  flow = {};
  const Verdict verdict = ReadIp(bytes, false, flow);
  if (verdict != Verdict::accepted) return verdict;
  const auto transport = bytes.subspan(flow.header_length, flow.length - flow.header_length);
  const bool icmp_error =
      !flow.fragment && !transport.empty() && IsIcmpError(flow.is_v4, flow.protocol, transport[0]);
  if (!icmp_error) {
    // A transport header that is cut off has no ports to match; TCP and UDP always have theirs.
    if (!flow.fragment && HasPorts(flow.protocol) && transport.size() < 4) {
      return Verdict::malformed;
    }
    ReadPorts(transport, flow);
    return Verdict::accepted;
  }
  if (transport.size() <= kIcmpHeader) return Verdict::malformed;
  Flow quoted;
  const auto quote = transport.subspan(kIcmpHeader);
  if (ReadIp(quote, true, quoted) != Verdict::accepted || quoted.is_v4 != flow.is_v4) {
    return Verdict::malformed;
  }
  ReadPorts(quote.subspan(std::min<size_t>(quoted.header_length, quote.size())), quoted);
  // An error is told to the sender of what it quotes and to nobody else.
  if (quoted.source != flow.destination) return Verdict::malformed;
  flow.icmp_error = true;
  flow.source = quoted.destination;
  flow.protocol = quoted.protocol;
  flow.has_ports = quoted.has_ports;
  flow.source_port = quoted.destination_port;
  flow.destination_port = quoted.source_port;
  return Verdict::accepted;
}

}  // namespace portcullis
