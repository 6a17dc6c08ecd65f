/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Outer headers, read once: link layer, IP, and what the decision needs of the transport. The
 * dataplane's parser (dataplane/pipeline/parse.cpp) has the same opinion of every frame; a test
 * holds a million mutated ones against both.
 */
#pragma once

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
#define MAX_IPV6_HEADERS 8 /* extensions, and what follows them */
#define MAX_IPV4_OPTION_WORDS 10
#define MAX_HEADERS_MASK 0x3fff /* 8 extension headers of 2 KiB, which tells the verifier */
#define IPV4_OFFSET_MASK 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define NAT_KEEPALIVE 0xff /* RFC 3948 2.3 */
#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* What the decision needs to know of a packet. */
struct packet {
  struct portcullis_address source __attribute__((aligned(8)));
  struct portcullis_address destination __attribute__((aligned(8)));
  void* payload;        /* what follows the IP headers */
  __u32 payload_length; /* as the IP header states it; all of it is in the frame */
  __u8 protocol;
  __u8 hop_limit;
  __u8 is_v6;
  __u8 fragment;      /* its payload may be the middle of something: it is not read */
  __u8 source_routed; /* names further hops: the kernel might forward what is addressed to us */
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

struct esp_header {
  __be32 spi, sequence;
};

struct tcp_header {
  __be16 source, destination;
  __be32 sequence, acknowledgement;
  __u8 offset, flags; /* the offset of the data in words, in the upper half */
  __be16 window, checksum, urgent;
};

struct udp_header {
  __be16 source, destination, length, checksum;
};

static __always_inline void mapped(struct portcullis_address* to, __be32 v4) {
  __builtin_memset(to, 0, 10);
  to->bytes[10] = to->bytes[11] = 0xff;
  __builtin_memcpy(&to->bytes[12], &v4, 4);
}

/* ::ffff:a.b.c.d is how we keep IPv4; on the wire it is nobody's (RFC 4038 4.2). */
static __always_inline int is_mapped(const struct in6_addr* a) {
  return a->s6_addr32[0] == 0 && a->s6_addr32[1] == 0 && a->s6_addr32[2] == bpf_htonl(0xffff);
}

/* What is rare, or would be verified anew on each way that leads to it: a function that the
 * verifier looks at once. These have external linkage for that, and find the packet in `ctx` again.
 */
#define VERIFIED_ONCE __attribute__((noinline))

/* The sum of the words behind an IPv4 header's first five. 0: they leave the frame. */
VERIFIED_ONCE __u64 sum_ipv4_options(struct xdp_md* ctx, __u32 at, __u32 words) {
  __u64 sum = 0;
  for (__u32 i = 0; i < MAX_IPV4_OPTION_WORDS && i < words; ++i) {
    const __u32* word = (void*)(long)ctx->data + (at & MAX_HEADERS_MASK) + i * 4;
    if ((void*)(word + 1) > (void*)(long)ctx->data_end) return 0;
    sum += *word;
  }
  return sum;
}

/* The sum may be taken in words of any size and folded at the end (RFC 1071 2). */
static __always_inline int ipv4_checksum_valid(struct xdp_md* ctx, const struct iphdr* ip) {
  const __u32* word = (const void*)ip;
  __u64 sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
  if (ip->ihl > 5) {
    __u32 at = (const void*)(ip + 1) - (void*)(long)ctx->data;
    sum += sum_ipv4_options(ctx, at, ip->ihl - 5);
  }
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  return sum == 0xffff;
}

/* These return 0 when the headers contradict the frame, each other, or the standard. */
static __always_inline int parse_v4(struct xdp_md* ctx, void* at, struct packet* p) {
  void* end = (void*)(long)ctx->data_end;
  struct iphdr* ip = at;
  if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return 0;
  __u32 header = ip->ihl * 4;
  __u32 length = bpf_ntohs(ip->tot_len);
  if (at + header > end || header > length || length > (__u64)(end - at)) return 0;
  if (!ipv4_checksum_valid(ctx, ip)) return 0;
  mapped(&p->source, ip->saddr);
  mapped(&p->destination, ip->daddr);
  p->payload = at + header;
  p->payload_length = length - header;
  p->protocol = ip->protocol;
  p->hop_limit = ip->ttl;
  p->fragment = (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS)) != 0;
  /* LSRR and SSRR (RFC 791 3.1) lead on from an address of ours. No other option is worth being
   * told apart from them (RFC 7126). */
  p->source_routed = ip->ihl > 5;
  return 1;
}

