// Whose packet is it, does a rule admit it, and which security association carries it? The
// direction server → peer is judged as strictly as the other: a server cannot leak to a peer that
// has no grant.
#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

Verdict Select(const Snapshot& policy, Packet& packet) noexcept {
  PeerState* peer = policy.PeerOf(packet.flow.destination);
  if (peer == nullptr ||
      !AnyMatches(policy.PolicyOf(*peer).rules, packet.flow, Direction::outbound)) {
    return policy.Bypasses(packet.flow, Direction::outbound) ? Verdict::accepted
                                                             : Verdict::no_policy;
  }
  if (!peer->granted()) return Verdict::grant_expired;
  Verdict verdict = Verdict::no_policy;  // a rule, but nothing to protect the packet with
  for (Sa* sa : *peer->outbound.load(std::memory_order_acquire)) {
    if (!AnyMatches(sa->selectors, packet.flow, Direction::outbound)) {
      if (verdict == Verdict::no_policy) verdict = Verdict::selector_mismatch;
    } else if (!sa->usable()) {
      verdict = Verdict::sa_expired;
    } else {
      packet.sa = sa;
      return Verdict::accepted;
    }
  }
  return verdict;
}

}  // namespace

void SelectSa(Worker& worker, Burst& burst) noexcept {
  const Snapshot* policy = worker.snapshot();
  burst.KeepIf([&](Packet& packet) {
    if (ToHost(worker, packet)) return false;
    const Verdict verdict = policy == nullptr || packet.kind == Kind::not_ip
                                ? Verdict::no_policy
                                : Select(*policy, packet);
    if (verdict == Verdict::accepted) return true;
    worker.End(packet, verdict);
    return false;
  });
}

}  // namespace portcullis
