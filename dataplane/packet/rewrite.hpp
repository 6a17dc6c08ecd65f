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
/// Of an IPv4 header; options included.
bool AnyIpv4ChecksumValid(const uint8_t* ip) noexcept;
inline bool Ipv4ChecksumValid(const uint8_t* ip) noexcept {
  // Nearly every header has no options.
  if (ip[0] != RTE_IPV4_VHL_DEF) return AnyIpv4ChecksumValid(ip);
  uint64_t words[2];
  uint32_t last = 0;
  std::memcpy(words, ip, sizeof(words));
  std::memcpy(&last, ip + sizeof(words), sizeof(last));
  // The sum may be taken in words of any size (RFC 1071 2); it is all ones, which is zero in ones'
  // complement, when 65535 divides it. It is not 0: the version is not.
  const uint64_t sum = (words[0] & UINT32_MAX) + (words[0] >> 32U) + (words[1] & UINT32_MAX) +
                       (words[1] >> 32U) + last;
  return sum % 0xffff == 0;
}
void SetIpv4Checksum(uint8_t* ip) noexcept;

/// The inner traffic class after decapsulation (RFC 6040 4.2, normal mode): false when the outer
/// header says "congestion experienced" and the inner one cannot carry it.
bool CombineEcn(uint8_t outer, uint8_t& inner) noexcept;
/// The outer traffic class on encapsulation (RFC 6040 4.1): ECN always, DSCP if wished.
uint8_t EncapsulateTrafficClass(uint8_t inner, bool copy_dscp) noexcept;

/// In a TCP SYN lowers the MSS option to `mss`; leaves every other packet alone. `packet` is the
/// whole IP packet, `header_length` of the IP header.
void ClampMss(std::span<uint8_t> packet, uint16_t header_length, uint16_t mss) noexcept;
/// The same for a packet that was read, on a path that takes `mtu` bytes of IP packet.
inline void ClampMss(std::span<uint8_t> packet, const Flow& flow, uint16_t mtu) noexcept {
  if (flow.protocol != IPPROTO_TCP || !flow.has_ports || flow.icmp_error) return;
  const size_t headers = flow.header_length + 20U;  // a TCP header without options
  ClampMss(packet, flow.header_length, static_cast<uint16_t>(mtu - std::min<size_t>(headers, mtu)));
}

}  // namespace portcullis