static __always_inline int is_extension(__u8 next) {
  return next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPV6_ROUTING ||
         next == IPV6_FRAGMENT;
}

/* Walks IPv6 extension headers: `next` is the first one's type, `at` where it begins. Returns how
 * many bytes they have, what follows them (<< 16) and whether it is a fragment of that (<< 24);
 * 0: they cannot be followed. */
VERIFIED_ONCE __u32 walk_ipv6_extensions(struct xdp_md* ctx, __u32 at, __u8 next) {
  void* end = (void*)(long)ctx->data_end;
  __u32 walked = 0;
  for (int i = 0; i < MAX_IPV6_HEADERS; ++i) {
    if (!is_extension(next)) return walked | (__u32)next << 16;
    struct extension* e = (void*)(long)ctx->data + (at & MAX_HEADERS_MASK) + walked;
    if ((void*)(e + 1) > end) return 0;
    __u32 size = next == IPV6_FRAGMENT ? sizeof(*e) : (e->length + 1) * 8;
    /* An atomic fragment (RFC 6946) is whole; of any other no header behind this one is read. */
    if (next == IPV6_FRAGMENT && (*(__be16*)&e->routing_type & bpf_htons(0xfff9))) {
      return (walked + size) | (__u32)e->next << 16 | 1 << 24;
    }
    /* Wherever it goes on to, what is behind it is not for us (RFC 8200 4.4, RFC 5095). */
    if (next == IPV6_ROUTING && e->segments_left) return 0;
    next = e->next;
    walked += size;
  }
  return 0;
}

static __always_inline int parse_v6(struct xdp_md* ctx, void* at, struct packet* p) {
  void* end = (void*)(long)ctx->data_end;
  struct ipv6hdr* ip = at;
  if ((void*)(ip + 1) > end || ip->version != 6) return 0;
  if (is_mapped(&ip->saddr) || is_mapped(&ip->daddr)) return 0;
  __u32 length =
      bpf_ntohs(ip->payload_len); /* 0 for a jumbogram (RFC 2675), which we do not take */
  at += sizeof(*ip);
  if (length > (__u64)(end - at)) return 0;
  __builtin_memcpy(&p->source, &ip->saddr, 16);
  __builtin_memcpy(&p->destination, &ip->daddr, 16);
  p->hop_limit = ip->hop_limit;
  p->is_v6 = 1;
  p->protocol = ip->nexthdr;
  if (is_extension(p->protocol)) {
    __u32 walked = walk_ipv6_extensions(ctx, at - (void*)(long)ctx->data, p->protocol);
    __u32 size = walked & MAX_HEADERS_MASK;
    if (walked == 0 || size > length || at + size > end) return 0;
    p->protocol = walked >> 16;
    p->fragment = walked >> 24;
    at += size;
    length -= size;
  }
  p->payload = at;
  p->payload_length = length;
  return 1;
}

enum link { LINK_MALFORMED, LINK_ARP, LINK_IP, LINK_OTHER };

/* Ethernet, up to two VLAN tags, IP. `*group`: not to this port alone. */
static __always_inline enum link parse(struct xdp_md* ctx, struct packet* p, int* group) {
  void* at = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ethhdr* eth = at;
  if ((void*)(eth + 1) > end) return LINK_MALFORMED;
  __be16 ethertype = eth->h_proto;
  *group = eth->h_dest[0] & 1;
  at = eth + 1;
  for (int i = 0; i < MAX_VLAN_TAGS; ++i) {
    if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD)) break;
    struct vlan_tag* tag = at;
    if ((void*)(tag + 1) > end) return LINK_MALFORMED;
    ethertype = tag->ethertype;
    at = tag + 1;
  }
  if (ethertype == bpf_htons(ETH_P_IP)) return parse_v4(ctx, at, p) ? LINK_IP : LINK_MALFORMED;
  if (ethertype == bpf_htons(ETH_P_IPV6)) return parse_v6(ctx, at, p) ? LINK_IP : LINK_MALFORMED;
  return ethertype == bpf_htons(ETH_P_ARP) ? LINK_ARP : LINK_OTHER;
}

