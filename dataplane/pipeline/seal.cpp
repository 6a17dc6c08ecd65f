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
#include "dataplane/state/lifetime.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

constexpr uint8_t kTtl = 64;

// What every packet of the SA has in front of it as long as its endpoint stays where it is.
// Lengths, traffic class, identification and DF are the packet's.
void WriteHeader(const Sa& sa, Path& path) noexcept {
  const Address to = sa.endpoint.address();
  const uint8_t protocol = sa.tunnel.udp_encap ? IPPROTO_UDP : IPPROTO_ESP;
  uint8_t* at = path.header.data();
  if (sa.local.IsV4()) {
    rte_ipv4_hdr ip{};
    ip.version_ihl = RTE_IPV4_VHL_DEF;
    ip.time_to_live = kTtl;
    ip.next_proto_id = protocol;
    std::memcpy(&ip.src_addr, sa.local.wire().data(), sizeof(ip.src_addr));
    std::memcpy(&ip.dst_addr, to.wire().data(), sizeof(ip.dst_addr));
    std::memcpy(at, &ip, sizeof(ip));
    path.checksum = rte_raw_cksum(at, sizeof(ip));
    path.header_length = sizeof(ip);
  } else {
    rte_ipv6_hdr ip{};
    ip.vtc_flow = rte_cpu_to_be_32(6U << 28U);
    ip.proto = protocol;
    ip.hop_limits = kTtl;
    std::memcpy(ip.src_addr, sa.local.bytes().data(), sizeof(ip.src_addr));
    std::memcpy(ip.dst_addr, to.bytes().data(), sizeof(ip.dst_addr));
    std::memcpy(at, &ip, sizeof(ip));
    path.header_length = sizeof(ip);
  }
  if (!sa.tunnel.udp_encap) return;
  rte_udp_hdr udp{};  // without checksum: the ICV covers it (RFC 3948 2.1); but see below
  udp.src_port = rte_cpu_to_be_16(sa.tunnel.local_port);
  udp.dst_port = rte_cpu_to_be_16(sa.endpoint.port());
  std::memcpy(at + path.header_length, &udp, sizeof(udp));
  path.header_length = static_cast<uint8_t>(path.header_length + sizeof(udp));
}

// The route to the SA's endpoint, found once as long as neither moves.
const Path& PathOf(Worker& worker, Sa& sa) noexcept {
  const uint16_t learned = sa.pmtu.load(std::memory_order_relaxed);
  Path& path = sa.path;
  if (path.view == worker.view() && path.learned == learned) return path;
  const NextHop* hop =
      worker.fib() == nullptr ? nullptr : worker.fib()->Lookup(sa.endpoint.address());
  if (hop != nullptr && worker.PortById(hop->port).role != PortRole::kUntrusted) hop = nullptr;
  path.hop = hop;
  path.view = worker.view();
  path.learned = learned;
  if (hop == nullptr) return path;
  WriteHeader(sa, path);
  const uint32_t mtu = learned == 0 ? hop->mtu : std::min(hop->mtu, learned);
  path.inner_mtu = mtu <= path.header_length
                       ? uint16_t{0}
                       : static_cast<uint16_t>(EspMaxInner(sa.algorithm, mtu - path.header_length));
  return path;
}

// Everything that can still refuse the packet, before a sequence number is spent on it.
Verdict Prepare(Worker& worker, Packet& packet, const Path& path, Lifetime& lifetime) noexcept {
  if (!lifetime.Admits(*packet.sa)) return Verdict::sa_expired;
  packet.next_hop = path.hop;
  if (path.hop == nullptr) return Verdict::no_route;
  uint8_t* ip = packet.At(packet.l3);
  if (!DecrementTtl(ip)) {
    TellTtlExpired(worker, packet);
    return Verdict::ttl_expired;
  }
  if (packet.flow.length > path.inner_mtu) {
    TellTooBig(worker, packet, path.inner_mtu);
    return Verdict::too_big;
  }
  if (worker.config().mss_clamp) ClampMss({ip, packet.flow.length}, packet.flow, path.inner_mtu);
  return Verdict::accepted;
}

// Over IPv6 a host discards UDP without a checksum (RFC 8200 8.1), and ESP is not among what RFC
// 6935 exempts. Inbound nobody looks at it: the ICV covers more.
void WriteUdpChecksumV6(const Packet& packet) noexcept {
  auto* ip = reinterpret_cast<rte_ipv6_hdr*>(packet.data);
  auto* udp = reinterpret_cast<rte_udp_hdr*>(ip + 1);
  udp->dgram_cksum = rte_ipv6_udptcp_cksum(ip, udp);
}

