// Whose packet is it, does a rule admit it, and which security association carries it? The
// direction server → peer is judged as strictly as the other: a server cannot leak to a peer that
// has no grant.
#include <array>

#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

constexpr uint64_t kOutbound = 0;  // instead of the serial of the SA that a packet came by

// `version`: of the list that the SA was found in.
Verdict Select(const Snapshot& policy, Packet& packet, uint32_t& version) noexcept {
  PeerState* peer = policy.PeerOf(packet.flow.destination);
  if (peer == nullptr ||
      !AnyMatches(policy.PolicyOf(*peer).rules, packet.flow, Direction::outbound)) {
    return policy.Bypasses(packet.flow, Direction::outbound) ? Verdict::accepted
                                                             : Verdict::no_policy;
  }
  if (!peer->granted()) return Verdict::grant_expired;
  Verdict verdict = Verdict::no_policy;  // a rule, but nothing to protect the packet with
  version = peer->outbound_version.load(std::memory_order_acquire);
  for (Sa* sa : *peer->outbound.load(std::memory_order_acquire)) {
    if (const Verdict carried = sa->Carries(packet.flow, Direction::outbound);
        carried != Verdict::accepted) {
      if (verdict == Verdict::no_policy) verdict = carried;
    } else if (!sa->usable()) {
      verdict = Verdict::sa_expired;
    } else {
      packet.sa = sa;
      return Verdict::accepted;
    }
  }
  return verdict;
}

// A flow that was judged before, and nothing has changed since: not policy, not the peer's SAs, not
// its right, not the SA's lifetime. Whatever has, Select says what follows.
bool SelectKnown(Worker& worker, Packet& packet, const FlowCache::Bucket& bucket) noexcept {
  const FlowCache::Entry* entry = bucket.Find(packet.flow, worker.view());
  if (entry == nullptr ||
      entry->version != entry->peer->outbound_version.load(std::memory_order_acquire) ||
      !entry->peer->granted() || !entry->sa->usable()) {
    return false;
  }
  packet.sa = entry->sa;
  return true;
}

}  // namespace

void SelectSa(Worker& worker, Burst& burst) noexcept {
  std::array<FlowCache::Bucket*, Burst::kMost> buckets;
  for (unsigned i = 0; i < burst.count; ++i) {
    const Packet& packet = burst.packets[i];
    rte_prefetch0_write(packet.data - RTE_CACHE_LINE_SIZE);  // where the outer headers will stand
    const bool held = packet.kind != Kind::not_ip && FlowCache::Holds(packet.flow);
    buckets[i] = held ? &worker.flows().BucketOf(packet.flow, kOutbound) : nullptr;
  }
  const Snapshot* policy = worker.snapshot();
  unsigned i = 0;
  worker.Filter(burst, [&](Packet& packet) {
    FlowCache::Bucket* const bucket = buckets[i++];
    if (ToHost(worker, packet)) return kTaken;
    if (bucket != nullptr && SelectKnown(worker, packet, *bucket)) return Verdict::accepted;
    if (policy == nullptr || packet.kind == Kind::not_ip) return Verdict::no_policy;
    uint32_t version = 0;
    const Verdict verdict = Select(*policy, packet, version);
    if (packet.sa != nullptr && bucket != nullptr) {
      bucket->Place().Set(packet.flow, *packet.sa->peer, version, worker.view(), *packet.sa);
    }
    return verdict;
  });
}

}  // namespace portcullis
