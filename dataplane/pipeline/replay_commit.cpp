// The ICV was valid: mark the number as seen, count the lifetime, and believe the packet's source.
// The window is asked again, since two copies in one burst both passed the first check. Only then
// is anything decrypted looked at: also a number that came with nonsense is used up (RFC 4303
// 3.4.3), or a recording of it would be decrypted again each time it is sent.
#include "dataplane/esp/header.hpp"
#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/state/lifetime.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// RFC 3948 leaves it open when to believe that a NAT has moved a peer. We do when the packet is
// authentic and newer than all before it: a copy sent from elsewhere can not move the peer.
void FollowEndpoint(Worker& worker, const Packet& packet, Sa& sa) noexcept {
  const Address source = SourceOf(packet);
  if (sa.endpoint.Is(source, packet.outer_port)) return;
  sa.endpoint.Set(source, packet.outer_port);
  if (sa.suspicion.Holds(worker.now())) worker.TellSuspect(sa);
  for (Sa* out : *sa.peer->outbound.load(std::memory_order_acquire)) {
    if (out->tunnel.follow_nat && out->tunnel.udp_encap && packet.outer_port != 0 &&
        out->tunnel.local == sa.tunnel.local) {
      out->endpoint.Set(source, packet.outer_port);
      out->path = {};  // of the endpoint that was
    }
  }
}

// The first line drops what is left of the window. It is told in steps: each is a locked
// instruction on memory that another core reads for every packet.
void MoveEdge(Worker& worker, Sa& sa) noexcept {
  constexpr unsigned kSteps = 8;  // within a window
  const uint64_t oldest = OldestOf(*sa.record);
  if (oldest - sa.oldest.load(std::memory_order_relaxed) <= sa.record->window / kSteps) return;
  sa.oldest.store(oldest, std::memory_order_relaxed);
  worker.TellOldest(sa);
}

// What stands between IV and ICV, decrypted: inner packet, padding, trailer.
Verdict ReadTrailer(Packet& packet, const Sa& sa) noexcept {
  const auto inner = static_cast<uint16_t>(packet.esp + sa.payload_offset);
  const uint32_t length = packet.esp_length - sa.payload_offset - sa.icv_bytes;
  const uint8_t* payload = packet.At(inner);
  EspPayload read;
  packet.payload_length = 0;  // so far
  if (!ReadEspTrailer({payload, length}, read) ||
      !PaddingIsStandard(payload + read.length + read.pad_length, read.pad_length)) {
    return Verdict::inner_malformed;
  }
  packet.inner = inner;
  packet.payload_length = static_cast<uint16_t>(read.length);
  packet.next_header = read.next_header;
  return Verdict::accepted;
}

}  // namespace

void ReplayCommit(Worker& worker, Burst& burst) noexcept {
  Lifetime lifetime;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    Sa& sa = *packet.sa;
    if (!lifetime.Admits(sa)) return Verdict::sa_expired;
    const bool newest = Value(packet.sequence) > sa.record->highest;
    const Verdict verdict = CommitReplay(*sa.record, packet.sequence);
    if (verdict != Verdict::accepted) return verdict;
    if (newest) {
      FollowEndpoint(worker, packet, sa);
      MoveEdge(worker, sa);
    }
    const Verdict trailer = ReadTrailer(packet, sa);
    lifetime.Count(packet.payload_length);
    return trailer;
  });
}

}  // namespace portcullis
