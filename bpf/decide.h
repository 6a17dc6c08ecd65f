/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What becomes of a frame, cheap checks first. judge() only decides; act() counts it and does it.
 * Policy is read where a decision first needs it: `current` once, then everything from that slot.
 */
#pragma once

#include "connections.h"

static __always_inline int is_own(const struct packet* p) {
  __u32 zero = 0;
  const __u64* to = (const void*)p->destination.bytes;
  const __u64* first = bpf_map_lookup_elem(&first_addresses, &zero);
  if (first && (to[0] | to[1])) {
    for (int i = 0; i < PORTCULLIS_FIRST_ADDRESSES; ++i, first += 2) {
      if (first[0] == to[0] && first[1] == to[1]) return 1;
    }
  }
  return bpf_map_lookup_elem(&own_addresses, &p->destination) != 0;
}

static __always_inline int is_protected(const struct policy* policy,
                                        const struct portcullis_address* a) {
  void* nets = bpf_map_lookup_elem(&protected_nets, &policy->slot);
  if (!nets) return 0;
  struct portcullis_prefix key = {.length = 128};
  __builtin_memcpy(key.address, a->bytes, 16);
  const __u8* found = bpf_map_lookup_elem(nets, &key);
  return found && *found;
}

/* The longest prefix decides; enum portcullis_source. */
static __always_inline __u8 source_rule(const struct policy* policy, const struct packet* p) {
  void* rules = bpf_map_lookup_elem(&sources, &policy->slot);
  if (!rules) return PORTCULLIS_STRANGER;
  struct portcullis_prefix key = {.length = 128};
  __builtin_memcpy(key.address, p->source.bytes, 16);
  const __u8* rule = bpf_map_lookup_elem(rules, &key);
  return rule ? *rule : PORTCULLIS_STRANGER;
}

static __always_inline int is_denied(const struct policy* policy, __u8 rule) {
  return rule == PORTCULLIS_DENIED ||
         (rule == PORTCULLIS_STRANGER && policy->settings->deny_strangers);
}

/* Whether this source may begin a session. The bucket of all strangers together is looked at before
 * one for this source is made: a flood from everywhere empties it at once, and costs no more. */
static __always_inline int may_begin(const struct policy* policy, const struct packet* p,
                                     __u8 rule) {
  const struct portcullis_settings* s = policy->settings;
  __u32 zero = 0;
  __u64* strangers = 0;
  if (rule != PORTCULLIS_ADMITTED && s->strangers.interval_ns) {
    strangers = bpf_map_lookup_elem(&stranger_bucket, &zero);
    __u64 now = bpf_ktime_get_ns();
    if (!strangers || due_of(strangers, now, &s->strangers) > now + s->strangers.tolerance_ns) {
      return 0;
    }
  }
  return take_of_source(&handshake_buckets, policy, p, &s->handshakes) &&
         (!strangers || take(strangers, bpf_ktime_get_ns(), &s->strangers));
}

/* By SPI and sequence number alone. The entry is read once: it may be changing. */
static __always_inline int judge_esp(const struct esp_header* esp) {
  __u32 index = bpf_ntohl(esp->spi) & spi_mask;
  const volatile __u64* entry = bpf_map_lookup_elem(&spis, &index);
  union {
    __u64 word;
    struct portcullis_spi spi;
  } known = {.word = entry ? *entry : 0};
  if (known.spi.spi != esp->spi || esp->spi == 0) return PORTCULLIS_COUNT_unknown_spi;
  return portcullis_is_stale(known.spi.oldest, bpf_ntohl(esp->sequence))
             ? PORTCULLIS_COUNT_stale
             : PORTCULLIS_COUNT_accepted;
}

/* A stranger's packet while the SA is suspect, beyond what strangers have then. */
static __always_inline int is_throttled(__be32 spi, const struct packet* p) {
  struct portcullis_suspect* suspect = bpf_map_lookup_elem(&suspects, &spi);
  if (!suspect) return 0;
  __u64 now = bpf_ktime_get_ns();
  if (now >= suspect->until) return 0;
  const __u64* endpoint = (const void*)suspect->endpoint.bytes;
  const __u64* source = (const void*)p->source.bytes;
  if (endpoint[0] == source[0] && endpoint[1] == source[1]) return 0;
  const __u64 interval = 1000000000 / PORTCULLIS_STRANGERS_PER_SECOND;
  const struct portcullis_limit limit = {
      .interval_ns = interval, .tolerance_ns = (PORTCULLIS_STRANGERS_BURST - 1) * interval};
  return !take(&suspect->due, now, &limit);
}

