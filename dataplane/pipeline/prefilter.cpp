// The first line of defence on ports that DPDK owns whole: what cannot be legitimate ends before
// anything is spent on it. Where there is an XDP program it has done this, by the same policy and
// with the same verdicts, in the same order (bpf/): cheap first. Outer headers only.
#include "dataplane/pipeline/prefilter.hpp"

#include <netinet/in.h>
#include <rte_ether.h>
#include <rte_prefetch.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "bpf/shared.h"
#include "dataplane/esp/header.hpp"
#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/outer.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

using Standing = SourceTable::Standing;

bool IsArp(const Packet& packet) noexcept {
  const auto* type = reinterpret_cast<const be16*>(packet.data + packet.l3 - sizeof(be16));
  return type->host() == RTE_ETHER_TYPE_ARP;
}

bool ToGroup(const Packet& packet) noexcept {
  return (packet.data[0] & RTE_ETHER_GROUP_ADDR) != 0;
}

bool ToOwn(Worker& worker, const Packet& packet) noexcept {
  return IsOwn(worker, packet.mbuf->port, DestinationOf(packet));
}

bool ToOrFromProtected(Worker& worker, const Packet& packet) noexcept {
  return IsProtected(*worker.snapshot(), DestinationOf(packet)) ||
         IsProtected(*worker.snapshot(), SourceOf(packet));
}

// Whatever goes on into the pipeline. What another worker hands over was counted there.
Verdict JudgeSource(Worker& worker, const Packet& packet) noexcept {
  const SourceTable& line = *worker.sources();
  if (!line.judges_packets() || worker.handed_over()) return Verdict::accepted;
  const Address source = SourceOf(packet);
  if (!line.Admits(line.Of(source))) return Verdict::source_denied;
  if (!line.limits_packets()) return Verdict::accepted;
  uint64_t& due = worker.source_buckets().packets.At(line.OneOf(source));
  return SourceBuckets::Take(line.packets(), due, worker.now()) ? Verdict::accepted
                                                                : Verdict::source_limited;
}

bool IsIcmp(const Outer& outer) noexcept {
  return outer.protocol == (outer.v4 ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6});
}

// As far as it is read here.
size_t HeaderSize(uint8_t protocol) noexcept {
  if (protocol == IPPROTO_TCP) return sizeof(rte_tcp_hdr);
  return HasPorts(protocol) ? sizeof(rte_udp_hdr) : 0;
}

// Of a transport header that is whole.
uint16_t PortOf(const Outer& outer) noexcept {
  if (!HasPorts(outer.protocol)) return 0;
  return reinterpret_cast<const be16*>(outer.transport.data())[1].host();
}
bool Begins(const Outer& outer) noexcept {
  const auto* tcp = reinterpret_cast<const rte_tcp_hdr*>(outer.transport.data());
  return outer.protocol == IPPROTO_UDP ||
         (outer.protocol == IPPROTO_TCP &&
          (tcp->tcp_flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG)) == RTE_TCP_SYN_FLAG);
}

// All strangers together never use up what those need whom a rule names. Their bucket is looked at
// first: as long as it is empty, a flood from random sources makes no buckets.
Verdict JudgeHandshake(Worker& worker, const Address& source, Standing standing) noexcept {
  const SourceTable& line = *worker.sources();
  SourceBuckets& used = worker.source_buckets();
  const uint64_t now = worker.now();
  const bool stranger = standing != Standing::admitted;
  if (stranger && !SourceBuckets::Admits(line.strangers(), used.strangers, now)) {
    return Verdict::handshake_limited;
  }
  if (line.limits_handshakes() &&
      !SourceBuckets::Take(line.handshakes(), used.handshakes.At(line.OneOf(source)), now)) {
    return Verdict::handshake_limited;
  }
  if (stranger) SourceBuckets::Take(line.strangers(), used.strangers, now);
  return Verdict::accepted;
}

// The host's own, where policy tells its services apart.
Verdict JudgeService(Worker& worker, const Outer& outer, const Address& source,
                     Standing standing) noexcept {
  const SourceTable& line = *worker.sources();
  if (IsIcmp(outer)) return Verdict::accepted;
  // Port and flags may be in another piece, and behind other headers (RFC 1858, RFC 7112).
  if (outer.fragment) return Verdict::fragment;
  if (outer.transport.size() < HeaderSize(outer.protocol)) return Verdict::malformed;
  const bool begins = Begins(outer);
  // What neither begins nor belongs to a connection, the kernel's TCP refuses.
  if (outer.protocol == IPPROTO_TCP && !begins) return Verdict::accepted;
  const uint16_t port = PortOf(outer);
  if (begins && line.IsSession(outer.protocol, port)) {
    return JudgeHandshake(worker, source, standing);
  }
  return line.whole_host() || line.IsOpen(outer.protocol, port) ? Verdict::accepted
                                                                : Verdict::host_denied;
}

