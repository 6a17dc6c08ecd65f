// No peer sends or receives more than was contracted: per SA, and over all SAs of a peer in one
// direction. Both buckets must admit a packet before either is debited. A run of packets of one SA
// is debited at once where it fits as a whole; the last ones before a bucket is empty, one by one.
#include <array>

#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// The peer's buckets belong to its worker, which makes them anew when policy changed the rate.
Policer& PeerPolicer(Worker& worker, PeerState& peer, Direction direction) noexcept {
  if (peer.policed_view != worker.view()) {
    peer.policed_view = worker.view();
    const Rate& rate = worker.snapshot()->PolicyOf(peer).rate;
    if (!(peer.policed_rate == rate)) {
      peer.policed_rate = rate;
      for (auto& policed : peer.policed) policed.policer = Policer(rate, worker.tsc_hz());
    }
  }
  return peer.policed[static_cast<size_t>(direction)].policer;
}

struct Load {
  uint32_t packets = 0;
  uint32_t bytes = 0;
};

void Police(Worker& worker, Burst& burst, Direction direction) noexcept {
  std::array<bool, Burst::kMost> admitted;
  bool all = true;
  for (unsigned begin = 0; begin < burst.count;) {
    Sa* const sa = burst.packets[begin].sa;
    Load run;
    unsigned end = begin;
    for (; end < burst.count && burst.packets[end].sa == sa; ++end) {
      ++run.packets;
      run.bytes += burst.packets[end].flow.length;
      admitted[end] = true;
    }
    if (sa != nullptr) {
      Policer& of_peer = PeerPolicer(worker, *sa->peer, direction);
      if (!Policer::Take(sa->policer, of_peer, worker.now(), run.packets, run.bytes)) {
        all = false;
        for (unsigned i = begin; i < end; ++i) {
          admitted[i] =
              Policer::Take(sa->policer, of_peer, worker.now(), 1, burst.packets[i].flow.length);
        }
      }
    }
    begin = end;
  }
  if (all) return;
  unsigned i = 0;
  worker.Filter(burst,
                [&](Packet&) { return admitted[i++] ? Verdict::accepted : Verdict::rate_limited; });
}

}  // namespace

void PoliceInbound(Worker& worker, Burst& burst) noexcept {
  Police(worker, burst, Direction::inbound);
}
void PoliceOutbound(Worker& worker, Burst& burst) noexcept {
  Police(worker, burst, Direction::outbound);
}

}  // namespace portcullis