static __always_inline int is_link_local(const struct portcullis_address* a) {
  return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

/* Neighbour discovery: RFC 4861's messages, from this link (hop limit 255), whole (RFC 6980), and
 * to a destination that no router may lead further. */
static __always_inline int is_neighbour_discovery(const struct packet* p, void* end) {
  if (!p->is_v6 || p->protocol != IPPROTO_ICMPV6 || p->fragment || p->hop_limit != 255) return 0;
  __u8* type = p->payload;
  if ((void*)(type + 1) > end || !p->payload_length || *type < 133 || *type > 137) return 0;
  const __u8* to = p->destination.bytes;
  return (to[0] == 0xff && to[1] == 0x02) || is_link_local(&p->destination) || is_own(p);
}

/* For the dataplane, if its source may send so much. */
static __always_inline int to_dataplane(const struct policy* policy, const struct packet* p) {
  if (is_denied(policy, source_rule(policy, p))) return PORTCULLIS_COUNT_source_denied;
  if (!take_of_source(&packet_buckets, policy, p, &policy->settings->packets)) {
    return PORTCULLIS_COUNT_source_limited;
  }
  return PORTCULLIS_COUNT_accepted;
}

/* Protected traffic, and what is about it. */
static __always_inline int judge_protected(enum protection what, const struct packet* p,
                                           const struct esp_header* esp) {
  if (what == PROTECTION_MALFORMED) return PORTCULLIS_COUNT_malformed;
  if (what == PROTECTION_FRAGMENT && !reassemble) return PORTCULLIS_COUNT_fragment;
  int verdict = what == PROTECTION_ESP ? judge_esp(esp) : PORTCULLIS_COUNT_accepted;
  if (verdict != PORTCULLIS_COUNT_accepted) return verdict;
  struct policy policy;
  if (!read_policy(&policy)) return PORTCULLIS_COUNT_not_for_us;
  verdict = to_dataplane(&policy, p);
  if (verdict == PORTCULLIS_COUNT_accepted && what == PROTECTION_ESP && is_throttled(esp->spi, p)) {
    return PORTCULLIS_COUNT_auth_throttled;
  }
  return verdict;
}

/* Which kinds of service (bits) listen there, by policy. */
VERIFIED_ONCE int find_services(const struct portcullis_settings* s, __u8 protocol, __u16 port) {
  int kinds = 0;
  if (!s) return 0;
  for (int i = 0; i < PORTCULLIS_MAX_SERVICES && i < s->service_count; ++i) {
    const struct portcullis_service* service = &s->services[i];
    if (service->protocol == protocol && service->first <= port && port <= service->last) {
      kinds |= service->kind;
    }
  }
  return kinds;
}

/* The host's own, where policy tells its services apart. Elsewhere than at ports of sessions a TCP
 * segment is judged by how it begins: what is neither a beginning nor belongs to a connection, the
 * kernel's TCP refuses. `at`: where its payload is in the frame; `rule`: enum portcullis_source. */
VERIFIED_ONCE int judge_service(struct xdp_md* ctx, const struct packet* p, __u32 at, __u32 slot,
                                __u32 rule) {
  void* end = (void*)(long)ctx->data_end;
  void* payload = (void*)(long)ctx->data + (at & MAX_HEADERS_MASK);
  struct policy policy;
  if (!p || !policy_in(&policy, slot)) return PORTCULLIS_COUNT_not_for_us;
  if (p->protocol == (p->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) return PORTCULLIS_COUNT_exception;
  /* Port and flags may be in another piece, and behind other headers (RFC 1858, RFC 7112). */
  if (p->fragment) return PORTCULLIS_COUNT_fragment;
  const struct tcp_header* tcp = p->protocol == IPPROTO_TCP ? payload : 0;
  int begins = p->protocol == IPPROTO_UDP;
  __u16 port = 0;
  if (tcp || begins || p->protocol == IPPROTO_SCTP) {
    __be16* ports = payload;
    if (p->payload_length < 8 || (void*)ports + 8 > end) return PORTCULLIS_COUNT_malformed;
    port = bpf_ntohs(ports[1]);
  }
  if (tcp) {
    if (p->payload_length < sizeof(*tcp) || (void*)(tcp + 1) > end) {
      return PORTCULLIS_COUNT_malformed;
    }
    begins = (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
  }
  int kinds = find_services(policy.settings, p->protocol, port);
  if (tcp && !begins) {
    if (!(kinds & PORTCULLIS_SESSIONS)) return PORTCULLIS_COUNT_exception;
    return judge_segment(ctx, p, at, slot);
  }
  if (begins && (kinds & PORTCULLIS_SESSIONS)) {
    if (!may_begin(&policy, p, rule)) return PORTCULLIS_COUNT_handshake_limited;
    if (tcp) note_beginning(p, tcp);
  }
  return kinds || !policy.settings->some_of_host ? PORTCULLIS_COUNT_exception
                                                 : PORTCULLIS_COUNT_host_denied;
}

static __always_inline int from_wire(struct xdp_md* ctx, const struct packet* p, void* end) {
  int own = is_own(p);
  if (own) {
    struct esp_header esp = {};
    enum protection what = find_protection(p, end, &esp);
    if (what != PROTECTION_NONE) return judge_protected(what, p, &esp);
  }
  struct policy policy;
  if (!read_policy(&policy)) return PORTCULLIS_COUNT_not_for_us;
  /* Cleartext to the servers, or from an address of theirs. */
  if (is_protected(&policy, &p->destination) || is_protected(&policy, &p->source)) {
    if (!policy.settings->cleartext) return PORTCULLIS_COUNT_cleartext_denied;
    return to_dataplane(&policy, p);
  }
  if (!own || p->source_routed) return PORTCULLIS_COUNT_not_for_us;
  __u8 rule = source_rule(&policy, p);
  if (is_denied(&policy, rule)) return PORTCULLIS_COUNT_source_denied;
  if (!policy.settings->service_count && !policy.settings->some_of_host) {
    return PORTCULLIS_COUNT_exception;
  }
  return judge_service(ctx, p, p->payload - (void*)(long)ctx->data, policy.slot, rule);
}

static __always_inline int from_inside(const struct packet* p) {
  if (is_own(p)) {
    return p->source_routed ? PORTCULLIS_COUNT_not_for_us : PORTCULLIS_COUNT_exception;
  }
  const __u8* to = p->destination.bytes;
  int group = p->is_v6 ? to[0] == 0xff : to[12] >= 224; /* multicast, class E, broadcast */
  if (group || is_link_local(&p->destination)) return PORTCULLIS_COUNT_not_for_us;
  return PORTCULLIS_COUNT_accepted;
}

/* enum portcullis_counter */
static __always_inline int judge(struct xdp_md* ctx) {
  void* end = (void*)(long)ctx->data_end;
  struct packet p = {};
  int group = 0;
  switch (parse(ctx, &p, &group)) {
    case LINK_MALFORMED:
      return PORTCULLIS_COUNT_malformed;
    case LINK_ARP:
      return PORTCULLIS_COUNT_exception;
    case LINK_OTHER:
      return PORTCULLIS_COUNT_not_for_us;
    case LINK_IP:
      break;
  }
  if (is_neighbour_discovery(&p, end)) return PORTCULLIS_COUNT_exception;
  if (group) return PORTCULLIS_COUNT_not_for_us;
  return role == PORTCULLIS_UNTRUSTED ? from_wire(ctx, &p, end) : from_inside(&p);
}

/* A copy of one drop in so many, for whoever watches. */
VERIFIED_ONCE int sample(struct xdp_md* ctx, __u32 verdict) {
  __u32 zero = 0;
  const __u32* one_in = bpf_map_lookup_elem(&watching, &zero);
  if (!one_in || !*one_in || (bpf_get_prandom_u32() & (*one_in - 1))) return 0;
  struct portcullis_drop* drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);
  if (!drop) return 0;
  const __u8* at = (void*)(long)ctx->data;
  const void* end = (void*)(long)ctx->data_end;
  drop->at_ns = bpf_ktime_get_ns();
  drop->counter = verdict;
  drop->length = end - (const void*)at;
  drop->rx_queue = ctx->rx_queue_index;
  __u32 i = 0;
  for (; i < PORTCULLIS_SAMPLE_BYTES; ++i) {
    if ((const void*)(at + i + 1) > end) break;
    drop->frame[i] = at[i];
  }
  drop->captured = i;
  bpf_ringbuf_submit(drop, BPF_RB_NO_WAKEUP); /* it is polled */
  return 1;
}

static __always_inline int act(struct xdp_md* ctx, __u32 verdict) {
  int action = XDP_DROP;
  if (verdict == PORTCULLIS_COUNT_exception) action = XDP_PASS;
  if (verdict == PORTCULLIS_COUNT_accepted) {
    action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
    if (action != XDP_REDIRECT) verdict = PORTCULLIS_COUNT_no_socket;
  }
  __u64* value = bpf_map_lookup_elem(&counters, &verdict);
  if (value) ++*value;
  if (action == XDP_DROP) sample(ctx, verdict);
  return action;
}
