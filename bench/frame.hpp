// Headers of frames that benchmarks make themselves: what every generator of ours writes in front
// of a payload.
#pragma once

#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include <cstdint>
#include <cstring>

#include "dataplane/packet/rewrite.hpp"

namespace portcullis::bench {

/// An IPv4 header without options at `at`, its checksum right. `length` is the whole packet's, in
/// bytes; addresses in host order.
inline void WriteIpv4(uint8_t* at, size_t length, uint32_t from, uint32_t to, uint8_t protocol) {
  rte_ipv4_hdr ip{};
  ip.version_ihl = RTE_IPV4_VHL_DEF;
  ip.total_length = rte_cpu_to_be_16(static_cast<uint16_t>(length));
  ip.time_to_live = 64;
  ip.next_proto_id = protocol;
  ip.src_addr = rte_cpu_to_be_32(from);
  ip.dst_addr = rte_cpu_to_be_32(to);
  std::memcpy(at, &ip, sizeof(ip));
  SetIpv4Checksum(at);
}

/// A UDP header for `length` bytes of header and payload, without a checksum: optional over IPv4
/// (RFC 768), and 0 in front of ESP (RFC 3948 2.1).
inline void WriteUdp(uint8_t* at, size_t length, uint16_t from, uint16_t to) {
  const rte_udp_hdr udp{rte_cpu_to_be_16(from), rte_cpu_to_be_16(to),
                        rte_cpu_to_be_16(static_cast<uint16_t>(length)), 0};
  std::memcpy(at, &udp, sizeof(udp));
}

}  // namespace portcullis::bench
