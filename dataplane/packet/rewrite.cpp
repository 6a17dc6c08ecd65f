#include "dataplane/packet/rewrite.hpp"

#include <netinet/in.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#include <algorithm>
#include <cstring>

namespace portcullis {
namespace {

bool IsV4(const uint8_t* ip) noexcept {
  return ip[0] >> 4U == 4;
}

// RFC 1624: the checksum after one 16-bit word changed.
rte_be16_t UpdatedChecksum(rte_be16_t checksum, rte_be16_t before, rte_be16_t after) noexcept {
  uint32_t sum = static_cast<uint16_t>(~checksum) + static_cast<uint16_t>(~before) + after;
  sum = (sum & 0xffffU) + (sum >> 16U);
  sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<uint16_t>(~sum);
}

}  // namespace

void SetIpv4Checksum(uint8_t* ip) noexcept {
  auto* v4 = reinterpret_cast<rte_ipv4_hdr*>(ip);
  v4->hdr_checksum = 0;
  v4->hdr_checksum = static_cast<uint16_t>(~rte_raw_cksum(v4, rte_ipv4_hdr_len(v4)));
}

void SetTrafficClass(uint8_t* ip, uint8_t traffic_class) noexcept {
  if (IsV4(ip)) {
    auto* v4 = reinterpret_cast<rte_ipv4_hdr*>(ip);
    rte_be16_t words[2];  // version, length and traffic class share one word
    std::memcpy(&words[0], ip, 2);
    v4->type_of_service = traffic_class;
    std::memcpy(&words[1], ip, 2);
    v4->hdr_checksum = UpdatedChecksum(v4->hdr_checksum, words[0], words[1]);
    return;
  }
  auto* v6 = reinterpret_cast<rte_ipv6_hdr*>(ip);
  const uint32_t word = rte_be_to_cpu_32(v6->vtc_flow);
  v6->vtc_flow = rte_cpu_to_be_32((word & 0xf00fffffU) | uint32_t{traffic_class} << 20U);
}

void ClampMss(std::span<uint8_t> packet, uint16_t header_length, uint16_t mss) noexcept {
  if (packet.size() < header_length + sizeof(rte_tcp_hdr)) return;
  auto* tcp = reinterpret_cast<rte_tcp_hdr*>(packet.data() + header_length);
  if ((tcp->tcp_flags & RTE_TCP_SYN_FLAG) == 0) return;
  const size_t tcp_length = size_t{tcp->data_off} / 16 * 4;
  const size_t end = std::min(packet.size(), header_length + tcp_length);
  constexpr uint8_t kEnd = 0;
  constexpr uint8_t kNop = 1;
  constexpr uint8_t kMss = 2;
  for (size_t at = header_length + sizeof(*tcp); at + 1 < end;) {
    const uint8_t kind = packet[at];
    if (kind == kEnd) return;
    if (kind == kNop) {
      ++at;
      continue;
    }
    const size_t length = packet[at + 1];
    if (length < 2 || at + length > end) return;
    if (kind == kMss && length == 4) {
      const auto now = static_cast<uint16_t>(packet[at + 2] << 8U | packet[at + 3]);
      if (now <= mss) return;
      const rte_be16_t before = rte_cpu_to_be_16(now);
      const rte_be16_t after = rte_cpu_to_be_16(mss);
      // An option at an odd offset straddles two words of the sum: swapped, it counts the same.
      const bool odd = (at - header_length) % 2 != 0;
      tcp->cksum = UpdatedChecksum(tcp->cksum, odd ? rte_bswap16(before) : before,
                                   odd ? rte_bswap16(after) : after);
      std::memcpy(&packet[at + 2], &after, sizeof(after));
      return;
    }
    at += length;
  }
}

}  // namespace portcullis
