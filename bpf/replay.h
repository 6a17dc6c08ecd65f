/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What replay.bpf.c and replay.hpp share. */
#pragma once

#include <linux/types.h>

#define REPLAY_FRAMES 65536
#define REPLAY_FRAME_BYTES 240
#define REPLAY_HEADER_BYTES 80 /* Ethernet, VLAN, IPv6, and ESP or UDP behind them */

enum replay_kind {
  REPLAY_UNSEEN,
  REPLAY_MALFORMED,
  REPLAY_NOT_IP,
  REPLAY_FRAGMENT, /* of ESP or UDP */
  REPLAY_ESP,      /* with its SPI */
  REPLAY_ABOUT,    /* keepalive, non-ESP marker, ICMP error about ESP */
  REPLAY_CLEAR,    /* any other */
};

struct replay_frame {
  __u32 length;
  __u32 kind;    /* enum replay_kind */
  __u32 counter; /* enum portcullis_counter */
  __u32 spi;     /* network order */
  __u8 bytes[REPLAY_FRAME_BYTES];
};
