/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The first line of defence, one instance per port. It decides who sees a packet: the dataplane
 * (through its AF_XDP socket), the kernel, or nobody. The kernel sees only ARP, neighbour discovery
 * and what is addressed to the host itself, and what it could be tricked into forwarding is kept
 * from it, so that no sysctl turned by accident makes a way around the gate. With empty maps, or
 * without a socket, everything else is dropped: closed is what happens by itself.
 *
 * The name of the program, the name of the socket map and the metadata at the end are libxdp's
 * convention: an AF_XDP socket library that finds them adopts this program instead of loading its
 * own. There must be no reference count (a map of mutable data), or closing the last socket would
 * detach us.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

#define PORT_NAT_T 4500 /* RFC 3948 */
#define MAX_VLAN_TAGS 2
#define MAX_EXTENSIONS 6
#define IPV4_OFFSET_MASK 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44

const volatile __u32 role = PORTCULLIS_UNTRUSTED;

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
  __uint(max_entries, PORTCULLIS_MAX_QUEUES);
} xsks_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __type(key, struct portcullis_prefix);
  __type(value, __u8);
  __uint(max_entries, PORTCULLIS_MAX_PREFIXES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
} protected_nets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, struct portcullis_address);
  __type(value, __u8);
  __uint(max_entries, PORTCULLIS_MAX_ADDRESSES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
} own_addresses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, struct portcullis_flow);
  __type(value, __u64);
  __uint(max_entries, PORTCULLIS_MAX_THROTTLED);
} throttled SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, PORTCULLIS_COUNTERS);
} counters SEC(".maps");

/* What the decision needs to know of a packet. */
struct packet {
  struct portcullis_address source, destination;
  void* payload; /* what follows the IP headers; means nothing when `later_fragment` */
  __u8 protocol;
  __u8 hop_limit;
  __u8 is_v6;
  __u8 fragment;       /* any fragment */
  __u8 later_fragment; /* its offset is not 0 */
  __u8 source_routed;  /* names further hops: the kernel might forward what is addressed to us */
};

struct vlan_tag {
  __be16 tci;
  __be16 ethertype;
};

struct extension {
  __u8 next;
  __u8 length;
  __u8 routing_type;
  __u8 segments_left;
  __be32 rest;
};

struct udp_header {
  __be16 source, destination, length, checksum;
};

static __always_inline int count(__u32 counter, int action) {
  __u64* value = bpf_map_lookup_elem(&counters, &counter);
  if (value) ++*value;
  return action;
}

static __always_inline int to_kernel(void) {
  return count(PORTCULLIS_PASSED, XDP_PASS);
}
static __always_inline int malformed(void) {
  return count(PORTCULLIS_MALFORMED, XDP_DROP);
}
static __always_inline int not_for_us(void) {
  return count(PORTCULLIS_NOT_FOR_US, XDP_DROP);
}

static __always_inline int to_dataplane(struct xdp_md* ctx) {
  int action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
  return count(action == XDP_REDIRECT ? PORTCULLIS_REDIRECTED : PORTCULLIS_NO_SOCKET, action);
}

static __always_inline void mapped(struct portcullis_address* to, __be32 v4) {
  __builtin_memset(to, 0, 10);
  to->bytes[10] = to->bytes[11] = 0xff;
  __builtin_memcpy(&to->bytes[12], &v4, 4);
}

/* Both parsers return 0 when the headers cannot be followed. */
static __always_inline int parse_v4(void* at, void* end, struct packet* p) {
  struct iphdr* ip = at;
  if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return 0;
  void* payload = at + ip->ihl * 4;
  if (payload > end) return 0;
  mapped(&p->source, ip->saddr);
  mapped(&p->destination, ip->daddr);
  p->payload = payload;
  p->protocol = ip->protocol;
  p->hop_limit = ip->ttl;
  __u16 fragment = bpf_ntohs(ip->frag_off);
  p->later_fragment = (fragment & IPV4_OFFSET_MASK) != 0;
  p->fragment = (fragment & (IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS)) != 0;
  /* LSRR and SSRR (RFC 791 3.1) lead on from an address of ours. No other option is worth being
   * told apart from them (RFC 7126). */
  p->source_routed = ip->ihl > 5;
  return 1;
}

