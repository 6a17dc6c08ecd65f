// The way out: from the trusted side to the wire. Nothing leaves that no rule admits, and nothing
// leaves in the clear except by a bypass rule.
#include <array>

#include "dataplane/pipeline/pipeline.hpp"

namespace portcullis {

static constexpr std::array kOutbound = {
    Stage{"parse", ParseOutbound},      // addresses, protocol, ports
    Stage{"select_sa", SelectSa},       // whose packet, which rule, which security association
    Stage{"handoff", Handoff},          // to the worker that owns the SA
    Stage{"police", PoliceOutbound},    // contracted rate of SA and peer
    Stage{"seal", Seal},                // TTL, path MTU, sequence number, encrypt
    Stage{"forward", ForwardOutbound},  // route of the tunnel, send
};

std::span<const Stage> OutboundStages() {
  return kOutbound;
}

void Outbound(Worker& worker, Burst& burst) noexcept {
  for (const Stage& stage : kOutbound) {
    if (burst.empty()) return;
    stage.run(worker, burst);
  }
}

}  // namespace portcullis
