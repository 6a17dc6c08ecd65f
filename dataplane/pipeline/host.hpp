// The host's own traffic on a port that DPDK owns whole: it goes to the exception port. On ports
// that are shared with the kernel the XDP program has taken it out before, by the same rules.
#pragma once

#include "base/ip.hpp"
#include "dataplane/packet/packet.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {

/// Of the outer packet, whose header was read before.
inline Address SourceOf(const Packet& packet) noexcept {
  return SourceAt(packet.At(packet.l3));
}
inline Address DestinationOf(const Packet& packet) noexcept {
  return DestinationAt(packet.At(packet.l3));
}

/// True when the packet was the host's and has been sent there: ARP, neighbour discovery, IKE
/// beside ESP in UDP, and what is addressed to the port. Not for ESP or what was found to be about
/// it.
inline bool ToHost(Worker& worker, Packet& packet) noexcept;
bool ToExceptionPort(Worker& worker, Packet& packet) noexcept;

bool ToHost(Worker& worker, Packet& packet) noexcept {
  return worker.PortOf(packet).exception != Port::kNone && ToExceptionPort(worker, packet);
}

}  // namespace portcullis
