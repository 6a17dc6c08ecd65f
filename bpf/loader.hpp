// Puts the XDP program on a port and keeps it there. The attachment is a bpf_link pinned in bpffs,
// so it outlives this process however it ends: a port without a dataplane is a closed port, and
// only Detach(), an operator's explicit wish, opens it. The maps are pinned beside it; a restart
// finds them as they were and swaps the program in place, without a packet in between that no
// program has seen.
//
// Needs CAP_BPF and CAP_NET_ADMIN, and bpffs on /sys/fs/bpf (mounted when it is not). Not
// thread-safe: these calls belong to the main thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "bpf/spi_table.hpp"
#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/verdict.hpp"
#include "dataplane/state/first_line.hpp"

namespace portcullis {

enum class XdpRole { kUntrusted, kTrusted, kLocal };

/// Sums over all CPUs since the maps were pinned, which outlive the process: one per verdict of the
/// first line, in the order of PORTCULLIS_FIRST_LINE_VERDICTS.
struct XdpCounters {
  std::array<uint64_t, kFirstLineVerdicts.size()> packets{};

  /// `verdict` is one of kFirstLineVerdicts.
  [[nodiscard]] uint64_t Of(Verdict verdict) const;
  /// All that neither the dataplane nor the kernel got.
  [[nodiscard]] uint64_t Dropped() const;
};

/// What one policy generation asks of a port.
struct XdpPolicy {
  uint64_t generation = 0;
  std::vector<Prefix> protected_nets;  // the prefixes behind the gate, and the peers'
  bool cleartext = false;              // some bypass rule admits cleartext
  FirstLine first_line;
};

/// A dropped packet, as far as it was copied.
struct XdpDrop {
  std::chrono::nanoseconds at{};  // CLOCK_MONOTONIC
  Verdict verdict = Verdict::malformed;
  uint32_t length = 0;  // of the frame, bytes
  uint32_t rx_queue = 0;
  std::vector<uint8_t> frame;  // its first bytes, at most 128
};

/// What the program is made for; constants in it.
struct XdpVariant {
  XdpRole role = XdpRole::kUntrusted;
  uint32_t sa_capacity = 1024;  // a power of two: of the table of SPIs
  bool reassemble = false;      // fragments go to the dataplane instead of ending here
  std::string object;           // the program's file; empty: this build's, where it is installed
};

class XdpPort {
 public:
  /// Attaches to `interface`, or updates in place what an earlier run left pinned for this instance
  /// and port: its policy, buckets, suspects, counters and addresses are kept, its SPIs go.
  /// Afterwards everything protected is dropped until a socket registers in `xsks_map` (the AF_XDP
  /// PMD does so by itself when it is started without `xdp_prog=`) and SPIs are added.
  /// Call it before the PMD opens the port, in the network namespace of the interface.
  /// `instance` and `port`: 1..32 of [a-zA-Z0-9_-]. Errors: no such interface, no permission, no
  /// bpffs, a foreign XDP program (named), a pinned link that belongs to another interface. Also a
  /// program file that is missing or not this build's, or that the kernel does not take: then what
  /// is attached stays, and where nothing is, the interface is closed to everything, ARP included.
  static Result<XdpPort> Attach(const std::string& instance, const std::string& port,
                                const std::string& interface, const XdpVariant& variant);

  struct Handles;  // descriptors; the loader's own

  XdpPort(XdpPort&&) noexcept;
  XdpPort& operator=(XdpPort&&) noexcept;
  ~XdpPort();  // closes descriptors; the program stays attached

  /// Fills the slot that is not in force, all or nothing; no packet sees it yet. Errors: no memory,
  /// more prefixes or services than there is room for.
  Result<void> Prepare(const XdpPolicy& policy);
  /// Puts what was prepared in force, in one step. Does nothing when nothing is prepared. Errors: a
  /// failed system call; then the policy before is still in force.
  Result<void> Commit();
  /// The generation in force, perhaps of an earlier process; 0: no policy ever.
  [[nodiscard]] uint64_t generation() const;
  /// Which ESP goes on to the dataplane. Valid as long as this object.
  [[nodiscard]] SpiTable spis() const;
  /// The host's own addresses on this port: what is addressed to them and is not ESP, UDP/4500 or
  /// an ICMP error about those goes to the kernel. Include link-local IPv6 addresses.
  Result<void> SetOwnAddresses(std::span<const Address> addresses);
  /// ESP (bare or in UDP) with this SPI from other outer sources than `endpoint`, of whatever port,
  /// has a tiny bucket for that long from now; zero or less ends it. Once more takes the place of
  /// what was said before, and fills no bucket. The least recently used entry makes room.
  Result<void> Suspect(Spi spi, const Address& endpoint, std::chrono::nanoseconds for_how_long);

  [[nodiscard]] XdpCounters Read() const;
  /// One drop in `one_in` (rounded up to a power of two) is copied from now on; 0: none.
  Result<void> WatchDrops(uint32_t one_in);
  /// What was copied since the last call, oldest first, at most `most`.
  std::vector<XdpDrop> TakeDrops(size_t most);
  /// "native" (in the driver) or "generic" (in the kernel's stack, slower).
  [[nodiscard]] const std::string& mode() const;
  [[nodiscard]] int program() const;      // descriptor, owned by this object
  [[nodiscard]] int sockets_map() const;  // descriptor, owned by this object

  /// Removes the program and its pins: the kernel alone handles the port again. For an operator
  /// who says so. Not attached: kNotFound.
  static Result<void> Detach(const std::string& instance, const std::string& port);

 private:
  friend Result<void> CloseInterfaces(const std::string& instance,
                                      std::span<const struct ClosedPort> ports);
  XdpPort();
  static Result<XdpPort> AttachAndKeepSas(const std::string& instance, const std::string& port,
                                          const std::string& interface, const XdpVariant& variant);
  std::unique_ptr<Handles> handles_;
};

/// A port to be closed at boot, before any dataplane runs.
struct ClosedPort {
  std::string port;
  std::string interface;
  XdpVariant variant;
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
