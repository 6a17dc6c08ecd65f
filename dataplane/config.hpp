// What one dataplane process is told at start-up, by one YAML file (config/dataplane.yaml is the
// commented default). Reading it checks everything that can be known without touching the host, so
// that what remains to fail is what a host can lack.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "dataplane/state/fib.hpp"

namespace portcullis {

/// AF_XDP frames share one 4 KiB page with the mbuf, both headrooms and the kernel's own
/// bookkeeping (320 bytes of skb_shared_info); what is left less Ethernet and two VLAN tags.
inline constexpr uint16_t kMaxAfXdpMtu = 3498;
inline constexpr uint16_t kMaxMtu = 9216;
/// RFC 791 wants 576 of every IPv4 host; IPv6 needs 1280 (RFC 8200 5) and the kernel switches it
/// off below that by itself.
inline constexpr uint16_t kMinMtu = 576;
inline constexpr unsigned kMaxWorkers = 64;

enum class PortRole : uint8_t {
  kUntrusted,  // faces the wire: ESP in and out
  kTrusted,    // faces the servers
  kLocal,      // leads to a kernel interface of this host
  kException,  // carries the host's own traffic of a port that DPDK owns whole
};
std::string_view Name(PortRole role);

/// The three ways to a port. An interface stays the kernel's and is shared over AF_XDP.
struct InterfaceDevice {
  std::string name;
};
struct VdevDevice {
  std::string args;  // "net_ring0", "net_pcap0,rx_pcap=in.pcap", "net_tap0,iface=guard0"
};
struct PciDevice {
  std::string address;  // "0000:01:00.0"
};
using Device = std::variant<InterfaceDevice, VdevDevice, PciDevice>;
/// As people know it: "wire0", "net_tap0,iface=guard0", "0000:01:00.0".
std::string Text(const Device& device);

/// An address with the prefix that is on its link, as in 192.0.2.1/24.
struct InterfaceAddress {
  Address address;
  Prefix prefix;

  /// Host bits may be set; a bare address is a host prefix.
  static Result<InterfaceAddress> Parse(std::string_view text);
  bool operator==(const InterfaceAddress&) const = default;
};

struct PortConfig {
  std::string name;  // [a-z0-9-]{1,16}
  PortRole role = PortRole::kUntrusted;
  Device device;
  uint16_t queues = 1;  // receive queues, 1..64
  uint16_t mtu = 0;     // bytes of IP packet; 0: the interface's own, or 1500 without one
  // For ports without a kernel interface: what the kernel would have told.
  std::optional<Mac> mac;
  std::vector<InterfaceAddress> addresses;
  std::vector<Prefix> prefixes;  // role local: what lives there, routed before any other route
  std::string exception_for;     // role exception: whose host traffic it carries
};

struct StaticRoute {
  Prefix prefix;
  std::string port;
  Mac mac{};  // of the next hop: there is no kernel to resolve it
};

enum class Idle : uint8_t { kSleep, kPoll };
enum class Hugepages : uint8_t { kAuto, kRequire, kNever };
enum class FragmentMode : uint8_t { kDrop, kReassemble };

struct WorkersConfig {
  unsigned count = 1;           // 1..64
  std::vector<unsigned> cores;  // one per worker, in order; empty: not pinned
  Idle idle = Idle::kSleep;
};

struct MemoryConfig {
  Hugepages hugepages = Hugepages::kAuto;
  unsigned megabytes = 256;  // 64..65536, all of DPDK's memory
  unsigned buffers = 16384;  // packets, 2048..1048576, shared by all ports
};

struct SasConfig {
  unsigned capacity = 16384;          // a power of two, 64..1048576
  unsigned max_replay_window = 8192;  // packets, 64..8192; sizes each record of the state file
};

struct SteeringConfig {
  std::string socket;                         // absent: /run/portcullis/<instance>/steer.sock
  std::vector<std::string> users = {"root"};  // who may connect, by peer credentials
};

struct AuthFailureConfig {
  unsigned per_second = 100;      // failed ICVs of one SA until it is suspect, 1..1000000
  unsigned suspect_seconds = 10;  // without a failure until it is not, 1..3600
  unsigned cpu_percent = 10;      // of a worker's time that failed ICVs may cost, 1..100
};

struct NeighboursConfig {
  unsigned queue = 256;        // packets that wait for a neighbour, all together, 0..65536
  unsigned timeout_ms = 1000;  // how long each waits, 10..60000
};

struct DataplaneConfig {
  std::string file;               // it came from; for messages
  std::string instance = "gate";  // [a-z0-9-]{1,16}
  bool lab = false;               // admits manually keyed SAs and replay_window 0
  WorkersConfig workers;
  MemoryConfig memory;
  std::vector<PortConfig> ports;
  std::vector<StaticRoute> routes;
  SasConfig sas;
  std::string state_file;  // absent: /dev/shm/portcullis-<instance>.state
  SteeringConfig steering;
  FragmentMode fragments = FragmentMode::kDrop;
  AuthFailureConfig auth_failures;
  bool mss_clamp = true;
  NeighboursConfig neighbours;
};

/// Reads and checks. Errors name file:line, the field, what was expected and what was found.
Result<DataplaneConfig> LoadConfig(const std::string& path);
/// The same for text that is already read; `file` is for messages.
Result<DataplaneConfig> ParseConfig(const std::string& yaml, const std::string& file);

}  // namespace portcullis
