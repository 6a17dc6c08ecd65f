/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The first line of defence, one instance per port. It decides who sees a packet: the dataplane
 * (through its AF_XDP socket), the kernel, or nobody. The kernel sees only ARP, neighbour discovery
 * and what is addressed to the host itself, and what it could be tricked into forwarding is kept
 * from it, so that no sysctl turned by accident makes a way around the gate. With empty maps, or
 * without a socket, everything else is dropped: closed is what happens by itself.
 *
 * parse.h reads a frame, decide.h judges it, connections.h what comes to the guard, by the buckets
 * of limits.h; maps.h and shared.h say by what.
 *
 * The name of the program, the name of the socket map and the metadata at the end are libxdp's
 * convention: an AF_XDP socket library that finds them adopts this program instead of loading its
 * own. There must be no reference count (a map of mutable data), or closing the last socket would
 * detach us.
 */
#include "decide.h"

SEC("xdp")
int xsk_def_prog(struct xdp_md* ctx) {
  return act(ctx, judge(ctx));
}

__uint(xsk_prog_version, 1) SEC("xdp_metadata");
char _license[] SEC("license") = "Dual BSD/GPL";
