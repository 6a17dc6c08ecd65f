// The host's own traffic on a port that DPDK owns whole: it goes to the exception port. On ports
// that are shared with the kernel the XDP program has taken it out before, by the same rules.
#pragma once

#include "base/ip.hpp"
#include "dataplane/esp/header.hpp"
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

/// Of a packet of kind esp.
inline Spi SpiOf(const Packet& packet) noexcept {
  return Spi{reinterpret_cast<const EspHeader*>(packet.At(packet.esp))->spi.host()};
}

/// One of the host's own addresses on this port.
bool IsOwn(Worker& worker, uint16_t port, const Address& address) noexcept;
/// Behind the gate, or a peer's: what the XDP program would be told (Supervisor).
bool IsProtected(const Snapshot& policy, const Address& address) noexcept;
/// RFC 4861's messages, from this link (hop limit 255), whole and without extension headers (RFC
/// 6980), to a destination that no router may lead further.
bool IsNeighbourDiscovery(Worker& worker, const Packet& packet) noexcept;

/// True when the packet was the host's and has been sent there: ARP, neighbour discovery, IKE
/// beside ESP in UDP, and what is addressed to the port. Not for ESP or what was found to be about
/// it.
inline bool ToHost(Worker& worker, Packet& packet) noexcept;
bool ToExceptionPort(Worker& worker, Packet& packet) noexcept;

bool ToHost(Worker& worker, Packet& packet) noexcept {
  return worker.PortOf(packet).exception != Port::kNone && ToExceptionPort(worker, packet);
}

}  // namespace portcullis
