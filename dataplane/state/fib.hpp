// Where packets go: an immutable table of routes with their next hops' link-layer addresses, built
// by the main thread from what the kernel says (ports/netlink) and swapped by RCU.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/ip.hpp"
#include "dataplane/state/prefix_map.hpp"

namespace portcullis {

using Mac = std::array<uint8_t, 6>;

struct NextHop {
  Mac destination{};    // valid when `resolved`
  Mac source{};         // the port's own
  uint16_t port = 0;    // DPDK port id
  uint16_t mtu = 1500;  // of the route or the port, bytes of IP packet
  bool resolved = false;
  Address gateway;  // whom to resolve: the gateway, or for on-link routes unset and the
                    // destination itself is looked up (see Fib::Lookup)

  bool operator==(const NextHop&) const = default;
};

struct Route {
  /// A blackhole or unreachable route: it hides less specific ones and answers "no route".
  static constexpr uint32_t kUnreachable = UINT32_MAX;

  Prefix prefix;
  uint32_t next_hop = 0;  // index into FibInput::next_hops

  bool operator==(const Route&) const = default;
};

/// What a Fib is made from. An on-link destination that the kernel has resolved appears as a host
/// route of its own; an unresolved one falls to the on-link prefix, whose next hop has
/// `resolved == false` and gateway unset ("::").
struct FibInput {
  std::vector<NextHop> next_hops;
  std::vector<Route> routes;

  bool operator==(const FibInput&) const = default;
};

class Fib {
 public:
  /// Longest prefix wins; of equal prefixes the first. Errors: no memory, a next hop that is not
  /// there. The EAL must run: the nodes live in its memory.
  static Result<std::unique_ptr<const Fib>> Build(FibInput input);
  Fib(const Fib&) = delete;
  Fib& operator=(const Fib&) = delete;

  /// The next hop for `destination`, or null when there is no route. Safe on any worker. An IPv4
  /// destination never matches an IPv6 route, not even ::/0, although they share the table.
  [[nodiscard]] const NextHop* Lookup(const Address& destination) const noexcept {
    const auto found = map_.Lookup(destination);
    return !found || *found == Route::kUnreachable ? nullptr : &next_hops_[*found];
  }
  [[nodiscard]] size_t size() const { return routes_; }

 private:
  Fib() = default;
  std::vector<NextHop> next_hops_;
  PrefixMap map_;
  size_t routes_ = 0;
};

}  // namespace portcullis
