// Verify the ICV and decrypt. Before that, what a flood of forgeries may cost is bounded: see
// state/auth_budget.hpp.
#include <rte_cycles.h>

#include <algorithm>
#include <array>

#include "dataplane/esp/sequence.hpp"
#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

void Throttle(Worker& worker, Burst& burst) noexcept {
  const bool capped = !worker.failure_cycles().Admits(worker.now(), 0);
  if (!capped && worker.now() >= worker.any_suspect_until()) return;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    Sa& sa = *packet.sa;
    const bool suspect = sa.auth.Suspect(worker.now());
    if (!suspect && !capped) return Verdict::accepted;
    const bool own = sa.endpoint.Is(SourceOf(packet), packet.outer_port);
    if (!suspect && own) return Verdict::accepted;
    // The first line can drop strangers before they cost anything. Then it is mostly the peer's own
    // packets that come here, so they remind it, too.
    worker.TellSuspect(sa);
    return sa.auth.Admits(worker.now(), own, capped) ? Verdict::accepted : Verdict::auth_throttled;
  });
}

}  // namespace

void Open(Worker& worker, Burst& burst) noexcept {
  Throttle(worker, burst);

  std::array<CryptoOp, Burst::kMost> ops;
  unsigned count = 0;
  for (const Packet& packet : burst.all()) {
    if (packet.sa == nullptr) continue;
    ops[count++] = {.key = packet.sa->key,
                    .esp = packet.At(packet.esp),
                    .length = packet.esp_length,
                    .esn_high = High(packet.sequence),
                    .algorithm = packet.sa->algorithm,
                    .esn = packet.sa->esn};
  }
  if (count == 0) return;
  const uint64_t before = rte_rdtsc();
  worker.engine().Open(std::span(ops).first(count));
  // Time that the kernel took away in between is not the packets' fault.
  constexpr uint64_t kMostCycles = 50'000;
  const uint64_t cycles_each = std::min((rte_rdtsc() - before) / count, kMostCycles);

  unsigned i = 0;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;
    if (ops[i++].ok) return Verdict::accepted;
    // What goes beyond the share is not owed: the cap ends as soon as the flood does.
    Bucket& share = worker.failure_cycles();
    if (share.Admits(worker.now(), 0)) share.Debit(worker.now(), cycles_each);
    packet.sa->auth.Failed(worker.now());
    worker.NoteSuspect(packet.sa->auth.suspect_until());
    return Verdict::auth_failed;
  });
}

}  // namespace portcullis
