// Authentic is not authorised: may this peer send this inner packet? Its grant first, then the SA's
// selectors (RFC 4301 5.2 step 4), then the policy: the source must be the peer's own, and a rule
// must admit the packet. A flow that was judged before, and routed, is known
// (state/flow_cache.hpp).
#include <array>

#include "dataplane/esp/header.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// The inner packet's own idea of itself must agree with the ESP trailer's.
Verdict ReadInner(Packet& packet) noexcept {
  if (packet.next_header == kNextHeaderDummy) return Verdict::dummy;
  const bool v4 = packet.next_header == kNextHeaderIpv4;
  if (!v4 && packet.next_header != kNextHeaderIpv6) return Verdict::inner_malformed;
  if (ReadFlow({packet.At(packet.inner), packet.payload_length}, packet.flow) !=
          Verdict::accepted ||
      packet.flow.is_v4 != v4) {
    return Verdict::inner_malformed;
  }
  return Verdict::accepted;
}

__rte_noinline Verdict Judge(const Snapshot& policy, const Sa& sa, const Flow& flow) noexcept {
  if (const Verdict carried = sa.Carries(flow, Direction::inbound); carried != Verdict::accepted) {
    return carried;
  }
  const auto* peer = policy.PeerOf(flow.source);
  const bool admitted = peer != nullptr && peer == sa.peer &&
                        AnyMatches(policy.PolicyOf(*peer).rules, flow, Direction::inbound);
  return admitted ? Verdict::accepted : Verdict::no_policy;
}

}  // namespace

void Authorise(Worker& worker, Burst& burst) noexcept {
  std::array<const FlowCache::Bucket*, Burst::kMost> buckets;
  unsigned sought = 0;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;  // a bypass rule was its authority
    if (const Verdict verdict = ReadInner(packet); verdict != Verdict::accepted) return verdict;
    const Sa& sa = *packet.sa;
    if (!sa.peer->granted()) return Verdict::grant_expired;
    if (!FlowCache::Holds(packet.flow)) {
      buckets[sought++] = nullptr;
    } else if (sa.last.Is(packet.flow, sa.serial, worker.view())) {
      packet.next_hop = sa.last.hop;
    } else {
      buckets[sought++] = &worker.flows().BucketOf(packet.flow, sa.serial);
    }
    return Verdict::accepted;
  });
  if (sought == 0) return;

  unsigned i = 0;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr || packet.next_hop != nullptr) return Verdict::accepted;
    const Sa& sa = *packet.sa;
    const FlowCache::Bucket* const bucket = buckets[i++];
    const FlowCache::Entry* const entry =
        bucket == nullptr ? nullptr : bucket->Find(packet.flow, sa.serial, worker.view());
    if (entry == nullptr) return Judge(*worker.snapshot(), sa, packet.flow);
    packet.next_hop = entry->hop;
    return Verdict::accepted;
  });
}

}  // namespace portcullis
