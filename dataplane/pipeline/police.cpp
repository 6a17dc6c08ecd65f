// No peer sends or receives more than was contracted: per SA, and over all SAs of a peer in one
// direction. Both buckets must admit a packet before either is debited.
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// The peer's buckets belong to its worker, which makes them anew when policy changed the rate.
Policer& PeerPolicer(Worker& worker, PeerState& peer, Direction direction) noexcept {
  const Rate& rate = worker.snapshot()->PolicyOf(peer).rate;
  if (!(peer.policed_rate == rate)) {
    peer.policed_rate = rate;
    for (Policer& policer : peer.policers) policer = Policer(rate, worker.tsc_hz());
  }
  return peer.policers[static_cast<size_t>(direction)];
}

void Police(Worker& worker, Burst& burst, Direction direction) noexcept {
  const uint64_t now = worker.now();
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    Policer& of_sa = packet.sa->policer;
    Policer& of_peer = PeerPolicer(worker, *packet.sa->peer, direction);
    const uint32_t bytes = packet.flow.length;
    if (!of_sa.Admits(now, bytes) || !of_peer.Admits(now, bytes)) return Verdict::rate_limited;
    of_sa.Debit(now, bytes);
    of_peer.Debit(now, bytes);
    return Verdict::accepted;
  });
}

}  // namespace

void PoliceInbound(Worker& worker, Burst& burst) noexcept {
  Police(worker, burst, Direction::inbound);
}
void PoliceOutbound(Worker& worker, Burst& burst) noexcept {
  Police(worker, burst, Direction::outbound);
}

}  // namespace portcullis
