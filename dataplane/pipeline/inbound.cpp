// The way in: from the wire to the trusted side. Order matters. The window is checked before crypto
// is spent, and moved only after the ICV was found valid; selectors see only decrypted packets.
#include <array>

#include "dataplane/pipeline/pipeline.hpp"

namespace portcullis {

static constexpr std::array kInbound = {
    Stage{"parse", ParseInbound},          // what kind of packet is it
    Stage{"prefilter", Prefilter},         // the first line, where no XDP program has been it
    Stage{"find_sa", FindSa},              // SPI → security association; cleartext ends here
    Stage{"handoff", Handoff},             // to the worker that owns the SA
    Stage{"replay_check", ReplayCheck},    // left of the window, or seen
    Stage{"open", Open},                   // verify the ICV, decrypt
    Stage{"replay_commit", ReplayCommit},  // test again, mark as seen, count the lifetime
    Stage{"authorise", Authorise},         // selectors of the SA, rules of the policy, grant
    Stage{"police", PoliceInbound},        // contracted rate of SA and peer
    Stage{"forward", ForwardInbound},      // ECN, TTL, route, send
};

std::span<const Stage> InboundStages() {
  return kInbound;
}

void Inbound(Worker& worker, Burst& burst) noexcept {
  for (const Stage& stage : kInbound) {
    if (burst.empty()) return;
    stage.run(worker, burst);
  }
}

}  // namespace portcullis