static __always_inline int parse_v6(void* at, void* end, struct packet* p) {
  struct ipv6hdr* ip = at;
  if ((void*)(ip + 1) > end || ip->version != 6) return 0;
  __builtin_memcpy(&p->source, &ip->saddr, 16);
  __builtin_memcpy(&p->destination, &ip->daddr, 16);
  p->hop_limit = ip->hop_limit;
  p->is_v6 = 1;
  __u8 next = ip->nexthdr;
  at += sizeof(*ip);
  for (int i = 0; i < MAX_EXTENSIONS; ++i) {
    struct extension* e = at;
    if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPV6_ROUTING &&
        next != IPV6_FRAGMENT) {
      p->payload = at;
      p->protocol = next;
      return 1;
    }
    if ((void*)(e + 1) > end) return 0;
    if (next == IPV6_FRAGMENT) {
      __u16 fragment = bpf_ntohs(*(__be16*)&e->routing_type);
      /* An atomic fragment (RFC 6946) is whole. */
      if (fragment & 0xfff9) p->fragment = 1;
      if (fragment & 0xfff8) {
        p->later_fragment = 1;
        p->payload = e + 1;
        p->protocol = e->next;
        return 1;
      }
      at += sizeof(*e);
    } else {
      if (next == IPV6_ROUTING && e->segments_left) p->source_routed = 1;
      at += (e->length + 1) * 8;
    }
    next = e->next;
    if (at > end) return 0;
  }
  return 0;
}

static __always_inline int is_own(const struct packet* p) {
  return bpf_map_lookup_elem(&own_addresses, &p->destination) != 0;
}

static __always_inline int is_protected(const struct portcullis_address* a) {
  struct portcullis_prefix key = {.length = 128};
  __builtin_memcpy(key.address, a->bytes, 16);
  return bpf_map_lookup_elem(&protected_nets, &key) != 0;
}

