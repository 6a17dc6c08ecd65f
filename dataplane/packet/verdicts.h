/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What can become of a packet. This list is the only one: the enum, the counters, the metric
 * labels, the REST and CLI output and the table in the docs all come from it, and the XDP program
 * (C, no libc) counts by the same names.
 */
#pragma once

/* X(name, text for people) */
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
  X(not_for_us, "addressed to nobody here")                                                    \
  X(source_denied, "from a source that the first line does not admit")                         \
  X(source_limited, "above what one source prefix may send to the gate")                       \
  X(handshake_limited, "above what one source prefix, or all strangers together, may begin")   \
  X(not_tls, "a connection to a port of sessions that does not begin with TLS")                \
  X(host_denied, "to a service of the host's own that is not open on this side")               \
  X(no_socket, "for a dataplane that is not there")                                            \
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

/* Those that the first line of defence gives, by XDP or, on ports that DPDK owns whole, as the
 * pipeline's own stage. XDP's are shown with the prefix xdp_; there `accepted` is what went on to
 * the dataplane and `exception` what went to the kernel.
 */
#define PORTCULLIS_FIRST_LINE_VERDICTS(X) \
  X(accepted)                             \
  X(exception)                            \
  X(malformed)                            \
  X(fragment)                             \
  X(cleartext_denied)                     \
  X(not_for_us)                           \
  X(source_denied)                        \
  X(source_limited)                       \
  X(handshake_limited)                    \
  X(not_tls)                              \
  X(host_denied)                          \
  X(no_socket)                            \
  X(unknown_spi)                          \
  X(stale)                                \
  X(auth_throttled)
