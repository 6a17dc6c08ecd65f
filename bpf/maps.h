/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The maps of shared.h as the program declares them, and the constants that it is specialised by.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared.h"

/* Set before loading; the verifier removes what they rule out. */
const volatile __u32 role = PORTCULLIS_UNTRUSTED;
const volatile __u32 spi_mask = 0;   /* entries of `spis` - 1 */
const volatile __u32 reassemble = 0; /* fragments of ESP and UDP are the dataplane's */

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
  __uint(max_entries, PORTCULLIS_MAX_QUEUES);
} xsks_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 1);
} current SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct portcullis_settings);
  __uint(max_entries, PORTCULLIS_SLOTS);
} settings SEC(".maps");

/* By size, since the compiler's BTF forgets the types of what is inside another map. */
struct prefix_table {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(key_size, sizeof(struct portcullis_prefix));
  __uint(value_size, sizeof(__u8));
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_NO_PREALLOC);
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __type(key, __u32);
  __uint(max_entries, PORTCULLIS_SLOTS);
  __array(values, struct prefix_table);
} protected_nets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __type(key, __u32);
  __uint(max_entries, PORTCULLIS_SLOTS);
  __array(values, struct prefix_table);
} sources SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct portcullis_first_addresses);
  __uint(max_entries, 1);
} first_addresses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, struct portcullis_address);
  __type(value, __u8);
  __uint(max_entries, PORTCULLIS_MAX_ADDRESSES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
} own_addresses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct portcullis_spi);
  __uint(max_entries, 1); /* set before loading */
  __uint(map_flags, BPF_F_MMAPABLE);
} spis SEC(".maps");

struct buckets {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, struct portcullis_address);
  __type(value, __u64);
  __uint(max_entries, PORTCULLIS_MAX_BUCKETS);
};
struct buckets packet_buckets SEC(".maps");
struct buckets handshake_buckets SEC(".maps");
struct buckets newcomer_buckets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, struct portcullis_connection);
  __type(value, __u32);
  __uint(max_entries, PORTCULLIS_MAX_BEGINNINGS);
} beginnings SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, 1);
} stranger_bucket SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __be32);
  __type(value, struct portcullis_suspect);
  __uint(max_entries, PORTCULLIS_MAX_SUSPECTS);
} suspects SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, PORTCULLIS_COUNTERS);
} counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 1);
} watching SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, PORTCULLIS_DROPS_BYTES);
} drops SEC(".maps");
