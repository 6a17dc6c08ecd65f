// What is it? On the wire side: ESP (bare or in UDP), something about our ESP, or cleartext; outer
// headers only. On the trusted side: whose packet, read once for all later stages.
#include <netinet/in.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include <cstring>
#include <optional>

#include "dataplane/esp/header.hpp"
#include "dataplane/packet/ipv4.hpp"
#include "dataplane/pipeline/outer.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/pipeline/prefilter.hpp"
#include "dataplane/pipeline/reassemble.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kNatTraversalPort = 4500;  // RFC 3948

// Finds the IP header, or whatever else there is, behind Ethernet and up to two VLAN tags. Says
// which version the link layer announces; 0: no IP packet. Where the tags are cut short it is as if
// IP had been announced, of which not a byte is there.
uint8_t FindIp(Packet& packet) noexcept {
  const size_t length = rte_pktmbuf_data_len(packet.mbuf);
  const auto* ether = reinterpret_cast<const rte_ether_hdr*>(packet.data);
  if (length >= sizeof(*ether) && ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_IPV4)) {
    packet.l3 = sizeof(*ether);
    return 4;
  }
  size_t at = offsetof(rte_ether_hdr, ether_type);
  for (int tags = 0;; ++tags) {
    if (at + 2 > length) {
      packet.l3 = static_cast<uint16_t>(length);
      return 4;
    }
    const auto* type = reinterpret_cast<const be16*>(packet.At(static_cast<uint16_t>(at)));
    at += 2;
    packet.l3 = static_cast<uint16_t>(at);
    switch (type->host()) {
      case RTE_ETHER_TYPE_IPV4:
        return 4;
      case RTE_ETHER_TYPE_IPV6:
        return 6;
      case RTE_ETHER_TYPE_VLAN:
      case RTE_ETHER_TYPE_QINQ:
        if (tags == 2) return 0;
        at += 2;
        break;
      default:
        return 0;
    }
  }
}

bool HasVersion(std::span<const uint8_t> ip, uint8_t version) noexcept {
  return !ip.empty() && ip[0] >> 4U == version;
}

}  // namespace

