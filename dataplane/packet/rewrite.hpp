// Changes to an IP header on the way: TTL, traffic class, checksum; and the TCP MSS option.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/packet/verdict.hpp"

namespace portcullis {

/// `ip` is an IPv4 or IPv6 header that was read before.
void SetTrafficClass(uint8_t* ip, uint8_t traffic_class) noexcept;
/// False when the TTL or hop limit is used up; then nothing was changed.
bool DecrementTtl(uint8_t* ip) noexcept;
bool Ipv4ChecksumValid(const uint8_t* ip) noexcept;
void SetIpv4Checksum(uint8_t* ip) noexcept;

/// The inner traffic class after decapsulation (RFC 6040 4.2, normal mode): false when the outer
/// header says "congestion experienced" and the inner one cannot carry it.
bool CombineEcn(uint8_t outer, uint8_t& inner) noexcept;
/// The outer traffic class on encapsulation (RFC 6040 4.1): ECN always, DSCP if wished.
uint8_t EncapsulateTrafficClass(uint8_t inner, bool copy_dscp) noexcept;

/// In a TCP SYN lowers the MSS option to `mss`; leaves every other packet alone. `packet` is the
/// whole IP packet, `header_length` of the IP header.
void ClampMss(std::span<uint8_t> packet, uint16_t header_length, uint16_t mss) noexcept;

}  // namespace portcullis
