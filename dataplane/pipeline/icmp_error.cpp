#include "dataplane/pipeline/icmp_error.hpp"

#include <netinet/in.h>
#include <rte_ether.h>
#include <rte_ip.h>

#include <algorithm>
#include <cstring>

#include "dataplane/packet/rewrite.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

struct IcmpHeader {
  uint8_t type;
  uint8_t code;
  rte_be16_t checksum;
  be32 rest;  // the MTU in both families: ICMPv4 keeps it in the lower half (RFC 1191 4)
} __attribute__((packed));

// As much of the offending packet as is sure to arrive: RFC 1812 4.3.2.3, RFC 4443 2.4 (c).
constexpr size_t kSmallestMtuV4 = 576;
constexpr size_t kSmallestMtuV6 = 1280;
constexpr uint8_t kTtl = 64;

// The first address of the family on the port; link-local ones say nothing to the receiver.
const Address* OwnAddress(Worker& worker, uint16_t port, bool v4) noexcept {
  const HostAddresses* hosts = worker.hosts();
  if (hosts == nullptr || port >= hosts->size()) return nullptr;
  for (const Address& address : (*hosts)[port]) {
    const bool link_local =
        !address.IsV4() && address.bytes()[0] == 0xfe && (address.bytes()[1] & 0xc0U) == 0x80;
    if (address.IsV4() == v4 && !link_local) return &address;
  }
  return nullptr;
}

void WriteIp(uint8_t* at, bool v4, const Address& from, const Address& to, size_t length) noexcept {
  if (v4) {
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(at);
    *ip = {};
    ip->version_ihl = RTE_IPV4_VHL_DEF;
    ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(length));
    ip->time_to_live = kTtl;
    ip->next_proto_id = IPPROTO_ICMP;
    std::memcpy(&ip->src_addr, from.wire().data(), 4);
    std::memcpy(&ip->dst_addr, to.wire().data(), 4);
    SetIpv4Checksum(at);
    return;
  }
  auto* ip = reinterpret_cast<rte_ipv6_hdr*>(at);
  *ip = {};
  ip->vtc_flow = rte_cpu_to_be_32(6U << 28U);
  ip->payload_len = rte_cpu_to_be_16(static_cast<uint16_t>(length - sizeof(*ip)));
  ip->proto = IPPROTO_ICMPV6;
  ip->hop_limits = kTtl;
  std::memcpy(ip->src_addr, from.bytes().data(), 16);
  std::memcpy(ip->dst_addr, to.bytes().data(), 16);
}

void Tell(Worker& worker, const Packet& packet, uint8_t type, uint8_t code,
          uint32_t rest) noexcept {
  const auto offending = packet.From(packet.l3);
  const bool v4 = packet.flow.is_v4;
  // Never an error about an error (RFC 1122 3.2.2, RFC 4443 2.4 (e)), nor about a later fragment.
  if (packet.flow.fragment || packet.flow.icmp_error) return;
  const Address* own = OwnAddress(worker, packet.mbuf->port, v4);
  if (own == nullptr || !worker.icmp_budget().Take(worker.now(), 1)) return;

  const size_t ip_header = v4 ? sizeof(rte_ipv4_hdr) : sizeof(rte_ipv6_hdr);
  const size_t headers = ip_header + sizeof(IcmpHeader);
  const size_t quote = std::min(offending.size(), (v4 ? kSmallestMtuV4 : kSmallestMtuV6) - headers);
  rte_mbuf* mbuf = rte_pktmbuf_alloc(worker.pool());
  if (mbuf == nullptr) return;
  const size_t length = packet.l3 + headers + quote;
  auto* frame = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(length)));
  if (frame == nullptr) return rte_pktmbuf_free(mbuf);

  // Back to where it came from, in the same VLAN.
  std::memcpy(frame, packet.At(0), packet.l3);
  auto* ether = reinterpret_cast<rte_ether_hdr*>(frame);
  ether->dst_addr = ether->src_addr;
  std::memcpy(&ether->src_addr, worker.PortOf(packet).mac.data(), RTE_ETHER_ADDR_LEN);
  uint8_t* ip = frame + packet.l3;
  WriteIp(ip, v4, *own, packet.flow.source, headers + quote);
  auto* icmp = reinterpret_cast<IcmpHeader*>(ip + ip_header);
  *icmp = {type, code, 0, be32(rest)};
  std::memcpy(icmp + 1, offending.data(), quote);
  const size_t icmp_length = sizeof(*icmp) + quote;
  icmp->checksum = v4 ? static_cast<uint16_t>(~rte_raw_cksum(icmp, icmp_length))
                      : rte_ipv6_udptcp_cksum(reinterpret_cast<rte_ipv6_hdr*>(ip), icmp);
  worker.SendReply(mbuf, packet.mbuf->port);
}

}  // namespace

void TellTooBig(Worker& worker, const Packet& packet, uint16_t mtu) noexcept {
  if (packet.flow.is_v4) {
    constexpr uint8_t kUnreachable = 3;
    constexpr uint8_t kFragmentationNeeded = 4;
    Tell(worker, packet, kUnreachable, kFragmentationNeeded, mtu);
  } else {
    constexpr uint8_t kPacketTooBig = 2;
    Tell(worker, packet, kPacketTooBig, 0, mtu);
  }
}

void TellTtlExpired(Worker& worker, const Packet& packet) noexcept {
  constexpr uint8_t kTimeExceededV4 = 11;
  constexpr uint8_t kTimeExceededV6 = 3;
  Tell(worker, packet, packet.flow.is_v4 ? kTimeExceededV4 : kTimeExceededV6, 0, 0);
}

}  // namespace portcullis
