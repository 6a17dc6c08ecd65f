// The kernel is the network's control plane; this mirrors what it decides. Links, addresses, routes
// (of the main table, or of the VRF that a port's interface is in) and neighbours become a FibInput
// whenever they have changed and settled. Resolving and keeping neighbours is asked of the kernel:
// there is no ARP of our own.
//
// A notification only says that something of a kind changed; that kind is then read again whole.
// Following single notifications would go wrong in known ways: the kernel deletes IPv4 routes of a
// link that goes down without saying so, and an overrun socket loses messages.
//
// Everything runs on the caller's thread; poll fd() and call Run().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "dataplane/config.hpp"
#include "dataplane/ports/kernel_routes.hpp"
#include "dataplane/ports/port.hpp"
#include "dataplane/state/fib.hpp"

namespace portcullis {

/// Exception ports are left out: their interface speaks for the port that they belong to.
std::vector<NetworkPort> NetworkPorts(const Ports& ports);

class NetlinkMirror {
 public:
  struct Callbacks {
    /// A new forwarding table; only when it differs from the last one.
    std::function<void(FibInput)> routes;
    /// The addresses of the port's own kernel interface (not for kernel-less ports).
    std::function<void(uint16_t port, const std::vector<Address>&)> own_addresses;
    /// Once for every port with a kernel interface when the mirror starts, then on change.
    std::function<void(uint16_t port, bool up)> link;
  };

  /// Reads the kernel's state and calls back once for everything before it returns.
  static Result<std::unique_ptr<NetlinkMirror>> Open(std::vector<NetworkPort> ports,
                                                     const std::vector<StaticRoute>& routes,
                                                     Callbacks callbacks);
  ~NetlinkMirror();
  NetlinkMirror(const NetlinkMirror&) = delete;
  NetlinkMirror& operator=(const NetlinkMirror&) = delete;

  /// Readable when the kernel has news.
  [[nodiscard]] int fd() const;
  /// How long the caller may wait before Run() is due even without news; negative: for ever.
  [[nodiscard]] std::chrono::milliseconds Timeout() const;
  /// Takes in news; calls back when they have settled (20 ms without further ones, or 200 ms in
  /// all). Does not block. Errors (no memory, socket gone) are passing: call again.
  Result<void> Run();

  /// Asks the kernel to resolve `next_hop` on the port's link. Repeating it within 100 ms costs
  /// nothing. Gateways of routes need no call: they are asked for, and kept, from the start.
  void Resolve(uint16_t port, const Address& next_hop);
  /// `next_hop` is in use: if the kernel holds it as stale, it is probed again.
  void Touch(uint16_t port, const Address& next_hop);

 private:
  class Impl;
  explicit NetlinkMirror(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace portcullis
