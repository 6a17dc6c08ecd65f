/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The policy in force, and the buckets by which it limits sources. */
#pragma once

#include "maps.h"
#include "parse.h"

/* The slot in force, and its settings. */
struct policy {
  const struct portcullis_settings* settings;
  __u32 slot;
};

/* 0: there is none, which cannot be. */
static __always_inline int policy_in(struct policy* policy, __u32 slot) {
  policy->slot = slot;
  policy->settings = bpf_map_lookup_elem(&settings, &policy->slot);
  return policy->settings != 0;
}

/* Once for a packet: whatever judges it further is told the slot. */
static __always_inline int read_policy(struct policy* policy) {
  __u32 zero = 0;
  const volatile __u32* slot = bpf_map_lookup_elem(&current, &zero);
  return slot && policy_in(policy, *slot);
}

/* The source as far as limits tell sources apart. */
static __always_inline void mask_source(const struct policy* policy, const struct packet* p,
                                        struct portcullis_address* masked) {
  const __u64* mask =
      (const void*)(p->is_v6 ? policy->settings->ipv6_mask : policy->settings->ipv4_mask);
  const __u64* source = (const void*)p->source.bytes;
  __u64* to = (void*)masked->bytes;
  to[0] = source[0] & mask[0];
  to[1] = source[1] & mask[1];
}

/* When a bucket, whose value that is, will be empty of debts. A debt that this limit cannot have
 * made is another policy's, and forgiven. */
static __always_inline __u64 due_of(const __u64* bucket, __u64 now,
                                    const struct portcullis_limit* limit) {
  __u64 due = *bucket;
  return due < now || due > now + limit->tolerance_ns + limit->interval_ns ? now : due;
}

/* One packet from a bucket. CPUs may race for one: then a few packets more than the limit pass, and
 * nothing else happens. */
static __always_inline int take(__u64* bucket, __u64 now, const struct portcullis_limit* limit) {
  __u64 due = due_of(bucket, now, limit);
  if (due > now + limit->tolerance_ns) return 0;
  *bucket = due + limit->interval_ns;
  return 1;
}

/* Of this source's bucket in `buckets`. A source that is new, or forgotten, has a full one. */
static __always_inline int take_of_source(void* buckets, const struct policy* policy,
                                          const struct packet* p,
                                          const struct portcullis_limit* limit) {
  if (!limit->interval_ns) return 1;
  struct portcullis_address source __attribute__((aligned(8)));
  mask_source(policy, p, &source);
  __u64 now = bpf_ktime_get_ns();
  __u64* due = bpf_map_lookup_elem(buckets, &source);
  if (due) return take(due, now, limit);
  __u64 first = now + limit->interval_ns;
  return bpf_map_update_elem(buckets, &source, &first, BPF_ANY) == 0;
}
