/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The whole contract between the XDP program and user space: what the maps are called, what stands
 * in them, what is counted. Included by portcullis_xdp.bpf.c (C, no libc) and by loader.cpp (C++).
 *
 * Addresses are 16 bytes in network order, IPv4 in its mapped form ::ffff:a.b.c.d (RFC 4291
 * 2.5.5.2), exactly as portcullis::Address keeps them.
 */
#pragma once

#include <linux/types.h>

/* Where a port's objects are pinned: <root>/<instance>/<port>/{link, and one file per map}. */
#define PORTCULLIS_PIN_ROOT "/sys/fs/bpf/portcullis"

/* The side of the gate that a port is on; const in the program, set before it is loaded. */
enum portcullis_role {
  PORTCULLIS_UNTRUSTED = 0,
  PORTCULLIS_TRUSTED = 1,
  PORTCULLIS_LOCAL = 2,
};

#define PORTCULLIS_MAX_QUEUES 64
#define PORTCULLIS_MAX_PREFIXES 65536
#define PORTCULLIS_MAX_ADDRESSES 4096
#define PORTCULLIS_MAX_THROTTLED 16384

/* Map `protected_nets` (LPM trie): the prefixes behind the gate. Value: one byte, always 1. */
struct portcullis_prefix {
  __u32 length; /* 0..128, in the mapped space: 10.0.0.0/8 has 104 */
  __u8 address[16];
};

/* Map `own_addresses` (hash): the host's own addresses on this port. Value: one byte, always 1. */
struct portcullis_address {
  __u8 bytes[16];
};

/* Map `throttled` (LRU hash): keyed by SPI and outer source, never by SPI alone, since anybody
 * can write somebody else's SPI into a packet. Value: __u64, the end as CLOCK_MONOTONIC ns. */
struct portcullis_flow {
  __u32 spi; /* network order, as in the packet */
  __u8 source[16];
};

/* Map `counters` (per-CPU array of __u64): every packet is counted exactly once. */
enum portcullis_counter {
  PORTCULLIS_PASSED,     /* to the kernel: ARP, ND, the host's own */
  PORTCULLIS_REDIRECTED, /* to the dataplane's socket */
  PORTCULLIS_NO_SOCKET,  /* for the dataplane, which is not there: dropped */
  PORTCULLIS_THROTTLED,  /* a flow whose integrity checks failed too often: dropped */
  PORTCULLIS_MALFORMED,  /* headers cut short, contradictory or too many: dropped */
  PORTCULLIS_NOT_FOR_US, /* none of the gate's business: dropped */
  PORTCULLIS_COUNTERS,
};
