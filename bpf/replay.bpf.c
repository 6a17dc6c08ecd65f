/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* For tests and benchmarks: the program's own code on a new frame in each repetition of
 * BPF_PROG_TEST_RUN, which by itself would show it one packet over and over. The frames stand in a
 * map that user space writes; each is copied over the packet first. See replay.hpp.
 */
#include "replay.h"
#include "decide.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct replay_frame);
  __uint(max_entries, REPLAY_FRAMES);
  __uint(map_flags, BPF_F_MMAPABLE);
} frames SEC(".maps");

/* Which frame is next. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 1);
} cursor SEC(".maps");

static __always_inline struct replay_frame* next_frame(void) {
  __u32 zero = 0;
  __u32* at = bpf_map_lookup_elem(&cursor, &zero);
  if (!at) return 0;
  __u32 index = (*at)++ & (REPLAY_FRAMES - 1);
  return bpf_map_lookup_elem(&frames, &index);
}

static __always_inline void copy(void* to, const void* from, int bytes) {
  for (int i = 0; i < bytes / 8; ++i) ((__u64*)to)[i] = ((const __u64*)from)[i];
}

/* The next frame's headers over the packet, which has room for them. */
static __always_inline int copy_headers(struct xdp_md* ctx) {
  struct replay_frame* frame = next_frame();
  void* data = (void*)(long)ctx->data;
  if (!frame || data + REPLAY_HEADER_BYTES > (void*)(long)ctx->data_end) return 0;
  copy(data, frame->bytes, REPLAY_HEADER_BYTES);
  return 1;
}

/* What the others cost without their own work. */
SEC("xdp")
int replay_copy(struct xdp_md* ctx) {
  return copy_headers(ctx) ? XDP_DROP : XDP_ABORTED;
}

/* A program that parses the same headers and drops: the measure of the decision below. */
SEC("xdp")
int replay_parse(struct xdp_md* ctx) {
  if (!copy_headers(ctx)) return XDP_ABORTED;
  struct packet p = {};
  int group = 0;
  if (parse(ctx, &p, &group) != LINK_IP || group) return XDP_DROP;
  struct esp_header esp = {};
  enum protection what = find_protection(&p, (void*)(long)ctx->data_end, &esp);
  /* All of it is wanted, so that the compiler leaves nothing out. */
  asm volatile("" : : "r"(&p), "r"(what), "r"(&esp) : "memory");
  return XDP_DROP;
}

SEC("xdp")
int replay_decide(struct xdp_md* ctx) {
  return copy_headers(ctx) ? act(ctx, judge(ctx)) : XDP_ABORTED;
}

static __always_inline __u32 classify(struct xdp_md* ctx, struct replay_frame* frame) {
  struct packet p = {};
  int group = 0;
  switch (parse(ctx, &p, &group)) {
    case LINK_MALFORMED:
      return REPLAY_MALFORMED;
    case LINK_ARP:
    case LINK_OTHER:
      return REPLAY_NOT_IP;
    case LINK_IP:
      break;
  }
  struct esp_header esp = {};
  enum protection what = find_protection(&p, (void*)(long)ctx->data_end, &esp);
  frame->spi = esp.spi;
  switch (what) {
    case PROTECTION_MALFORMED:
      return REPLAY_MALFORMED;
    case PROTECTION_FRAGMENT:
      return REPLAY_FRAGMENT;
    case PROTECTION_ESP:
      return REPLAY_ESP;
    case PROTECTION_ABOUT:
      return REPLAY_ABOUT;
    case PROTECTION_NONE:
      break;
  }
  return REPLAY_CLEAR;
}

VERIFIED_ONCE int judge_once(struct xdp_md* ctx) {
  return judge(ctx);
}

/* Takes the frame at its own length, and says what the parser and the program make of it. */
SEC("xdp")
int replay_classify(struct xdp_md* ctx) {
  struct replay_frame* frame = next_frame();
  if (!frame || frame->length < ETH_HLEN || frame->length > REPLAY_FRAME_BYTES) return XDP_ABORTED;
  int present = (void*)(long)ctx->data_end - (void*)(long)ctx->data;
  if (bpf_xdp_adjust_tail(ctx, REPLAY_FRAME_BYTES - present)) return XDP_ABORTED;
  void* data = (void*)(long)ctx->data;
  if (data + REPLAY_FRAME_BYTES > (void*)(long)ctx->data_end) return XDP_ABORTED;
  copy(data, frame->bytes, REPLAY_FRAME_BYTES);
  if (bpf_xdp_adjust_tail(ctx, (int)frame->length - REPLAY_FRAME_BYTES)) return XDP_ABORTED;
  frame->kind = classify(ctx, frame);
  frame->counter = judge_once(ctx);
  return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