// Addressed to the host itself, and neither protected nor about it.
Verdict JudgeHosts(Worker& worker, Packet& packet) noexcept {
  const SourceTable& line = *worker.sources();
  const auto outer = ReadOuter(packet);
  // A source route leads on from here (RFC 791 3.1); no other option is worth being told apart.
  if (!outer || outer->options) return Verdict::not_for_us;
  const Address source = SourceOf(packet);
  const Standing standing = line.Of(source);
  if (!line.Admits(standing)) return Verdict::source_denied;
  return line.judges_services() ? JudgeService(worker, *outer, source, standing)
                                : Verdict::accepted;
}

__rte_noinline Verdict JudgeOther(Worker& worker, Packet& packet) noexcept {
  if (packet.kind == Kind::not_ip) return IsArp(packet) ? Verdict::accepted : Verdict::not_for_us;
  if (IsNeighbourDiscovery(worker, packet)) return Verdict::accepted;
  if (ToGroup(packet)) return Verdict::not_for_us;
  const bool own = ToOwn(worker, packet);
  if (own && packet.kind != Kind::clear) {
    if (packet.kind == Kind::fragment && worker.reassembler() == nullptr) return Verdict::fragment;
    return JudgeSource(worker, packet);
  }
  if (ToOrFromProtected(worker, packet)) {
    return worker.snapshot()->bypasses.empty() ? Verdict::cleartext_denied
                                               : JudgeSource(worker, packet);
  }
  return own ? JudgeHosts(worker, packet) : Verdict::not_for_us;
}

// What XDP knows as well; the stage replay_check knows the whole window.
bool IsStale(const Packet& packet, const Sa& sa) noexcept {
  const auto* esp = reinterpret_cast<const EspHeader*>(packet.At(packet.esp));
  const auto oldest = static_cast<uint32_t>(sa.oldest.load(std::memory_order_relaxed));
  return portcullis_is_stale(oldest, esp->sequence.host()) != 0;
}

// The endpoint is its owner's to write: while an IPv6 peer moves, one of its packets may be taken
// for a stranger's.
bool IsThrottled(Worker& worker, const Packet& packet, Sa& sa) noexcept {
  return sa.suspicion.Holds(worker.now()) && !worker.handed_over() &&
         SourceOf(packet) != sa.endpoint.address() &&
         !sa.suspicion.AdmitsStranger(worker.now(), worker.tsc_hz());
}

Verdict JudgeEsp(Worker& worker, Packet& packet) noexcept {
  Sa* sa = worker.state().FindInbound(SpiOf(packet));
  const bool known = sa != nullptr && sa->local == DestinationOf(packet);
  if (ToGroup(packet) || (!known && !ToOwn(worker, packet))) return JudgeOther(worker, packet);
  if (sa == nullptr) return Verdict::accepted;  // find_sa tells it
  if (IsStale(packet, *sa)) return Verdict::stale;
  if (const Verdict source = JudgeSource(worker, packet); source != Verdict::accepted) {
    return source;
  }
  return IsThrottled(worker, packet, *sa) ? Verdict::auth_throttled : Verdict::accepted;
}

}  // namespace

void Prefilter(Worker& worker, Burst& burst) noexcept {
  const SourceTable* line = worker.sources();
  if (line == nullptr) return;
  const bool judges_esp = line->judges_packets() || worker.now() < worker.suspects_until();
  if (!judges_esp && burst.plain) return;
  if (judges_esp) {
    for (const Packet& packet : burst.all()) {
      if (packet.kind == Kind::esp) rte_prefetch0(worker.state().InboundSlot(SpiOf(packet)));
    }
  }
  worker.Filter(burst, [&](Packet& packet) {
    if (!worker.PortOf(packet).NeedsPrefilter()) return Verdict::accepted;
    return packet.kind == Kind::esp ? JudgeEsp(worker, packet) : JudgeOther(worker, packet);
  });
}

Verdict PrefilterFragment(Worker& worker, Packet& packet) noexcept {
  if (worker.sources() == nullptr || !worker.PortOf(packet).NeedsPrefilter()) {
    return Verdict::accepted;
  }
  return JudgeOther(worker, packet);
}

Verdict JudgeUnknownEsp(Worker& worker, const Packet& packet) noexcept {
  if (worker.sources() == nullptr || !worker.PortOf(packet).NeedsPrefilter() ||
      ToOwn(worker, packet)) {
    return Verdict::unknown_spi;
  }
  if (!ToOrFromProtected(worker, packet)) return Verdict::not_for_us;
  return worker.snapshot()->bypasses.empty() ? Verdict::cleartext_denied : Verdict::unknown_spi;
}

}  // namespace portcullis
