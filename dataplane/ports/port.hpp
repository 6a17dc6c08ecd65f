// Ports: every device of the configuration, brought up and ready for bursts. Bringing up fails
// closed: XDP is attached before the AF_XDP socket exists and stays behind when we go, so that
// nothing passes the interface in between.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "dataplane/config.hpp"
#include "dataplane/packet/verdict.hpp"
#include "dataplane/state/fib.hpp"

struct rte_mempool;

namespace portcullis {

class XdpPort;
struct XdpVariant;

/// What the XDP program of a port is made for. Exception ports have none.
XdpVariant XdpVariantOf(const DataplaneConfig& config, const PortConfig& port);

/// In front of the IP header every frame has this much (RTE_PKTMBUF_HEADROOM): outer IPv6 + UDP +
/// ESP + IV is 40 + 8 + 8 + 16 = 72 bytes at most.
inline constexpr uint16_t kHeadroom = 128;
/// Behind the packet: ESP padding, pad length, next header, ICV: at most 15 + 2 + 16.
inline constexpr uint16_t kTailroom = 64;

struct Port {
  static constexpr uint16_t kNone = UINT16_MAX;

  uint16_t id = kNone;  // DPDK's number for it
  std::string name;
  PortRole role = PortRole::kUntrusted;
  std::string device;  // for people: the interface, vdev or PCI address
  Mac mac{};
  uint16_t mtu = 1500;  // bytes of IP packet
  int ifindex = 0;      // of the kernel interface whose addresses and routes are this port's; with
                        // an exception port that one's; 0: none
  int far_ifindex = 0;  // of the kernel interface at the other end (net_tap, virtio_user); 0: none
  uint16_t rx_queues = 1;
  uint16_t tx_queues = 1;          // may be fewer than workers: then they share
  std::unique_ptr<XdpPort> xdp;    // AF_XDP ports only
  std::string af_xdp_mode;         // "zero-copy", "copy"; empty: no AF_XDP
  uint16_t exception = kNone;      // the exception port that carries this port's host traffic
  uint16_t exception_for = kNone;  // role exception: the port whose host traffic it carries
  std::vector<InterfaceAddress> addresses;  // configured ones: ports without kernel interface
  std::vector<Prefix> prefixes;             // role local

  Port();
  Port(Port&&) noexcept;
  Port& operator=(Port&&) noexcept;
  ~Port();

  /// No XDP program has looked at what comes from here: the pipeline's own stage does.
  [[nodiscard]] bool NeedsPrefilter() const { return role == PortRole::kUntrusted && !xdp; }
  /// The queue on which worker `w` receives, or kNone.
  [[nodiscard]] uint16_t RxQueueOf(unsigned w) const {
    return w < rx_queues ? static_cast<uint16_t>(w) : kNone;
  }
};

/// Since the port was started, but for XDP's.
struct PortCounters {
  uint64_t rx_packets = 0;
  uint64_t tx_packets = 0;
  uint64_t rx_missed = 0;  // no descriptor or no buffer
  uint64_t tx_errors = 0;
  uint64_t xdp_dropped = 0;  // by our XDP program, before the dataplane
  // By verdict, in the order of kFirstLineVerdicts; since the program came to the interface first.
  std::array<uint64_t, kFirstLineVerdicts.size()> xdp{};
  bool link_up = false;
};

class Ports {
 public:
  /// Brings up every port in the order of the configuration. The EAL runs already. Errors name the
  /// port: interface missing, driver missing, MTU too large, too few queues, forwarding on.
  static Result<Ports> Open(const DataplaneConfig& config);

  Ports(Ports&&) noexcept;
  Ports& operator=(Ports&&) noexcept;
  /// Stops and closes the devices. XDP programs stay attached: fail closed.
  ~Ports();

  [[nodiscard]] std::vector<Port>& all() { return ports_; }
  [[nodiscard]] const std::vector<Port>& all() const { return ports_; }
  [[nodiscard]] const Port* Find(std::string_view name) const;
  [[nodiscard]] const Port* FindId(uint16_t id) const;
  [[nodiscard]] rte_mempool* pool() const { return pool_; }

  static Result<PortCounters> Read(const Port& port);

 private:
  Ports() = default;
  std::vector<Port> ports_;
  rte_mempool* pool_ = nullptr;
};

}  // namespace portcullis
