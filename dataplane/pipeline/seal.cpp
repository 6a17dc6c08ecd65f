// From inner packet to ESP in tunnel mode (RFC 4303 3.3, RFC 4301 5.1.2): TTL, path MTU, sequence
// number, framing, encryption, outer header.
#include <netinet/in.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "dataplane/crypto/iv.hpp"
#include "dataplane/esp/header.hpp"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/packet/rewrite.hpp"
#include "dataplane/pipeline/icmp_error.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

constexpr uint8_t kTtl = 64;

uint16_t OuterHeaderLength(const Sa& sa) noexcept {
  const size_t ip = sa.tunnel.local.IsV4() ? sizeof(rte_ipv4_hdr) : sizeof(rte_ipv6_hdr);
  return static_cast<uint16_t>(ip + (sa.tunnel.udp_encap ? sizeof(rte_udp_hdr) : 0));
}

// The longest inner packet that the path takes.
uint16_t InnerMtu(const Sa& sa, const NextHop& hop) noexcept {
  uint16_t path = hop.mtu;
  const uint16_t learned = sa.pmtu.load(std::memory_order_relaxed);
  if (learned != 0) path = std::min(path, learned);
  return static_cast<uint16_t>(EspMaxInner(sa.algorithm, path - OuterHeaderLength(sa)));
}

// Everything that can still refuse the packet, before a sequence number is spent on it.
Verdict Prepare(Worker& worker, Packet& packet) noexcept {
  Sa& sa = *packet.sa;
  if (sa.Exhausted()) {
    sa.expired.store(true, std::memory_order_relaxed);
    return Verdict::sa_expired;
  }
  packet.next_hop = worker.fib() == nullptr ? nullptr : worker.fib()->Lookup(sa.endpoint.address());
  if (packet.next_hop == nullptr ||
      worker.PortById(packet.next_hop->port).role != PortRole::kUntrusted) {
    return Verdict::no_route;
  }
  uint8_t* ip = packet.At(packet.l3);
  if (!DecrementTtl(ip)) {
    TellTtlExpired(worker, packet);
    return Verdict::ttl_expired;
  }
  const uint16_t mtu = InnerMtu(sa, *packet.next_hop);
  if (packet.flow.length > mtu) {
    TellTooBig(worker, packet, mtu);
    return Verdict::too_big;
  }
  if (worker.config().mss_clamp && packet.flow.protocol == IPPROTO_TCP && packet.flow.has_ports &&
      !packet.flow.icmp_error) {
    const size_t headers = packet.flow.header_length + 20U;  // a TCP header without options
    ClampMss({ip, packet.flow.length}, packet.flow.header_length,
             static_cast<uint16_t>(mtu - std::min<size_t>(headers, mtu)));
  }
  return Verdict::accepted;
}

void WriteUdp(uint8_t* at, const Sa& sa, size_t payload) noexcept {
  auto* udp = reinterpret_cast<rte_udp_hdr*>(at);
  udp->src_port = rte_cpu_to_be_16(sa.tunnel.local_port);
  udp->dst_port = rte_cpu_to_be_16(sa.endpoint.port());
  udp->dgram_len = rte_cpu_to_be_16(static_cast<uint16_t>(sizeof(*udp) + payload));
  udp->dgram_cksum = 0;  // RFC 3948 2.1: the ICV covers it
}

// Over IPv6 a host discards UDP without a checksum (RFC 8200 8.1), and ESP is not among what RFC
// 6935 exempts. Inbound nobody looks at it: the ICV covers more.
void WriteUdpChecksumV6(Packet& packet) noexcept {
  auto* ip = rte_pktmbuf_mtod(packet.mbuf, rte_ipv6_hdr*);
  auto* udp = reinterpret_cast<rte_udp_hdr*>(ip + 1);
  udp->dgram_cksum = rte_ipv6_udptcp_cksum(ip, udp);
}

void WriteOuterV4(uint8_t* at, const Sa& sa, const Flow& inner, size_t length) noexcept {
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(at);
  const bool df = sa.tunnel.df == DontFragment::set ||
                  (sa.tunnel.df == DontFragment::copy && inner.dont_fragment);
  ip->version_ihl = RTE_IPV4_VHL_DEF;
  ip->type_of_service = EncapsulateTrafficClass(inner.traffic_class, sa.tunnel.copy_dscp);
  ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(length));
  // Routers may fragment what has no DF: the low bits of the number tell the packets apart.
  ip->packet_id = df ? 0 : static_cast<uint16_t>(sa.record->highest);
  ip->fragment_offset = df ? rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG) : 0;
  ip->time_to_live = kTtl;
  ip->next_proto_id = sa.tunnel.udp_encap ? IPPROTO_UDP : IPPROTO_ESP;
  std::memcpy(&ip->src_addr, sa.tunnel.local.wire().data(), 4);
  std::memcpy(&ip->dst_addr, sa.endpoint.address().wire().data(), 4);
  SetIpv4Checksum(at);
}