static __always_inline int is_link_local(const struct portcullis_address* a) {
  return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

/* Neighbour discovery: RFC 4861's messages, from this link (hop limit 255), whole (RFC 6980), and
 * to a destination that no router may lead further. */
static __always_inline int is_neighbour_discovery(const struct packet* p, void* end) {
  if (!p->is_v6 || p->protocol != IPPROTO_ICMPV6 || p->fragment || p->source_routed) return 0;
  __u8* type = p->payload;
  if ((void*)(type + 1) > end || *type < 133 || *type > 137 || p->hop_limit != 255) return 0;
  const __u8* to = p->destination.bytes;
  return (to[0] == 0xff && to[1] == 0x02) || is_link_local(&p->destination) || is_own(p);
}

/* Does an ICMP error quote ESP or UDP/4500? We sent what it quotes, so the port is its source; a
 * peer behind no NAT has 4500 as well, and either will do. */
static __always_inline int quotes_esp(const struct packet* p, void* end) {
  if (p->later_fragment) return 0;
  __u8* type = p->payload;
  if ((void*)(type + 8) > end) return 0;
  struct packet quoted = {};
  if (p->is_v6) {
    if (*type < 1 || *type > 4) return 0; /* RFC 4443 2.1 */
    /* What we send has no extension headers, so what quotes it has none. */
    struct ipv6hdr* ip = p->payload + 8;
    if ((void*)(ip + 1) > end || ip->version != 6) return 0;
    quoted.protocol = ip->nexthdr;
    quoted.payload = ip + 1;
  } else {
    /* RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem. */
    if (*type != 3 && *type != 4 && *type != 5 && *type != 11 && *type != 12) return 0;
    if (!parse_v4(p->payload + 8, end, &quoted)) return 0;
  }
  if (quoted.protocol == IPPROTO_ESP) return 1;
  if (quoted.protocol != IPPROTO_UDP || quoted.later_fragment) return 0;
  struct udp_header* udp = quoted.payload;
  if ((void*)udp + 4 > end) return 0;
  return udp->source == bpf_htons(PORT_NAT_T) || udp->destination == bpf_htons(PORT_NAT_T);
}

/* Is this, addressed to us, protected traffic or about it? `*spi` is set (network order) when there
 * is one to be throttled by. */
static __always_inline int is_for_dataplane(const struct packet* p, void* end, __be32* spi) {
  if (p->protocol == IPPROTO_ESP) {
    __be32* esp = p->payload;
    if (!p->later_fragment && (void*)(esp + 1) <= end) *spi = *esp;
    return 1;
  }
  if (p->protocol == IPPROTO_UDP) {
    /* The ports stand in the first fragment only, and one datagram must not be split between two
     * readers: fragmented UDP to the gate is the dataplane's to reassemble or drop. */
    if (p->fragment) return 1;
    struct udp_header* udp = p->payload;
    if ((void*)(udp + 1) > end || udp->destination != bpf_htons(PORT_NAT_T)) return 0;
    __be32* esp = (void*)(udp + 1);
    if ((void*)(esp + 1) <= end) *spi = *esp; /* 0: the non-ESP marker (RFC 3948 2.2) */
    return 1;
  }
  if (p->protocol == (p->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) return quotes_esp(p, end);
  return 0;
}

static __always_inline int is_throttled(__be32 spi, const struct portcullis_address* source) {
  struct portcullis_flow key = {.spi = spi};
  __builtin_memcpy(key.source, source->bytes, 16);
  __u64* until = bpf_map_lookup_elem(&throttled, &key);
  return until && bpf_ktime_get_ns() < *until;
}

static __always_inline int from_wire(struct xdp_md* ctx, const struct packet* p, void* end) {
  int own = is_own(p);
  __be32 spi = 0;
  if (own && is_for_dataplane(p, end, &spi)) {
    if (spi && is_throttled(spi, &p->source)) return count(PORTCULLIS_THROTTLED, XDP_DROP);
    return to_dataplane(ctx);
  }
  /* Cleartext to the servers, or from an address of theirs: for the dataplane to deny and count. */
  if (is_protected(&p->destination) || is_protected(&p->source)) return to_dataplane(ctx);
  if (own && !p->source_routed) return to_kernel();
  return not_for_us();
}

static __always_inline int from_inside(struct xdp_md* ctx, const struct packet* p) {
  if (is_own(p)) return p->source_routed ? not_for_us() : to_kernel();
  const __u8* to = p->destination.bytes;
  int group = p->is_v6 ? to[0] == 0xff : to[12] >= 224; /* multicast, class E, broadcast */
  if (group || is_link_local(&p->destination)) return not_for_us();
  return to_dataplane(ctx);
}

SEC("xdp")
int xsk_def_prog(struct xdp_md* ctx) {
  void* at = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;

  struct ethhdr* eth = at;
  if ((void*)(eth + 1) > end) return malformed();
  __be16 ethertype = eth->h_proto;
  int group = eth->h_dest[0] & 1;
  at = eth + 1;
  for (int i = 0; i < MAX_VLAN_TAGS; ++i) {
    if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD)) break;
    struct vlan_tag* tag = at;
    if ((void*)(tag + 1) > end) return malformed();
    ethertype = tag->ethertype;
    at = tag + 1;
  }

  if (ethertype == bpf_htons(ETH_P_ARP)) return to_kernel();
  struct packet p = {};
  if (ethertype == bpf_htons(ETH_P_IP)) {
    if (!parse_v4(at, end, &p)) return malformed();
  } else if (ethertype == bpf_htons(ETH_P_IPV6)) {
    if (!parse_v6(at, end, &p)) return malformed();
  } else {
    return not_for_us();
  }
  if (is_neighbour_discovery(&p, end)) return to_kernel();
  if (group) return not_for_us();
  return role == PORTCULLIS_UNTRUSTED ? from_wire(ctx, &p, end) : from_inside(ctx, &p);
}

__uint(xsk_prog_version, 1) SEC("xdp_metadata");
char _license[] SEC("license") = "Dual BSD/GPL";
