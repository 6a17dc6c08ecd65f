// One writer per SA: a packet goes to the worker that owns its SA. There it starts again at parse,
// so nothing that this worker learnt travels with it, and no reference to an SA does.
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {

void Handoff(Worker& worker, Burst& burst) noexcept {
  if (worker.config().workers.count == 1) return;
  worker.Filter(burst, [&](Packet& packet) {
    const unsigned owner = packet.sa == nullptr ? worker.index() : packet.sa->worker;
    if (owner == worker.index()) return Verdict::accepted;
    return worker.HandOff(packet, owner) ? kTaken : Verdict::handoff_full;
  });
}

}  // namespace portcullis
