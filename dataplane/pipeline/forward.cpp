// The last step: route and send. A decrypted packet goes only to the trusted side, a sealed one
// only to the wire; a route that says otherwise is no route.
#include <algorithm>

#include "dataplane/packet/rewrite.hpp"
#include "dataplane/pipeline/icmp_error.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// What no router forwards, whatever the default route says (RFC 1812 5.3.7, RFC 4291 2.4): it would
// mean somebody else behind the next router.
bool LeadsNowhere(const Address& address) noexcept {
  const auto& b = address.bytes();
  if (address.IsV4()) {
    return b[12] == 0 || b[12] == 127 || b[12] >= 224 || (b[12] == 169 && b[13] == 254);
  }
  const bool low = std::all_of(b.begin(), b.end() - 1, [](uint8_t byte) { return byte == 0; });
  return b[0] == 0xff || (b[0] == 0xfe && (b[1] & 0xc0U) == 0x80) || (low && b[15] <= 1);
}

const NextHop* RouteTo(Worker& worker, const Address& destination, bool to_wire) noexcept {
  if (worker.fib() == nullptr || LeadsNowhere(destination)) return nullptr;
  const NextHop* hop = worker.fib()->Lookup(destination);
  if (hop == nullptr) return nullptr;
  const PortRole role = worker.PortById(hop->port).role;
  const bool allowed = to_wire ? role == PortRole::kUntrusted
                               : role == PortRole::kTrusted || role == PortRole::kLocal;
  return allowed ? hop : nullptr;
}

// The route of an inner packet that was admitted. The flow is known from now on.
__rte_noinline const NextHop* RouteInner(Worker& worker, const Packet& packet) noexcept {
  const NextHop* hop = RouteTo(worker, packet.flow.destination, false);
  if (hop == nullptr || packet.sa == nullptr || !FlowCache::Holds(packet.flow)) return hop;
  Sa& sa = *packet.sa;
  sa.last.Set(packet.flow, sa.serial, worker.view(), *hop);
  worker.flows().BucketOf(packet.flow, sa.serial).Place() = sa.last;
  return hop;
}

// What a router does to the inner packet.
Verdict RouteInward(Worker& worker, Packet& packet) noexcept {
  uint8_t* ip = packet.At(packet.inner);
  const Flow& flow = packet.flow;
  if (packet.next_hop == nullptr) packet.next_hop = RouteInner(worker, packet);
  if (packet.next_hop == nullptr) return Verdict::no_route;
  if (packet.sa != nullptr) {
    uint8_t traffic_class = flow.traffic_class;
    if (!CombineEcn(packet.outer_traffic_class, traffic_class)) return Verdict::ecn_illegal;
    if (traffic_class != flow.traffic_class) SetTrafficClass(ip, traffic_class);
  }
  if (!DecrementTtl(ip)) return Verdict::ttl_expired;
  if (flow.length > packet.next_hop->mtu) return Verdict::too_big;
  if (worker.config().mss_clamp && packet.sa != nullptr) {
    ClampMss({ip, flow.length}, flow, packet.next_hop->mtu);
  }
  return Verdict::accepted;
}

// A sealed packet has its route already; bypassed cleartext is routed as it is.
Verdict RouteOutward(Worker& worker, Packet& packet) noexcept {
  if (packet.sa != nullptr) return Verdict::accepted;
  packet.next_hop = RouteTo(worker, packet.flow.destination, true);
  if (packet.next_hop == nullptr) return Verdict::no_route;
  if (packet.flow.length > packet.next_hop->mtu) {
    TellTooBig(worker, packet, packet.next_hop->mtu);
    return Verdict::too_big;
  }
  if (!DecrementTtl(packet.At(packet.l3))) {
    TellTtlExpired(worker, packet);
    return Verdict::ttl_expired;
  }
  return Verdict::accepted;
}

}  // namespace

// The last stage leaves none in the burst: each packet is sent or has ended.
void ForwardInbound(Worker& worker, Burst& burst) noexcept {
  for (Packet& packet : burst.all()) {
    const Verdict verdict = RouteInward(worker, packet);
    // What follows the inner packet is TFC padding (RFC 4303 2.7) and the ESP trailer.
    if (verdict == Verdict::accepted) {
      worker.Send(packet, packet.inner, packet.flow.length, *packet.next_hop);
    } else {
      worker.End(packet, verdict);
    }
  }
  burst.count = 0;
}

void ForwardOutbound(Worker& worker, Burst& burst) noexcept {
  for (Packet& packet : burst.all()) {
    const Verdict verdict = RouteOutward(worker, packet);
    if (verdict == Verdict::accepted) {
      const uint16_t length =
          packet.sa != nullptr ? rte_pktmbuf_data_len(packet.mbuf) : packet.flow.length;
      worker.Send(packet, packet.l3, length, *packet.next_hop);
    } else {
      worker.End(packet, verdict);
    }
  }
  burst.count = 0;
}

}  // namespace portcullis
