// An IPv4 header without options of a whole packet, as nearly all are: three loads, and everything
// else is read from registers. Valid or not is for the caller to ask; the 20 bytes must be there.
#pragma once

#include <rte_byteorder.h>
#include <rte_ip.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "base/ip.hpp"

namespace portcullis {

class PlainIpv4 {
 public:
  explicit PlainIpv4(const uint8_t* ip) noexcept {
    std::memcpy(&first_, ip, sizeof(first_));
    std::memcpy(&second_, ip + sizeof(first_), sizeof(second_));
    std::memcpy(&destination_, ip + sizeof(first_) + sizeof(second_), sizeof(destination_));
  }
  /// Version 4, no options, no fragment: otherwise nothing below means anything.
  [[nodiscard]] bool IsPlain() const {
    constexpr uint64_t kMask =
        uint64_t{RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)} << 48U | UINT8_MAX;
    return (first_ & kMask) == RTE_IPV4_VHL_DEF;
  }
  [[nodiscard]] uint8_t traffic_class() const { return static_cast<uint8_t>(first_ >> 8U); }
  /// The whole packet as the header states it, bytes.
  [[nodiscard]] uint16_t length() const {
    return rte_be_to_cpu_16(static_cast<uint16_t>(first_ >> 16U));
  }
  [[nodiscard]] bool dont_fragment() const {
    return (first_ >> 48U & RTE_BE16(RTE_IPV4_HDR_DF_FLAG)) != 0;
  }
  [[nodiscard]] uint8_t ttl() const { return static_cast<uint8_t>(second_); }
  [[nodiscard]] uint8_t protocol() const { return static_cast<uint8_t>(second_ >> 8U); }
  [[nodiscard]] Address source() const {
    const auto source = static_cast<uint32_t>(second_ >> 32U);
    return Address::V4(&source);
  }
  [[nodiscard]] Address destination() const { return Address::V4(&destination_); }
  [[nodiscard]] bool ChecksumValid() const {
    // The sum may be taken in words of any size (RFC 1071 2); it is all ones, which is zero in
    // ones' complement, when 65535 divides it. It is not 0: the version is not.
    const uint64_t sum = (first_ & UINT32_MAX) + (first_ >> 32U) + (second_ & UINT32_MAX) +
                         (second_ >> 32U) + destination_;
    return sum % 0xffff == 0;
  }

 private:
  static_assert(std::endian::native == std::endian::little);
  uint64_t first_ = 0;
  uint64_t second_ = 0;
  uint32_t destination_ = 0;
};

/// Of any IPv4 header, options included.
inline bool Ipv4ChecksumValid(const uint8_t* ip) noexcept {
  const auto* v4 = reinterpret_cast<const rte_ipv4_hdr*>(ip);
  return rte_raw_cksum(v4, rte_ipv4_hdr_len(v4)) == 0xffff;
}

}  // namespace portcullis
