/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The whole contract between the XDP program and user space: what the maps are called, what stands
 * in them, what is counted. Included by portcullis_xdp.bpf.c (C, no libc) and by loader.cpp (C++).
 *
 * Addresses are 16 bytes in network order, IPv4 in its mapped form ::ffff:a.b.c.d (RFC 4291
 * 2.5.5.2), exactly as portcullis::Address keeps them.
 */
#pragma once

#include <linux/types.h>

#include "dataplane/packet/verdicts.h"

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
#define PORTCULLIS_MAX_SOURCES 1048576
#define PORTCULLIS_MAX_BUCKETS 65536
#define PORTCULLIS_MAX_ADDRESSES 4096
#define PORTCULLIS_MAX_SUSPECTS 16384

/* Policy comes in generations. Both slots of a map below belong to one; a packet reads `current`
 * once. User space fills the other slot, waits until no packet reads it any more, and writes
 * `current`: that is the one step. What lives longer than a policy (the SPIs, the buckets, the
 * suspects, the counters, the host's own addresses) stands beside it.
 */
#define PORTCULLIS_SLOTS 2

/* Maps `protected_nets` and `sources` (array of LPM tries, one for each slot). `protected_nets`:
 * the prefixes behind the gate; value: one byte, 1, or 0 for none of them. `sources`: value
 * portcullis_source.
 */
struct portcullis_prefix {
  __u32 length; /* 0..128, in the mapped space: 10.0.0.0/8 has 104 */
  __u8 address[16];
};

enum portcullis_source {                          /* one byte */
                         PORTCULLIS_STRANGER = 0, /* no rule names it */
                         PORTCULLIS_ADMITTED = 1,
                         PORTCULLIS_DENIED = 2,
};

/* A bucket is one time, its theoretical arrival time (ITU-T I.371 annex A): CLOCK_MONOTONIC ns. */
struct portcullis_limit {
  __u64 interval_ns;  /* between two packets at the full rate; 0: unlimited */
  __u64 tolerance_ns; /* how far ahead of now the next one may be due */
};

enum portcullis_service_kind {
  PORTCULLIS_SESSIONS = 1, /* the guard's: whoever begins here has a budget */
  PORTCULLIS_HOST = 2,
};

struct portcullis_service {
  __u8 protocol;
  __u8 kind;
  __u16 first, last; /* host order, inclusive */
};

#define PORTCULLIS_MAX_SERVICES 16

/* Map `settings` (array, one for each slot). All zero, as with no policy: strangers are admitted as
 * far as the empty tables let them, no cleartext, no fragments, and the whole host.
 */
struct portcullis_settings {
  __u64 generation;
  __u8 deny_strangers;
  __u8 cleartext;    /* some bypass rule admits cleartext: the dataplane judges it */
  __u8 some_of_host; /* of the host only what `services` names, and ICMP */
  __u8 service_count;
  __u32 reserved;
  __u8 ipv4_mask[16], ipv6_mask[16]; /* what of a source is one source */
  struct portcullis_limit packets, handshakes, strangers;
  struct portcullis_service services[PORTCULLIS_MAX_SERVICES];
};

/* Map `current` (array of one __u32): the slot in force. */

/* Map `own_addresses` (hash): the host's own addresses on this port. Value: one byte, always 1. */
struct portcullis_address {
  __u8 bytes[16];
};

/* Map `first_addresses` (array of one): the first of them again, the rest zero. Nearly every packet
 * is addressed to one of these, and comparing costs a tenth of hashing. It is written in place: who
 * reads half of an address while it comes or goes reads one that is nobody's.
 */
#define PORTCULLIS_FIRST_ADDRESSES 8
struct portcullis_first_addresses {
  struct portcullis_address addresses[PORTCULLIS_FIRST_ADDRESSES];
};

/* Map `spis` (array, a power of two): the SPIs of inbound security associations, each at the index
 * of its low bits (spi & spi_mask, host order). User space has it mapped. Both fields are written
 * in one store and read in one, so that no SPI is ever seen with the number of another.
 */
struct portcullis_spi {
  __be32 spi;   /* 0: none */
  __u32 oldest; /* lower half of a sequence number: all before it are left of the window */
} __attribute__((aligned(8)));

/* Whether the window must refuse a number, of which only the lower half is known. What lies farther
 * back than this may as well lie ahead, where the dataplane accepts up to 2^31 (its rule is in
 * dataplane/esp/sequence.hpp): that is counted from the window's other end, which is up to 8192
 * farther, and `oldest` is told late. Where the numbers wrap nothing is said either.
 */
#define PORTCULLIS_STALE_SPAN ((1U << 31) - 16384)
static inline int portcullis_is_stale(__u32 oldest, __u32 sequence) {
  return sequence < oldest && oldest - sequence <= PORTCULLIS_STALE_SPAN;
}

/* Maps `packet_buckets`, `handshake_buckets` and `newcomer_buckets` (LRU hashes): keyed by the
 * masked source (portcullis_address). Map `stranger_bucket` (array of one). Values: __u64, see
 * portcullis_limit.
 */

/* The guard gives the socket of a connection on which it knows who is there this priority
 * (SO_PRIORITY, socket(7)); the program looks the socket up. On connections without it a source may
 * send so many segments for each handshake that it may begin: a handshake with certificate chains
 * has some twenty, acknowledgements included.
 */
#define PORTCULLIS_AUTHENTICATED_PRIORITY 6
#define PORTCULLIS_SEGMENTS_PER_HANDSHAKE 64

/* Map `beginnings` (LRU hash): where the bytes of a connection to a port of sessions begin, which
 * must be TLS. Value: __u32, the sequence number of the first, host order.
 */
struct portcullis_connection {
  struct portcullis_address source;
  __be16 source_port, port;
};
#define PORTCULLIS_MAX_BEGINNINGS 16384

/* Map `suspects` (LRU hash): security associations at which forgeries are thrown, by SPI, network
 * order. Anybody can write somebody else's SPI into a packet, so what is refused depends on its
 * source as well: never what comes from the SA's endpoint, and of all others together so little
 * that it cannot load a core, but enough for a peer that moved behind its NAT to show itself.
 */
struct portcullis_suspect {
  __u64 until; /* CLOCK_MONOTONIC ns */
  __u64 due;   /* of the others' bucket, see portcullis_limit */
  struct portcullis_address endpoint;
};
#define PORTCULLIS_STRANGERS_PER_SECOND 20
#define PORTCULLIS_STRANGERS_BURST 2

/* Map `counters` (per-CPU array of __u64): every packet is counted exactly once. */
enum portcullis_counter {
#define PORTCULLIS_X(name) PORTCULLIS_COUNT_##name,
  PORTCULLIS_FIRST_LINE_VERDICTS(PORTCULLIS_X)
#undef PORTCULLIS_X
      PORTCULLIS_COUNTERS,
};

/* Map `watching` (array of one __u32): one in so many drops (a power of two) is copied to the ring
 * buffer `drops`, for people to look at; 0: none. A full ring loses samples, never packets.
 */
#define PORTCULLIS_SAMPLE_BYTES 128
#define PORTCULLIS_DROPS_BYTES 262144 /* a power of two, whole pages */
struct portcullis_drop {
  __u64 at_ns;    /* CLOCK_MONOTONIC */
  __u32 counter;  /* enum portcullis_counter */
  __u32 length;   /* of the frame */
  __u32 captured; /* bytes below that are the frame's beginning */
  __u32 rx_queue;
  __u8 frame[PORTCULLIS_SAMPLE_BYTES];
};
