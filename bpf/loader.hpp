// Puts the XDP program on a port and keeps it there. The attachment is a bpf_link pinned in bpffs,
// so it outlives this process however it ends: a port without a dataplane is a closed port, and
// only Detach(), an operator's explicit wish, opens it. The maps are pinned beside it; a restart
// finds them as they were and swaps the program in place, without a packet in between that no
// program has seen.
//
// Needs CAP_BPF and CAP_NET_ADMIN, and bpffs on /sys/fs/bpf (mounted when it is not). Not
// thread-safe: these calls belong to the main thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "dataplane/packet/bytes.hpp"

namespace portcullis {

enum class XdpRole { kUntrusted, kTrusted, kLocal };

/// Sums over all CPUs since the maps were pinned; they survive a restart of the process.
struct XdpCounters {
  uint64_t passed = 0;      // to the kernel: ARP, ND, the host's own addresses
  uint64_t redirected = 0;  // to the dataplane
  uint64_t dropped = 0;     // everything else: the sum of the three below
  uint64_t throttled = 0;   // by Throttle(); dropped, counted apart from `dropped`
  uint64_t no_socket = 0;
  uint64_t malformed = 0;
  uint64_t not_for_us = 0;
};

class XdpPort {
 public:
  /// Attaches to `interface`, or updates in place what an earlier run left pinned for this instance
  /// and port. Afterwards everything protected is dropped until a socket registers in `xsks_map`
  /// (the AF_XDP PMD does so by itself when it is started without `xdp_prog=`).
  /// Call it before the PMD opens the port, in the network namespace of the interface.
  /// `instance` and `port`: 1..32 of [a-zA-Z0-9_-]. Errors: no such interface, no permission, no
  /// bpffs, a foreign XDP program (named), a pinned link that belongs to another interface.
  static Result<XdpPort> Attach(const std::string& instance, const std::string& port,
                                const std::string& interface, XdpRole role);

  XdpPort(XdpPort&&) noexcept;
  XdpPort& operator=(XdpPort&&) noexcept;
  ~XdpPort();  // closes descriptors; the program stays attached

  /// The prefixes behind the gate: packets to or from them go to the dataplane, never to the
  /// kernel. Only differences are written, and additions before removals, so that no prefix that
  /// stays is ever missing. Errors: the map is full.
  Result<void> SetProtected(std::span<const Prefix> prefixes);
  /// The host's own addresses on this port: what is addressed to them and is not ESP, UDP/4500 or
  /// an ICMP error about those goes to the kernel. Include link-local IPv6 addresses.
  Result<void> SetOwnAddresses(std::span<const Address> addresses);
  /// Drops ESP (bare or in UDP) with this SPI from this outer source for that long from now; zero
  /// or less ends it. The least recently used entry makes room.
  Result<void> Throttle(Spi spi, const Address& source, std::chrono::nanoseconds for_how_long);

  [[nodiscard]] XdpCounters Read() const;
  /// "native" (in the driver) or "generic" (in the kernel's stack, slower).
  [[nodiscard]] const std::string& mode() const { return mode_; }
  [[nodiscard]] int program() const { return program_; }       // descriptor, owned by this object
  [[nodiscard]] int sockets_map() const { return xsks_map_; }  // descriptor, owned by this object

  /// Removes the program and its pins: the kernel alone handles the port again. For an operator
  /// who says so. Not attached: kNotFound.
  static Result<void> Detach(const std::string& instance, const std::string& port);

 private:
  XdpPort() = default;
  std::string mode_;
  int program_ = -1, xsks_map_ = -1, protected_ = -1, own_ = -1, throttled_ = -1, counters_ = -1;
};

/// A port to be closed at boot, before any dataplane runs.
struct ClosedPort {
  std::string port;
  std::string interface;
  XdpRole role = XdpRole::kUntrusted;
};

/// Attaches to each and admits nothing but ARP/ND and the addresses that the interface has now.
/// A port that a dataplane already serves keeps its sockets and goes on. All are tried; the error
/// lists those that failed.
Result<void> CloseInterfaces(const std::string& instance, std::span<const ClosedPort> ports);

/// The addresses of `interface` as the kernel has them now, link-local ones included.
Result<std::vector<Address>> InterfaceAddresses(const std::string& interface);

/// Refuses when the kernel would forward what comes in on `interface`: the dataplane must be the
/// only way through. Admitted: an interface enslaved to a VRF whose other members are all in
/// `companions` (ports of the same side), since the kernel cannot lead it out of there. The
/// message names the sysctl and how to turn it off.
Result<void> CheckForwardingOff(const std::string& interface,
                                std::span<const std::string> companions = {});

}  // namespace portcullis