std::optional<Outer> ReadOuter(Packet& packet) noexcept {
  const auto bytes = packet.From(packet.l3);
  if (bytes.empty()) return std::nullopt;
  Outer outer;
  outer.v4 = bytes[0] >> 4U == 4;
  size_t header = 0;
  size_t length = 0;
  if (outer.v4) {
    const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(bytes.data());
    if (bytes.size() < sizeof(*ip)) return std::nullopt;
    header = rte_ipv4_hdr_len(ip);  // options are skipped, not interpreted
    outer.options = header > sizeof(*ip);
    length = rte_be_to_cpu_16(ip->total_length);
    if (header < sizeof(*ip) || header > length || length > bytes.size()) return std::nullopt;
    if (!Ipv4ChecksumValid(bytes.data())) return std::nullopt;
    outer.protocol = ip->next_proto_id;
    outer.fragment = (rte_be_to_cpu_16(ip->fragment_offset) &
                      (RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0;
    packet.outer_traffic_class = ip->type_of_service;
  } else {
    Ipv6Chain chain;
    if (bytes[0] >> 4U != 6 || !WalkIpv6(bytes, chain)) return std::nullopt;
    const auto* ip = reinterpret_cast<const rte_ipv6_hdr*>(bytes.data());
    header = chain.header_length;
    length = sizeof(*ip) + rte_be_to_cpu_16(ip->payload_len);
    if (header > length || length > bytes.size()) return std::nullopt;
    outer.protocol = chain.protocol;
    outer.fragment = chain.fragment;
    // See ReadFlow.
    if (Address::V6(ip->dst_addr).IsV4() || Address::V6(ip->src_addr).IsV4()) return std::nullopt;
    packet.outer_traffic_class = static_cast<uint8_t>(rte_be_to_cpu_32(ip->vtc_flow) >> 20U);
  }
  outer.transport = bytes.subspan(header, length - header);
  return outer;
}

namespace {

Verdict ReadEsp(Packet& packet, std::span<const uint8_t> esp) noexcept {
  if (esp.size() < sizeof(EspHeader)) return Verdict::malformed;
  packet.kind = Kind::esp;
  packet.esp = static_cast<uint16_t>(esp.data() - packet.At(0));
  packet.esp_length = static_cast<uint16_t>(esp.size());
  return Verdict::accepted;
}

Verdict ReadUdp(Packet& packet, std::span<const uint8_t> transport) noexcept {
  const auto* udp = reinterpret_cast<const rte_udp_hdr*>(transport.data());
  if (transport.size() < sizeof(*udp)) return Verdict::malformed;
  if (rte_be_to_cpu_16(udp->dst_port) != kNatTraversalPort) return Verdict::accepted;
  const size_t length = rte_be_to_cpu_16(udp->dgram_len);
  if (length < sizeof(*udp) || length > transport.size()) return Verdict::malformed;
  const auto payload = transport.subspan(sizeof(*udp), length - sizeof(*udp));
  constexpr uint8_t kKeepalive = 0xff;
  if (payload.size() == 1 && payload[0] == kKeepalive) {
    packet.kind = Kind::keepalive;
    return Verdict::accepted;
  }
  if (payload.size() < sizeof(be32)) return Verdict::malformed;
  if (reinterpret_cast<const be32*>(payload.data())->host() == 0) {
    packet.kind = Kind::ike;
    return Verdict::accepted;
  }
  packet.outer_port = rte_be_to_cpu_16(udp->src_port);
  return ReadEsp(packet, payload);
}

// An ICMP error that quotes ESP or UDP from port 4500 is about packets that we sent. They have no
// extension headers, and their ports stand where they are not the middle of a datagram.
bool QuotesOurs(std::span<const uint8_t> icmp, uint8_t protocol, bool v4) noexcept {
  constexpr size_t kIcmpHeader = 8;
  if (icmp.size() <= kIcmpHeader || !IsIcmpError(v4, protocol, icmp[0])) return false;
  const auto quote = icmp.subspan(kIcmpHeader);
  if (!HasVersion(quote, v4 ? 4 : 6)) return false;
  size_t header = sizeof(rte_ipv6_hdr);
  uint8_t quoted = 0;
  if (v4) {
    const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(quote.data());
    if (quote.size() < sizeof(*ip) || rte_ipv4_hdr_len(ip) < sizeof(*ip)) return false;
    quoted = ip->next_proto_id;
    header = rte_ipv4_hdr_len(ip);
    const bool middle = (ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)) != 0;
    if (middle && quoted == IPPROTO_UDP) return false;
  } else {
    if (quote.size() < header) return false;
    quoted = reinterpret_cast<const rte_ipv6_hdr*>(quote.data())->proto;
  }
  if (quoted == IPPROTO_ESP) return true;
  return quoted == IPPROTO_UDP && quote.size() >= header + 2U &&
         (quote[header] << 8U | quote[header + 1]) == kNatTraversalPort;
}

Verdict ClassifyInbound(Packet& packet) noexcept {
  const auto outer = ReadOuter(packet);
  if (!outer) return Verdict::malformed;
  // A fragment may be a piece of ESP; no part of it is ever read as ESP. Fragments of anything else
  // are cleartext.
  if (outer->fragment && (outer->protocol == IPPROTO_ESP || outer->protocol == IPPROTO_UDP)) {
    return Verdict::fragment;
  }
  switch (outer->protocol) {
    case IPPROTO_ESP:
      return ReadEsp(packet, outer->transport);
    case IPPROTO_UDP:
      return outer->fragment ? Verdict::accepted : ReadUdp(packet, outer->transport);
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      if (!outer->fragment && QuotesOurs(outer->transport, outer->protocol, outer->v4)) {
        packet.kind = Kind::icmp_error;
        packet.esp = static_cast<uint16_t>(outer->transport.data() - packet.At(0));
        packet.esp_length = static_cast<uint16_t>(outer->transport.size());
      }
      return Verdict::accepted;
    default:
      return Verdict::accepted;
  }
}

// Nearly every packet: bare ESP, whole, right behind an IPv4 header without options or tags, to one
// station. False: anything else, also wrong.
bool ParsePlainEsp(Packet& packet) noexcept {
  constexpr uint16_t kIpAt = sizeof(rte_ether_hdr);
  constexpr uint16_t kEspAt = kIpAt + sizeof(rte_ipv4_hdr);
  const uint16_t size = rte_pktmbuf_data_len(packet.mbuf);
  if (packet.mbuf->nb_segs != 1 || size < kEspAt + sizeof(EspHeader)) return false;
  const auto* ether = reinterpret_cast<const rte_ether_hdr*>(packet.data);
  const PlainIpv4 ip(packet.At(kIpAt));
  const uint16_t length = ip.length();
  if (ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) ||
      (ether->dst_addr.addr_bytes[0] & RTE_ETHER_GROUP_ADDR) != 0 || !ip.IsPlain() ||
      ip.protocol() != IPPROTO_ESP || length < sizeof(rte_ipv4_hdr) + sizeof(EspHeader) ||
      length > size - kIpAt || !ip.ChecksumValid()) {
    return false;
  }
  packet.kind = Kind::esp;
  packet.l3 = kIpAt;
  packet.esp = kEspAt;
  packet.esp_length = static_cast<uint16_t>(length - sizeof(rte_ipv4_hdr));
  packet.outer_traffic_class = ip.traffic_class();
  return true;
}

// A flood of fragments must cost no memory: the first line comes before reassembly.
Verdict ParseFragment(Worker& worker, Packet& packet) noexcept {
  packet.kind = Kind::fragment;
  if (const Verdict first = PrefilterFragment(worker, packet); first != Verdict::accepted) {
    return first;
  }
  if (worker.reassembler() == nullptr) return Verdict::fragment;
  // One worker sees all fragments, whoever received them.
  if (worker.index() != Reassembler::kWorker) {
    return worker.HandOff(packet, Reassembler::kWorker) ? kTaken : Verdict::handoff_full;
  }
  packet.kind = Kind::clear;
  return worker.reassembler()->Complete(packet, worker) ? ClassifyInbound(packet) : kTaken;
}

// All the others.
__rte_noinline Verdict ParseAny(Worker& worker, Packet& packet) noexcept {
  if (rte_pktmbuf_linearize(packet.mbuf) != 0) return Verdict::no_buffer;
  packet.kind = Kind::not_ip;
  const uint8_t version = FindIp(packet);
  if (version == 0) return Verdict::accepted;
  packet.kind = Kind::clear;
  if (!HasVersion(packet.From(packet.l3), version)) return Verdict::malformed;
  const Verdict verdict = ClassifyInbound(packet);
  return verdict == Verdict::fragment ? ParseFragment(worker, packet) : verdict;
}

}  // namespace

void ParseInbound(Worker& worker, Burst& burst) noexcept {
  worker.Filter(burst, [&](Packet& packet) {
    if (ParsePlainEsp(packet)) return Verdict::accepted;
    burst.plain = false;
    return ParseAny(worker, packet);
  });
}

void ParseOutbound(Worker& worker, Burst& burst) noexcept {
  worker.Filter(burst, [&](Packet& packet) {
    if (rte_pktmbuf_linearize(packet.mbuf) != 0) return Verdict::no_buffer;
    packet.kind = Kind::not_ip;
    const uint8_t version = FindIp(packet);
    if (version == 0) return Verdict::accepted;
    packet.kind = Kind::clear;
    if (!HasVersion(packet.From(packet.l3), version) ||
        ReadFlow(packet.From(packet.l3), packet.flow) != Verdict::accepted) {
      return Verdict::malformed;
    }
    // Ethernet pads short frames; the packet ends where its header says.
    packet.Cut(0, static_cast<uint16_t>(packet.l3 + packet.flow.length));
    return Verdict::accepted;
  });
}

}  // namespace portcullis
