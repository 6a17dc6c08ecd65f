// Changes to an IP header on the way: TTL, traffic class, checksum; and the TCP MSS option.
#pragma once

#include <rte_ip.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "dataplane/packet/flow.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis {

inline constexpr uint8_t kEcnMask = 0x03;  // of the traffic class (RFC 3168 5)

/// `ip` is an IPv4 or IPv6 header that was read before.
void SetTrafficClass(uint8_t* ip, uint8_t traffic_class) noexcept;
/// False when the TTL or hop limit is used up; then nothing was changed.
inline bool DecrementTtl(uint8_t* ip) noexcept {
  if (ip[0] >> 4U != 4) {
    auto* v6 = reinterpret_cast<rte_ipv6_hdr*>(ip);
    if (v6->hop_limits <= 1) return false;
    --v6->hop_limits;
    return true;
  }
  auto* v4 = reinterpret_cast<rte_ipv4_hdr*>(ip);
  if (v4->time_to_live <= 1) return false;
  --v4->time_to_live;
  // RFC 1624: the first byte of a word of the sum became less by one, so the checksum grows by as
  // much, with the carry that ones' complement wants.
  const uint32_t sum = uint32_t{v4->hdr_checksum} + RTE_BE16(0x0100);
  v4->hdr_checksum = static_cast<uint16_t>(sum + (sum >= 0xffff ? 1 : 0));
  return true;
}
void SetIpv4Checksum(uint8_t* ip) noexcept;

/// The inner traffic class after decapsulation (RFC 6040 4.2, normal mode): false when the outer
/// header says "congestion experienced" and the inner one cannot carry it.
inline bool CombineEcn(uint8_t outer, uint8_t& inner) noexcept;
/// The outer traffic class on encapsulation (RFC 6040 4.1): ECN always, DSCP if wished.
inline uint8_t EncapsulateTrafficClass(uint8_t inner, bool copy_dscp) noexcept {
  return copy_dscp ? inner : static_cast<uint8_t>(inner & kEcnMask);
}

/// In a TCP SYN lowers the MSS option to `mss`; leaves every other packet alone. `packet` is the
/// whole IP packet, `header_length` of the IP header.
void ClampMss(std::span<uint8_t> packet, uint16_t header_length, uint16_t mss) noexcept;
/// The same for a packet that was read, on a path that takes `mtu` bytes of IP packet.
inline void ClampMss(std::span<uint8_t> packet, const Flow& flow, uint16_t mtu) noexcept {
  if (flow.protocol != IPPROTO_TCP || !flow.has_ports || flow.icmp_error) return;
  const size_t headers = flow.header_length + 20U;  // a TCP header without options
  ClampMss(packet, flow.header_length, static_cast<uint16_t>(mtu - std::min<size_t>(headers, mtu)));
}

bool CombineEcn(uint8_t outer, uint8_t& inner) noexcept {
  constexpr uint8_t kNotEct = 0;
  constexpr uint8_t kEct1 = 1;
  constexpr uint8_t kEct0 = 2;
  constexpr uint8_t kCe = 3;
  const uint8_t from = outer & kEcnMask;
  const uint8_t to = inner & kEcnMask;
  if (from == kCe) {
    if (to == kNotEct) return false;
    inner = static_cast<uint8_t>(inner | kCe);
  } else if (from == kEct1 && to == kEct0) {
    inner = static_cast<uint8_t>((inner & ~kEcnMask) | kEct1);
  }
  return true;
}

}  // namespace portcullis
