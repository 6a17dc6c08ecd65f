// What can become of a packet. This list is the only one: the enum, the counters, the metric
// labels, the REST and CLI output and the table in the docs all come from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

// X(name, text for people)
#define PORTCULLIS_VERDICTS(X)                                                                 \
  X(accepted, "passed every check and was forwarded")                                          \
  X(bypassed, "cleartext that an explicit bypass rule admits")                                 \
  X(exception, "the host's own traffic, handed to the exception port")                         \
  X(keepalive, "a NAT keepalive (RFC 3948 2.3), absorbed")                                     \
  X(icmp_consumed, "an ICMP error about our own ESP, used for path MTU and absorbed")          \
  X(malformed, "outer headers that contradict each other or the frame")                        \
  X(inner_malformed, "the decrypted packet's headers contradict its length or its type")       \
  X(fragment, "an IP fragment where fragments are not processed")                              \
  X(frag_timeout, "a fragment whose siblings did not come in time or exceeded their quota")    \
  X(cleartext_denied, "unprotected traffic that no bypass rule admits")                        \
  X(unknown_spi, "ESP for a security association that does not exist here")                    \
  X(sa_expired, "the security association is past its hard lifetime")                          \
  X(replayed, "a sequence number that was already accepted")                                   \
  X(stale, "a sequence number left of the replay window, or implausibly far ahead")            \
  X(auth_failed, "the integrity check value is wrong")                                         \
  X(auth_throttled, "a suspect security association's budget for integrity checks is used up") \
  X(dummy, "a dummy packet for traffic flow confidentiality (RFC 4303 2.6), discarded")        \
  X(selector_mismatch, "the inner packet is outside the security association's selectors")     \
  X(not_registered, "only after registration, and the peer is not registered now")             \
  X(no_policy, "no policy rule admits this packet")                                            \
  X(grant_expired, "the peer's grant is past its deadline or was revoked")                     \
  X(rate_limited, "above the contracted rate of the security association or the peer")         \
  X(ecn_illegal, "congestion mark on a packet that is not ECN-capable (RFC 6040 4.2)")         \
  X(ttl_expired, "the inner packet's TTL or hop limit is used up")                             \
  X(too_big, "larger than the path MTU and not to be fragmented")                              \
  X(no_route, "the kernel has no route for the destination")                                   \
  X(no_neighbour, "the next hop's link-layer address was not resolved in time")                \
  X(seq_exhausted, "the outbound sequence number space is used up (RFC 4303 3.3.3)")           \
  X(handoff_full, "the ring to the worker that owns the security association is full")         \
  X(no_buffer, "no packet buffer, or no room in it for the ESP framing")                       \
  X(queue_full, "the transmit queue or the queue for unresolved neighbours is full")           \
  X(crypto_error, "the crypto engine refused the operation")

namespace portcullis {

enum class Verdict : uint8_t {
#define PORTCULLIS_X(name, text) name,
  PORTCULLIS_VERDICTS(PORTCULLIS_X)
#undef PORTCULLIS_X
};

struct VerdictInfo {
  std::string_view name;
  std::string_view text;
};

inline constexpr auto kVerdicts = std::to_array<VerdictInfo>({
#define PORTCULLIS_X(name, text) {#name, text},
    PORTCULLIS_VERDICTS(PORTCULLIS_X)
#undef PORTCULLIS_X
});
inline constexpr size_t kVerdictCount = kVerdicts.size();

constexpr const VerdictInfo& Info(Verdict v) {
  return kVerdicts[static_cast<size_t>(v)];
}

}  // namespace portcullis