// The outer headers; `esp_length` bytes follow them.
void WriteOuter(uint8_t* at, const Sa& sa, const Flow& inner, Sequence sequence,
                uint32_t esp_length) noexcept {
  const Path& path = sa.path;
  const size_t length = path.header_length + esp_length;
  const uint8_t traffic = EncapsulateTrafficClass(inner.traffic_class, sa.tunnel.copy_dscp);
  if (sa.local.IsV4()) {
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(at);
    std::memcpy(ip, path.header.data(), sizeof(*ip));
    const bool df = sa.tunnel.df == DontFragment::set ||
                    (sa.tunnel.df == DontFragment::copy && inner.dont_fragment);
    ip->type_of_service = traffic;
    ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(length));
    // Routers may fragment what has no DF: the low bits of the number tell the packets apart.
    ip->packet_id = df ? 0 : static_cast<uint16_t>(Value(sequence));
    ip->fragment_offset = df ? RTE_BE16(RTE_IPV4_HDR_DF_FLAG) : 0;
    uint32_t sum = path.checksum + (uint32_t{traffic} << 8U) + ip->total_length + ip->packet_id +
                   ip->fragment_offset;
    sum = (sum & 0xffffU) + (sum >> 16U);
    sum = (sum & 0xffffU) + (sum >> 16U);
    ip->hdr_checksum = static_cast<uint16_t>(~sum);
    at += sizeof(*ip);
  } else {
    auto* ip = reinterpret_cast<rte_ipv6_hdr*>(at);
    std::memcpy(ip, path.header.data(), sizeof(*ip));
    ip->vtc_flow = rte_cpu_to_be_32(6U << 28U | uint32_t{traffic} << 20U);
    ip->payload_len = rte_cpu_to_be_16(static_cast<uint16_t>(length - sizeof(*ip)));
    at += sizeof(*ip);
  }
  if (!sa.tunnel.udp_encap) return;
  auto* udp = reinterpret_cast<rte_udp_hdr*>(at);
  std::memcpy(udp, path.header.data() + path.header_length - sizeof(*udp), sizeof(*udp));
  udp->dgram_len = rte_cpu_to_be_16(static_cast<uint16_t>(sizeof(*udp) + esp_length));
}

// Afterwards the frame begins with the outer IP header.
Verdict Frame(Packet& packet, const Path& path, CryptoOp& op) noexcept {
  Sa& sa = *packet.sa;
  const uint32_t inner = packet.flow.length;
  const uint32_t pad = EspPadLength(sa.pad_mask, inner);
  const uint32_t behind = pad + sizeof(EspTrailer) + sa.icv_bytes;
  const uint32_t esp_length = sa.payload_offset + inner + behind;
  const uint32_t before = path.header_length + sa.payload_offset;
  if (rte_pktmbuf_headroom(packet.mbuf) + packet.l3 < before ||
      rte_pktmbuf_tailroom(packet.mbuf) < behind) {
    return Verdict::no_buffer;
  }

  // Stored before it is used: no crash can make it come twice under one key.
  const Sequence sequence = NextSequence(*sa.record, sa.esn);
  if (sequence == kNoSequence) return Verdict::seq_exhausted;

  packet.Cut(packet.l3 - static_cast<int>(before),
             static_cast<uint16_t>(path.header_length + esp_length));
  packet.l3 = 0;
  WriteOuter(packet.data, sa, packet.flow, sequence, esp_length);
  auto* esp = reinterpret_cast<EspHeader*>(packet.data + path.header_length);
  esp->spi = be32(Value(sa.spi));
  esp->sequence = be32(Low(sequence));
  WriteIv(sa.algorithm, *sa.key, sequence, reinterpret_cast<uint8_t*>(esp + 1));
  WriteEspTrailer(packet.data + before + inner, pad,
                  packet.flow.is_v4 ? kNextHeaderIpv4 : kNextHeaderIpv6);
  op = {.key = sa.key,
        .esp = reinterpret_cast<uint8_t*>(esp),
        .length = esp_length,
        .esn_high = High(sequence),
        .algorithm = sa.algorithm,
        .esn = sa.esn};
  return Verdict::accepted;
}

}  // namespace

void Seal(Worker& worker, Burst& burst) noexcept {
  constexpr uint8_t kUdpV6 = sizeof(rte_ipv6_hdr) + sizeof(rte_udp_hdr);
  std::array<CryptoOp, Burst::kMost> ops;
  unsigned count = 0;
  Lifetime lifetime;
  Sa* last = nullptr;
  const Path* path = nullptr;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;  // bypassed
    if (packet.sa != last) path = &PathOf(worker, *(last = packet.sa));
    Verdict verdict = Prepare(worker, packet, *path, lifetime);
    if (verdict == Verdict::accepted) verdict = Frame(packet, *path, ops[count]);
    if (verdict != Verdict::accepted) return verdict;
    lifetime.Count(packet.flow.length);
    ++count;
    return verdict;
  });
  if (count == 0) return;
  worker.engine().Seal(std::span(ops).first(count));
  unsigned i = 0;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    if (!ops[i++].ok) return Verdict::crypto_error;
    if (packet.sa->path.header_length == kUdpV6) WriteUdpChecksumV6(packet);
    return Verdict::accepted;
  });
}

}  // namespace portcullis
