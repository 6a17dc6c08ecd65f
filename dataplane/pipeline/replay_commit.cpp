// The ICV was valid: mark the number as seen, count the lifetime, and believe the packet's source.
// The window is asked again, since two copies in one burst both passed the first check.
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

bool Exhausted(const Sa& sa) noexcept {
  const SaRecord& record = *sa.record;
  return (sa.hard.packets != 0 && record.packets >= sa.hard.packets) ||
         (sa.hard.bytes != 0 && record.bytes >= sa.hard.bytes);
}

// RFC 3948 leaves it open when to believe that a NAT has moved a peer. We do when the packet is
// authentic and newer than all before it: a copy sent from elsewhere can not move the peer.
void FollowEndpoint(const Packet& packet, Sa& sa) noexcept {
  if (sa.endpoint.Is(packet.outer_source, packet.outer_port)) return;
  sa.endpoint.Set(packet.outer_source, packet.outer_port);
  for (Sa* out : *sa.peer->outbound.load(std::memory_order_acquire)) {
    if (out->tunnel.follow_nat && out->tunnel.udp_encap && packet.outer_port != 0) {
      out->endpoint.Set(packet.outer_source, packet.outer_port);
    }
  }
}

}  // namespace

void ReplayCommit(Worker& worker, Burst& burst) noexcept {
  worker.Filter(burst, [](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    Sa& sa = *packet.sa;
    if (Exhausted(sa)) {
      sa.expired.store(true, std::memory_order_relaxed);
      return Verdict::sa_expired;
    }
    const bool newest = Value(packet.sequence) > sa.record->highest;
    const Verdict verdict = CommitReplay(*sa.record, packet.sequence);
    if (verdict != Verdict::accepted) return verdict;
    CountPacket(*sa.record, packet.payload_length);
    if (newest) FollowEndpoint(packet, sa);
    return Verdict::accepted;
  });
}

}  // namespace portcullis
