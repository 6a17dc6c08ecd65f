// From what the kernel knows to what the dataplane looks up. A pure function: the state of links,
// addresses, routes and neighbours goes in, a FibInput comes out. The rules are here, the reading
// is in kernel_state.cpp.
//
// - A port follows the table of the VRF that its interface is in, or the main table.
// - A prefix behind a `local` port comes before everything else, more specific routes included.
// - Routes that lead to another interface than ours, to the host itself, to a broadcast address or
//   to nowhere (blackhole, unreachable, prohibit) answer "no route", so that nothing less specific
//   catches their packets. Of equal prefixes one of ours comes before one of another interface.
// - Link-local, multicast and loopback destinations are never forwarded (RFC 4291 2.5.6, RFC 3927
//   2.7), and directed broadcasts neither (RFC 2644).
// - Of several next hops (ECMP) the first that is alive.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/ip.hpp"
#include "dataplane/config.hpp"
#include "dataplane/state/fib.hpp"

namespace portcullis {

struct KernelLink {
  int ifindex = 0;
  Mac mac{};
  uint16_t mtu = 0;
  bool up = false;     // administratively, and with a carrier
  uint32_t table = 0;  // of the VRF that it is in; 0: none
  int veth_peer = 0;   // the other end's ifindex when it is in this namespace too; 0: none

  bool operator==(const KernelLink&) const = default;
};

struct KernelAddress {
  int ifindex = 0;
  Address address;
};

struct KernelHop {
  int ifindex = 0;
  std::optional<Address> gateway;  // none: on-link
};

struct KernelRoute {
  Prefix prefix;
  uint32_t table = 0;
  uint32_t metric = 0;
  uint32_t mtu = 0;             // 0: the port's
  bool forwards = false;        // unicast; false: local, broadcast, blackhole ...
  std::vector<KernelHop> hops;  // the living ones
};

struct KernelNeighbour {
  int ifindex = 0;
  Address address;
  Mac mac{};
  bool usable = false;  // its MAC may be used: REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP
  bool stale = false;
  bool fixed = false;  // PERMANENT or NOARP: nothing to ask for
};

struct KernelState {
  std::vector<KernelLink> links;
  std::vector<KernelAddress> addresses;
  std::vector<KernelRoute> routes;
  std::vector<KernelNeighbour> neighbours;

  [[nodiscard]] const KernelLink* Link(int ifindex) const;
};

/// What is to be known of a port.
struct NetworkPort {
  uint16_t id = 0;
  std::string name;
  PortRole role = PortRole::kUntrusted;
  int ifindex = 0;      // 0: no kernel interface; then the fields below are all there is
  int far_ifindex = 0;  // kernel interface at the other end; 0: none
  Mac mac{};
  uint16_t mtu = 1500;
  std::vector<InterfaceAddress> addresses;
  std::vector<Prefix> prefixes;  // role local
};

struct CompiledRoutes {
  FibInput fib;
  /// Whom routes on kernel interfaces lead to, by port: to be kept resolved.
  std::vector<std::pair<uint16_t, Address>> gateways;
};

CompiledRoutes CompileRoutes(const KernelState& kernel, const std::vector<NetworkPort>& ports,
                             const std::vector<StaticRoute>& routes);

}  // namespace portcullis
