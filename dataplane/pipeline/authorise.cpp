// Authentic is not authorised: may this peer send this inner packet? Its grant first, then the SA's
// selectors (RFC 4301 5.2 step 4), then the policy: the source must be the peer's own, and a rule
// must admit the packet.
#include "dataplane/esp/header.hpp"
#include "dataplane/packet/rewrite.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// The inner packet's own idea of itself must agree with the ESP trailer's.
Verdict ReadInner(Packet& packet) noexcept {
  if (packet.next_header == kNextHeaderDummy) return Verdict::dummy;
  const bool v4 = packet.next_header == kNextHeaderIpv4;
  if (!v4 && packet.next_header != kNextHeaderIpv6) return Verdict::inner_malformed;
  if (ReadFlow({packet.At(packet.inner), packet.payload_length}, packet.flow) !=
          Verdict::accepted ||
      packet.flow.is_v4 != v4) {
    return Verdict::inner_malformed;
  }
  // RFC 1812 5.2.2: a router does not pass on a broken header.
  if (v4 && !Ipv4ChecksumValid(packet.At(packet.inner))) return Verdict::inner_malformed;
  return Verdict::accepted;
}

}  // namespace

void Authorise(Worker& worker, Burst& burst) noexcept {
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.sa == nullptr) return Verdict::accepted;  // a bypass rule was its authority
    const Sa& sa = *packet.sa;
    if (const Verdict verdict = ReadInner(packet); verdict != Verdict::accepted) return verdict;
    if (!sa.peer->granted()) return Verdict::grant_expired;
    if (!AnyMatches(sa.selectors, packet.flow, Direction::inbound)) {
      return Verdict::selector_mismatch;
    }
    const Snapshot& policy = *worker.snapshot();
    if (policy.PeerOf(packet.flow.source) != sa.peer ||
        !AnyMatches(policy.PolicyOf(*sa.peer).rules, packet.flow, Direction::inbound)) {
      return Verdict::no_policy;
    }
    return Verdict::accepted;
  });
}

}  // namespace portcullis
