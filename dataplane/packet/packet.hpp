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
  fragment,    // of ESP or UDP: nobody knows what of
  ike,         // UDP 4500 with the non-ESP marker (RFC 3948 2.2)
  keepalive,   // RFC 3948 2.3
  not_ip,      // ARP and other link-layer talk
};

struct Packet {
  rte_mbuf* mbuf = nullptr;
  uint8_t* data = nullptr;            // where the frame begins
  Sa* sa = nullptr;                   // from find_sa or select_sa on; null: bypassed cleartext
  const NextHop* next_hop = nullptr;  // inbound: of a flow known before; outbound: from seal on
  Sequence sequence{};
  uint16_t l3 = 0;          // offset of the IP header in the frame, bytes
  uint16_t esp = 0;         // offset of the ESP header
  uint16_t esp_length = 0;  // ESP header up to and including the ICV
  uint16_t inner = 0;       // offset of the decrypted packet; it has payload_length bytes
  uint16_t payload_length = 0;
  uint16_t outer_port = 0;  // UDP source port of encapsulated ESP; 0: bare ESP
  uint8_t next_header = 0;  // of the ESP trailer
  uint8_t outer_traffic_class = 0;
  Kind kind = Kind::clear;
  Flow flow;  // of the inner packet (inbound: from authorise on)

  /// What stages find out is written before it is read: all else is left as it is.
  void Begin(rte_mbuf* frame) noexcept {
    mbuf = frame;
    data = rte_pktmbuf_mtod(frame, uint8_t*);
    sa = nullptr;
    next_hop = nullptr;
    outer_port = 0;
  }
  [[nodiscard]] uint8_t* At(uint16_t offset) const { return data + offset; }
  /// From `offset` to the end of the frame.
  [[nodiscard]] std::span<const uint8_t> From(uint16_t offset) const {
    return {At(offset), static_cast<size_t>(rte_pktmbuf_data_len(mbuf)) - offset};
  }
  /// From here on the frame is the `length` bytes from `offset` on, which may lie before its
  /// present beginning; the buffer must have them.
  void Cut(int offset, uint16_t length) noexcept {
    mbuf->data_off = static_cast<uint16_t>(mbuf->data_off + offset);
    mbuf->data_len = length;
    mbuf->pkt_len = length;
    data += offset;
  }
};

/// A judgement's way to say that the packet's buffer is no longer the burst's, and no verdict is
/// due.
inline constexpr Verdict kTaken{UINT8_MAX};

struct Burst {
  static constexpr unsigned kMost = 64;
  std::array<Packet, kMost> packets;
  unsigned count = 0;
  bool plain = true;  // inbound, from parse on: nothing but bare ESP as nearly all packets are

  void Begin(std::span<rte_mbuf* const> frames) noexcept {
    count = static_cast<unsigned>(frames.size());
    plain = true;
    for (unsigned i = 0; i < count; ++i) packets[i].Begin(frames[i]);
  }
  [[nodiscard]] bool empty() const { return count == 0; }
  [[nodiscard]] std::span<Packet> all() { return {packets.data(), count}; }
};

}  // namespace portcullis
