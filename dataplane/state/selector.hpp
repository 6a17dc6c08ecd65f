// RFC 4301 4.4.1.1: which packets a security association or a policy rule admits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/ip.hpp"
#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/flow.hpp"

namespace portcullis {

struct PortRange {
  uint16_t first = 0;
  uint16_t last = UINT16_MAX;
  [[nodiscard]] bool any() const { return first == 0 && last == UINT16_MAX; }
  [[nodiscard]] bool Contains(uint16_t port) const { return port >= first && port <= last; }
};

/// "local" is the trusted side of this gate, "remote" the peer's.
struct Selector {
  std::optional<Prefix> local;  // absent: any
  std::optional<Prefix> remote;
  uint8_t protocol = 0;  // 0: any
  PortRange local_ports;
  PortRange remote_ports;

  [[nodiscard]] bool Matches(const Flow& flow, Direction direction) const noexcept {
    const bool in = direction == Direction::inbound;
    if (remote && !Covers(*remote, in ? flow.source : flow.destination)) return false;
    if (local && !Covers(*local, in ? flow.destination : flow.source)) return false;
    if (protocol != 0 && protocol != flow.protocol) return false;
    if (local_ports.any() && remote_ports.any()) return true;
    // Fragments, and protocols without ports, match only selectors without ports (7.2, 7.4).
    if (!flow.has_ports) return false;
    return local_ports.Contains(in ? flow.destination_port : flow.source_port) &&
           remote_ports.Contains(in ? flow.source_port : flow.destination_port);
  }

 private:
  // IPv4 lives inside the space of IPv6, but ::/0 means IPv6 only.
  static bool Covers(const Prefix& prefix, const Address& address) noexcept {
    return prefix.Contains(address) && prefix.IsV4() == address.IsV4();
  }
};

inline bool AnyMatches(std::span<const Selector> selectors, const Flow& flow,
                       Direction direction) noexcept {
  for (const Selector& selector : selectors) {
    if (selector.Matches(flow, direction)) return true;
  }
  return false;
}

}  // namespace portcullis