/* Does an ICMP error quote ESP, or UDP from port 4500? We sent what it quotes. */
static __always_inline int quotes_esp(const struct packet* p, void* end) {
  __u8* icmp = p->payload;
  if (p->fragment || (void*)(icmp + 8) > end || p->payload_length <= 8) return 0;
  __u32 length = p->payload_length - 8;
  void* at = icmp + 8;
  __u32 header;
  __u8 protocol;
  if (p->is_v6) {
    if (*icmp > 127) return 0; /* RFC 4443 2.1 */
    /* What we send has no extension headers, so what quotes it has none. */
    struct ipv6hdr* ip = at;
    header = sizeof(*ip);
    if ((void*)(ip + 1) > end || length < header || ip->version != 6) return 0;
    protocol = ip->nexthdr;
  } else {
    /* RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem. */
    if (*icmp != 3 && *icmp != 4 && *icmp != 5 && *icmp != 11 && *icmp != 12) return 0;
    struct iphdr* ip = at;
    if ((void*)(ip + 1) > end || length < sizeof(*ip) || ip->version != 4 || ip->ihl < 5) return 0;
    header = ip->ihl * 4;
    protocol = ip->protocol;
    if (protocol == IPPROTO_UDP && (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK))) return 0;
  }
  if (protocol == IPPROTO_ESP) return 1;
  __be16* port = at + header;
  if (protocol != IPPROTO_UDP || length < header + 2 || (void*)(port + 1) > end) return 0;
  return *port == bpf_htons(PORT_NAT_T);
}

enum protection {
  PROTECTION_NONE,      /* the host's own business */
  PROTECTION_MALFORMED, /* it would be, but it contradicts itself */
  PROTECTION_FRAGMENT,  /* a piece of ESP or UDP: nobody knows yet */
  PROTECTION_ESP,       /* with SPI and sequence number */
  PROTECTION_ABOUT,     /* keepalive, non-ESP marker, ICMP error */
};

/* Is this, addressed to us, protected traffic or about it? `*esp`: of PROTECTION_ESP. */
static __always_inline enum protection find_protection(const struct packet* p, void* end,
                                                       struct esp_header* esp) {
  void* at = p->payload;
  __u32 length = p->payload_length;
  if (p->protocol == (p->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
    return quotes_esp(p, end) ? PROTECTION_ABOUT : PROTECTION_NONE;
  }
  if (p->protocol != IPPROTO_ESP && p->protocol != IPPROTO_UDP) return PROTECTION_NONE;
  /* The ports stand in the first fragment only, and one datagram must not be split between two
   * readers: fragmented UDP to the gate is the dataplane's to reassemble or drop. */
  if (p->fragment) return PROTECTION_FRAGMENT;
  if (p->protocol == IPPROTO_UDP) {
    struct udp_header* udp = at;
    if ((void*)(udp + 1) > end || length < sizeof(*udp)) return PROTECTION_MALFORMED;
    if (udp->destination != bpf_htons(PORT_NAT_T)) return PROTECTION_NONE;
    __u32 stated = bpf_ntohs(udp->length);
    if (stated < sizeof(*udp) || stated > length) return PROTECTION_MALFORMED;
    at = udp + 1;
    length = stated - sizeof(*udp);
    __u8* first = at;
    if (length == 1 && (void*)(first + 1) <= end && *first == NAT_KEEPALIVE) {
      return PROTECTION_ABOUT;
    }
    __be32* marker = at; /* RFC 3948 2.2 */
    if (length < sizeof(*marker) || (void*)(marker + 1) > end) return PROTECTION_MALFORMED;
    if (*marker == 0) return PROTECTION_ABOUT;
  }
  if (length < sizeof(*esp) || at + sizeof(*esp) > end) return PROTECTION_MALFORMED;
  *esp = *(struct esp_header*)at;
  return PROTECTION_ESP;
}