void WriteOuterV6(uint8_t* at, const Sa& sa, const Flow& inner, size_t length) noexcept {
  auto* ip = reinterpret_cast<rte_ipv6_hdr*>(at);
  const uint8_t traffic = EncapsulateTrafficClass(inner.traffic_class, sa.tunnel.copy_dscp);
  ip->vtc_flow = rte_cpu_to_be_32(6U << 28U | uint32_t{traffic} << 20U);
  ip->payload_len = rte_cpu_to_be_16(static_cast<uint16_t>(length - sizeof(*ip)));
  ip->proto = sa.tunnel.udp_encap ? IPPROTO_UDP : IPPROTO_ESP;
  ip->hop_limits = kTtl;
  std::memcpy(ip->src_addr, sa.tunnel.local.bytes().data(), 16);
  std::memcpy(ip->dst_addr, sa.endpoint.address().bytes().data(), 16);
}

// Afterwards the frame begins with the outer IP header.
Verdict Frame(Packet& packet, CryptoOp& op) noexcept {
  Sa& sa = *packet.sa;
  const Algorithm algorithm = sa.algorithm;
  const uint32_t inner = packet.flow.length;
  const uint32_t pad = EspPadLength(algorithm, inner);
  const uint16_t headers = OuterHeaderLength(sa);
  rte_pktmbuf_adj(packet.mbuf, packet.l3);
  const uint8_t* tail = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(
      packet.mbuf, static_cast<uint16_t>(pad + sizeof(EspTrailer) + Info(algorithm).icv_bytes)));
  auto* outer = reinterpret_cast<uint8_t*>(rte_pktmbuf_prepend(
      packet.mbuf, static_cast<uint16_t>(headers + EspPayloadOffset(algorithm))));
  if (tail == nullptr || outer == nullptr) return Verdict::no_buffer;

  // Stored before it is used: no crash can make it come twice under one key.
  const auto sequence = NextSequence(*sa.record, sa.esn);
  if (!sequence) return Verdict::seq_exhausted;
  CountPacket(*sa.record, inner);

  const uint32_t esp_length = EspLength(algorithm, inner);
  const size_t total = headers + esp_length;
  if (sa.tunnel.local.IsV4()) {
    WriteOuterV4(outer, sa, packet.flow, total);
  } else {
    WriteOuterV6(outer, sa, packet.flow, total);
  }
  if (sa.tunnel.udp_encap) WriteUdp(outer + headers - sizeof(rte_udp_hdr), sa, esp_length);
  auto* esp = reinterpret_cast<EspHeader*>(outer + headers);
  esp->spi = be32(Value(sa.spi));
  esp->sequence = be32(Low(*sequence));
  auto* iv = reinterpret_cast<uint8_t*>(esp + 1);
  WriteIv(algorithm, *sa.key, *sequence, iv);
  WriteEspTrailer(iv + Info(algorithm).iv_bytes + inner, pad,
                  packet.flow.is_v4 ? kNextHeaderIpv4 : kNextHeaderIpv6);
  op = {.key = sa.key,
        .esp = reinterpret_cast<uint8_t*>(esp),
        .length = esp_length,
        .esn_high = High(*sequence),
        .algorithm = algorithm,
        .esn = sa.esn};
  packet.sequence = *sequence;
  packet.l3 = 0;
  return Verdict::accepted;
}

}  // namespace

void Seal(Worker& worker, Burst& burst) noexcept {
  std::array<CryptoOp, Burst::kMost> ops;
  unsigned count = 0;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;  // bypassed
    Verdict verdict = Prepare(worker, packet);
    if (verdict == Verdict::accepted) verdict = Frame(packet, ops[count]);
    if (verdict == Verdict::accepted) ++count;
    return verdict;
  });
  if (count == 0) return;
  worker.engine().Seal(std::span(ops).first(count));
  unsigned i = 0;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    if (!ops[i++].ok) return Verdict::crypto_error;
    if (packet.sa->tunnel.udp_encap && !packet.sa->tunnel.local.IsV4()) WriteUdpChecksumV6(packet);
    return Verdict::accepted;
  });
}

}  // namespace portcullis
