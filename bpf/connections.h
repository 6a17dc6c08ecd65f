/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* TCP connections to the ports of sessions, where the guard listens. Those on which it knows who is
 * there are a class of their own, without limits here: nobody who floods its port, from whatever
 * address, takes anything from them. All others have what handshakes need, and begin with TLS.
 */
#pragma once

#include "limits.h"

#define TLS_HANDSHAKE 22 /* RFC 8446 5.1 */
#define TLS_MAJOR 3

/* What the guard has said of it (shared.h). Of a connection that is not there yet the kernel finds
 * the listener, which never has this priority. */
static __always_inline int is_authenticated(struct xdp_md* ctx, const struct packet* p,
                                            const struct tcp_header* tcp) {
  struct bpf_sock_tuple tuple = {};
  __u32 size = sizeof(tuple.ipv4);
  if (p->is_v6) {
    size = sizeof(tuple.ipv6);
    __builtin_memcpy(tuple.ipv6.saddr, p->source.bytes, 16);
    __builtin_memcpy(tuple.ipv6.daddr, p->destination.bytes, 16);
    tuple.ipv6.sport = tcp->source;
    tuple.ipv6.dport = tcp->destination;
  } else {
    __builtin_memcpy(&tuple.ipv4.saddr, &p->source.bytes[12], 4);
    __builtin_memcpy(&tuple.ipv4.daddr, &p->destination.bytes[12], 4);
    tuple.ipv4.sport = tcp->source;
    tuple.ipv4.dport = tcp->destination;
  }
  struct bpf_sock* sock = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
  if (!sock) return 0;
  int known = sock->priority == PORTCULLIS_AUTHENTICATED_PRIORITY;
  bpf_sk_release(sock);
  return known;
}

static __always_inline void name_connection(struct portcullis_connection* name,
                                            const struct packet* p, const struct tcp_header* tcp) {
  name->source = p->source;
  name->source_port = tcp->source;
  name->port = tcp->destination;
}

/* One that has just been let begin. Forgotten ones may say what they like: the guard hears them. */
static __always_inline void note_beginning(const struct packet* p, const struct tcp_header* tcp) {
  struct portcullis_connection name;
  name_connection(&name, p, tcp);
  __u32 first = bpf_ntohl(tcp->sequence) + 1;
  bpf_map_update_elem(&beginnings, &name, &first, BPF_ANY);
}

/* Whether this segment has a connection's first bytes, and they are no TLS handshake's: as much of
 * a record's type and version as there is. */
static __always_inline int begins_otherwise(const struct packet* p, const struct tcp_header* tcp,
                                            void* end) {
  struct portcullis_connection name;
  name_connection(&name, p, tcp);
  const __u32* first = bpf_map_lookup_elem(&beginnings, &name);
  if (!first || *first != bpf_ntohl(tcp->sequence)) return 0;
  __u32 header = (tcp->offset >> 4) * 4;
  if (header >= p->payload_length) return 0;
  const __u8* bytes = (const __u8*)tcp + header;
  if ((void*)(bytes + 1) > end) return 0;
  if (bytes[0] != TLS_HANDSHAKE) return 1;
  return p->payload_length > header + 1 && (void*)(bytes + 2) <= end && bytes[1] != TLS_MAJOR;
}

/* A segment that begins nothing, to a port of sessions. `at`: where its TCP header is in the frame.
 */
VERIFIED_ONCE int judge_segment(struct xdp_md* ctx, const struct packet* p, __u32 at, __u32 slot) {
  void* end = (void*)(long)ctx->data_end;
  const struct tcp_header* tcp = (void*)(long)ctx->data + (at & MAX_HEADERS_MASK);
  struct policy policy;
  if (!p || (void*)(tcp + 1) > end) return PORTCULLIS_COUNT_malformed;
  if (!policy_in(&policy, slot)) return PORTCULLIS_COUNT_not_for_us;
  if (is_authenticated(ctx, p, tcp)) return PORTCULLIS_COUNT_exception;
  const struct portcullis_limit* handshakes = &policy.settings->handshakes;
  const __u64 interval = handshakes->interval_ns / PORTCULLIS_SEGMENTS_PER_HANDSHAKE;
  const struct portcullis_limit segments = {
      .interval_ns = interval,
      .tolerance_ns = handshakes->tolerance_ns + handshakes->interval_ns - interval};
  if (!take_of_source(&newcomer_buckets, &policy, p, &segments)) {
    return PORTCULLIS_COUNT_handshake_limited;
  }
  return begins_otherwise(p, tcp, end) ? PORTCULLIS_COUNT_not_tls : PORTCULLIS_COUNT_exception;
}
