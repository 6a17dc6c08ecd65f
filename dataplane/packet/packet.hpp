// One packet on its way through a burst, and the burst. A stage looks at the packets of a burst and
// either leaves each in it or ends it with a verdict; there is no third way out.
#pragma once

#include <rte_mbuf.h>

#include <array>
#include <cstdint>
#include <span>

#include "base/ip.hpp"
#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/flow.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis {

struct Sa;
struct NextHop;

enum class Kind : uint8_t {
  clear,       // an IP packet without protection
  esp,         // ESP, bare or in UDP
  icmp_error,  // an ICMP error about our own ESP
  ike,         // UDP 4500 with the non-ESP marker (RFC 3948 2.2)
  keepalive,   // RFC 3948 2.3
  not_ip,      // ARP and other link-layer talk
};

struct Packet {
  rte_mbuf* mbuf = nullptr;
  Sa* sa = nullptr;                   // from find_sa or select_sa on; null: bypassed cleartext
  const NextHop* next_hop = nullptr;  // outbound: found when sealing
  Sequence sequence{};
  Address outer_source;
  Flow flow;                // of the inner packet (inbound: from authorise on)
  uint16_t l3 = 0;          // offset of the IP header in the frame, bytes
  uint16_t esp = 0;         // offset of the ESP header
  uint16_t esp_length = 0;  // ESP header up to and including the ICV
  uint16_t inner = 0;       // offset of the decrypted packet; it has payload_length bytes
  uint16_t payload_length = 0;
  uint8_t next_header = 0;  // of the ESP trailer
  uint16_t outer_port = 0;  // UDP source port of encapsulated ESP; 0: bare ESP
  uint8_t outer_traffic_class = 0;
  Kind kind = Kind::clear;

  [[nodiscard]] uint8_t* At(uint16_t offset) const {
    return rte_pktmbuf_mtod_offset(mbuf, uint8_t*, offset);
  }
  /// From `offset` to the end of the frame.
  [[nodiscard]] std::span<const uint8_t> From(uint16_t offset) const {
    return {At(offset), static_cast<size_t>(rte_pktmbuf_data_len(mbuf)) - offset};
  }
};

struct Burst {
  static constexpr unsigned kMost = 64;
  std::array<Packet, kMost> packets;
  unsigned count = 0;

  [[nodiscard]] bool empty() const { return count == 0; }
  [[nodiscard]] std::span<Packet> all() { return {packets.data(), count}; }

  /// Keeps, in order, the packets for which `keep(Packet&)` is true. Whoever answers false has
  /// taken the packet's buffer.
  template <class Keep>
  void KeepIf(Keep&& keep) noexcept {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; ++i) {
      if (!keep(packets[i])) continue;
      if (kept != i) packets[kept] = packets[i];
      ++kept;
    }
    count = kept;
  }
};

}  // namespace portcullis
