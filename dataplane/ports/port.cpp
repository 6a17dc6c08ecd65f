// Bringing a port up, as a table of contents: close it (XDP), check that the kernel does not
// forward around it, hand it to DPDK, configure, start.
#include "dataplane/ports/port.hpp"

#include <net/if.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "bpf/loader.hpp"
#include "dataplane/ports/af_xdp.hpp"
#include "dataplane/ports/eal.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kDescriptors = 1024;
// The AF_XDP PMD has rings of its own size and fills them from the pool at once.
constexpr unsigned kAfXdpDescriptors = 2048;
constexpr unsigned kPoolCache = 256;  // buffers that each worker keeps at hand
constexpr unsigned kVlanTags = 2 * RTE_VLAN_HLEN;
// The kernel writes a received AF_XDP frame behind this much more headroom (XDP_PACKET_HEADROOM).
constexpr unsigned kXdpHeadroom = 256;

bool IsAfXdp(const PortConfig& port) {
  return std::holds_alternative<InterfaceDevice>(port.device);
}

/// The value of `key` in "net_tap0,iface=guard0"; empty when it is not there.
std::string Argument(const Device& device, std::string_view key) {
  std::string text = Text(device);
  for (size_t at = text.find(','); at != std::string::npos; at = text.find(',', at)) {
    const std::string_view rest = std::string_view(text).substr(++at);
    if (!rest.starts_with(key) || !rest.substr(key.size()).starts_with('=')) continue;
    const std::string_view value = rest.substr(key.size() + 1);
    return std::string(value.substr(0, value.find(',')));
  }
  return {};
}

/// Of a port: an Error that begins with its name.
tl::unexpected<Error> Refuse(const PortConfig& port, std::string message, std::string expected = {},
                             std::string found = {}) {
  return tl::unexpected(Error{ErrorKind::kUnavailable, std::move(message),
                              fmt::format("port {} ({})", port.name, Text(port.device)),
                              std::move(expected), std::move(found)});
}
std::string Why(int negative_errno) {
  return rte_strerror(-negative_errno);
}

/// The MTU in force: the configured one, else the interface's, else Ethernet's.
uint16_t Mtu(const PortConfig& port) {
  if (port.mtu != 0) return port.mtu;
  if (const auto* device = std::get_if<InterfaceDevice>(&port.device)) {
    if (const auto facts = ReadInterface(device->name)) {
      return static_cast<uint16_t>(std::min<unsigned>(facts->mtu, kMaxAfXdpMtu));
    }
  }
  return RTE_ETHER_MTU;
}

/// What all devices together may hold at one time, and the workers beside them.
unsigned BuffersNeeded(const DataplaneConfig& config) {
  unsigned needed = config.workers.count * (2 * kPoolCache + 256);
  for (const PortConfig& port : config.ports) {
    const bool pci = std::holds_alternative<PciDevice>(port.device);
    const unsigned rings = IsAfXdp(port) ? 2 * kAfXdpDescriptors : pci ? 2 * kDescriptors : 64;
    needed += port.queues * rings;
  }
  return needed;
}

Result<rte_mempool*> MakePool(const DataplaneConfig& config) {
  const unsigned needed = BuffersNeeded(config);
  if (config.memory.buffers < needed) {
    return Invalid(config.file + ": memory.buffers", "too few for the rings of the ports",
                   fmt::format("at least {}", needed), fmt::format("{}", config.memory.buffers));
  }
  unsigned room = RTE_MBUF_DEFAULT_BUF_SIZE;
  for (const PortConfig& port : config.ports) {
    room = std::max(room, kHeadroom + (IsAfXdp(port) ? kXdpHeadroom : 0) + RTE_ETHER_HDR_LEN +
                              kVlanTags + Mtu(port) + kTailroom);
  }
  // The pool is AF_XDP's memory too, and there one frame, mbuf and the pool's own header included,
  // is at most a page; kMaxAfXdpMtu is what then fits. Hence also no spreading over memory
  // channels, which would pad the frames.
  const bool af_xdp = std::ranges::any_of(config.ports, IsAfXdp);
  if (af_xdp) {
    const auto page = static_cast<unsigned>(sysconf(_SC_PAGESIZE));
    room = std::min<unsigned>(room, page - RTE_CACHE_LINE_SIZE - sizeof(rte_mbuf));
  }
  static unsigned made = 0;  // DPDK knows pools by name
  const std::string name = fmt::format("portcullis{}", made++);
  rte_pktmbuf_pool_private sizes{};
  sizes.mbuf_data_room_size = static_cast<uint16_t>(room);
  rte_mempool* pool =
      rte_mempool_create(name.c_str(), config.memory.buffers, sizeof(rte_mbuf) + room, kPoolCache,
                         sizeof sizes, rte_pktmbuf_pool_init, &sizes, rte_pktmbuf_init, nullptr,
                         SOCKET_ID_ANY, af_xdp ? RTE_MEMPOOL_F_NO_SPREAD : 0);
  if (pool == nullptr) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("{}: no memory for {} packet buffers of {} bytes: {}; raise "
                            "memory.megabytes ({}) or lower memory.buffers",
                            config.file, config.memory.buffers, room, rte_strerror(rte_errno),
                            config.memory.megabytes));
  }
  if (af_xdp && pool->nb_mem_chunks != 1) {
    const unsigned chunks = pool->nb_mem_chunks;
    rte_mempool_free(pool);
    return Fail(ErrorKind::kExhausted,
                fmt::format("{}: the packet buffers lie in {} pieces of memory, AF_XDP needs one; "
                            "lower memory.buffers, or memory.hugepages: never",
                            config.file, chunks));
  }
  return pool;
}

/// Closes the interface, then checks that nothing leads around the gate. In this order: a refusal
/// leaves the port closed.
Result<void> CloseInterface(const DataplaneConfig& config, const PortConfig& port, Port& out) {
  const std::string& interface = std::get<InterfaceDevice>(port.device).name;
  auto xdp = XdpPort::Attach(config.instance, port.name, interface, XdpVariantOf(config, port));
  if (!xdp) return tl::unexpected(xdp.error());
  out.xdp = std::make_unique<XdpPort>(*std::move(xdp));
  std::vector<std::string> same_side;
  for (const PortConfig& other : config.ports) {
    if (IsAfXdp(other) && other.role == port.role && other.name != port.name) {
      same_side.push_back(std::get<InterfaceDevice>(other.device).name);
    }
  }
  return CheckForwardingOff(interface, same_side);
}

/// Gives the device to DPDK and finds its number.
Result<uint16_t> Probe(const PortConfig& port) {
  const std::string name = DeviceName(port);
  if (!std::holds_alternative<PciDevice>(port.device)) {
    std::string arguments;
    if (IsAfXdp(port)) {
      // Without xdp_prog: the PMD adopts the socket map of the program that is attached.
      arguments =
          fmt::format("iface={},start_queue=0,queue_count={}", Text(port.device), port.queues);
    } else if (const std::string text = Text(port.device); text.size() > name.size()) {
      arguments = text.substr(name.size() + 1);
    }
    if (const int rc = rte_eal_hotplug_add("vdev", name.c_str(), arguments.c_str()); rc != 0) {
      return Refuse(
          port, fmt::format("DPDK cannot open {}: {} (its own words stand above)", name, Why(rc)),
          "a driver of DPDK that is installed, and arguments that it takes");
    }
  }
  uint16_t id = 0;
  if (rte_eth_dev_get_port_by_name(name.c_str(), &id) != 0) {
    return Refuse(port, "DPDK found no such device",
                  "a NIC bound to vfio-pci whose driver is installed (dpdk-devbind.py --status)");
  }
  return id;
}

/// Which kernel interface is behind the port, and whether it speaks for the port or is its far end.
void FindInterfaces(const PortConfig& port, const rte_eth_dev_info& info, Port& out) {
  int index = static_cast<int>(info.if_index);
  const std::string named = Argument(port.device, "iface");
  if (!named.empty()) index = static_cast<int>(if_nametoindex(named.c_str()));
  std::array<char, IF_NAMESIZE> name{};
  if (index <= 0 || if_indextoname(static_cast<unsigned>(index), name.data()) == nullptr) return;
  const std::string_view driver = info.driver_name;
  const bool far_end = driver == "net_tap" || driver == "net_virtio_user";
  (far_end ? out.far_ifindex : out.ifindex) = index;
}

Result<void> Configure(const PortConfig& port, unsigned workers, rte_mempool* pool,
                       const rte_eth_dev_info& info, Port& out) {
  if (out.rx_queues > info.max_rx_queues) {
    return Refuse(port, "the device has not that many receive queues",
                  fmt::format("queues: {} or fewer", info.max_rx_queues),
                  fmt::format("{}", out.rx_queues));
  }
  if (info.max_mtu != 0 && out.mtu > info.max_mtu) {
    return Refuse(port, "the MTU is too large for the device",
                  fmt::format("at most {}", info.max_mtu), fmt::format("{}", out.mtu));
  }
  // A tap has pairs of queues.
  const bool pairs = std::string_view(info.driver_name) == "net_tap";
  out.tx_queues = static_cast<uint16_t>(
      std::min<unsigned>(pairs ? out.rx_queues : workers, info.max_tx_queues));

  rte_eth_conf conf{};
  conf.rxmode.mtu = out.mtu;
  if (out.rx_queues > 1 && info.flow_type_rss_offloads != 0) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf =
        info.flow_type_rss_offloads &
        (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_ESP);
  }
  int rc = rte_eth_dev_configure(out.id, out.rx_queues, out.tx_queues, &conf);
  if (rc != 0) {
    return Refuse(port, fmt::format("cannot be configured with {} receive queues and MTU {}: {}",
                                    out.rx_queues, out.mtu, Why(rc)));
  }
  // Devices without this setting (rings, files) take any size. An interface keeps its own: the
  // operator set it.
  if (!IsAfXdp(port)) {
    rc = rte_eth_dev_set_mtu(out.id, out.mtu);
    if (rc != 0 && rc != -ENOTSUP) {
      return Refuse(port, fmt::format("cannot have MTU {}: {}", out.mtu, Why(rc)));
    }
  }
  uint16_t rx_descriptors = kDescriptors, tx_descriptors = kDescriptors;
  rte_eth_dev_adjust_nb_rx_tx_desc(out.id, &rx_descriptors, &tx_descriptors);
  for (uint16_t q = 0; q < out.rx_queues; ++q) {
    rc = rte_eth_rx_queue_setup(out.id, q, rx_descriptors, SOCKET_ID_ANY, nullptr, pool);
    if (rc != 0) {
      return Refuse(port,
                    fmt::format("receive queue {} cannot be set up: {} (DPDK's own words "
                                "stand above)",
                                q, Why(rc)),
                    IsAfXdp(port) ? "no other AF_XDP socket on this queue" : "");
    }
  }
  for (uint16_t q = 0; q < out.tx_queues; ++q) {
    rc = rte_eth_tx_queue_setup(out.id, q, tx_descriptors, SOCKET_ID_ANY, nullptr);
    if (rc != 0) {
      return Refuse(port, fmt::format("transmit queue {} cannot be set up: {}", q, Why(rc)));
    }
  }
  return {};
}

/// The port's own MAC: the configured one, if there is one. Devices that cannot be given one
/// (rings, files) take every frame, so that it is enough to send from it.
Result<void> SetMac(const PortConfig& port, const std::optional<Mac>& wanted, Port& out) {
  rte_ether_addr address{};
  if (!wanted) {
    rte_eth_macaddr_get(out.id, &address);
    std::copy_n(address.addr_bytes, out.mac.size(), out.mac.begin());
    return {};
  }
  std::copy(wanted->begin(), wanted->end(), address.addr_bytes);
  const int rc = rte_eth_dev_default_mac_addr_set(out.id, &address);
  if (rc != 0 && rc != -ENOTSUP) {
    return Refuse(port, "cannot have the MAC that it should: " + Why(rc));
  }
  out.mac = *wanted;
  return {};
}

void WaitForLink(const PortConfig& port, uint16_t id) {
  // Only hardware negotiates. A link that stays down is reported later, like one that goes down.
  if (!std::holds_alternative<PciDevice>(port.device)) return;
  for (int tenths = 0; tenths < 30; ++tenths) {
    rte_eth_link link{};
    if (rte_eth_link_get_nowait(id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP) return;
    usleep(100'000);
  }
}

Result<void> BringUp(const DataplaneConfig& config, const PortConfig& port, rte_mempool* pool,
                     Port& out) {
  if (IsAfXdp(port)) {
    if (auto closed = CloseInterface(config, port, out); !closed) {
      closed.error().where = "port " + port.name;
      return closed;
    }
  }
  const std::set<int> others = AfXdpSockets();
  const auto id = Probe(port);
  if (!id) return tl::unexpected(id.error());
  out.id = *id;
  rte_eth_dev_info info{};
  if (const int rc = rte_eth_dev_info_get(out.id, &info); rc != 0) {
    return Refuse(port, "says nothing about itself: " + Why(rc));
  }
  FindInterfaces(port, info, out);
  if (auto configured = Configure(port, config.workers.count, pool, info, out); !configured) {
    return configured;
  }
  if (const int rc = rte_eth_dev_start(out.id); rc != 0) {
    return Refuse(port, "cannot be started: " + Why(rc));
  }
  if (IsAfXdp(port)) {
    out.af_xdp_mode = AfXdpModeOf(AfXdpSockets(), others);
    spdlog::info("port {}: XDP {}, AF_XDP {}", out.name, out.xdp->mode(), out.af_xdp_mode);
  }
  if (auto set = SetMac(port, port.mac, out); !set) return set;
  WaitForLink(port, out.id);
  // Devices that share a kernel interface in other ways leave the kernel's own path open, and so do
  // two exception ports that the kernel forwards between.
  std::array<char, IF_NAMESIZE> name{};
  const int open = port.role == PortRole::kException ? out.far_ifindex : out.ifindex;
  if (!IsAfXdp(port) && open != 0 &&
      if_indextoname(static_cast<unsigned>(open), name.data()) != nullptr) {
    if (auto off = CheckForwardingOff(name.data()); !off) return off;
  }
  return {};
}

/// The host's interface of an exception port speaks for the port that it belongs to: same MAC, and
/// its addresses and routes count as that port's.
Result<void> Pair(const PortConfig& config, Port& exception, Port& owner) {
  exception.exception_for = owner.id;
  owner.exception = exception.id;
  owner.ifindex = exception.far_ifindex;
  if (owner.ifindex == 0) {
    return Refuse(config, "no kernel interface belongs to it",
                  "net_tap or virtio_user with iface=");
  }
  return SetMac(config, owner.mac, exception);
}

}  // namespace

XdpVariant XdpVariantOf(const DataplaneConfig& config, const PortConfig& port) {
  return {.role = port.role == PortRole::kUntrusted ? XdpRole::kUntrusted
                  : port.role == PortRole::kTrusted ? XdpRole::kTrusted
                                                    : XdpRole::kLocal,
          .sa_capacity = config.sas.capacity,
          .reassemble = config.fragments == FragmentMode::kReassemble};
}

Port::Port() = default;
Port::Port(Port&&) noexcept = default;
Port& Port::operator=(Port&&) noexcept = default;
Port::~Port() = default;

Result<Ports> Ports::Open(const DataplaneConfig& config) {
  const auto pool = MakePool(config);
  if (!pool) return tl::unexpected(pool.error());
  Ports ports;
  ports.pool_ = *pool;
  for (const PortConfig& port : config.ports) {
    // In the list before it is up: what fails half-way is closed again with the others.
    Port& out = ports.ports_.emplace_back();
    out.name = port.name;
    out.role = port.role;
    out.device = Text(port.device);
    out.mtu = Mtu(port);
    out.rx_queues = port.queues;
    out.addresses = port.addresses;
    out.prefixes = port.prefixes;
    if (auto up = BringUp(config, port, ports.pool_, out); !up) return tl::unexpected(up.error());
  }
  for (size_t i = 0; i < ports.ports_.size(); ++i) {
    if (ports.ports_[i].role != PortRole::kException) continue;
    const auto owner = std::ranges::find(ports.ports_, config.ports[i].exception_for, &Port::name);
    if (auto paired = Pair(config.ports[i], ports.ports_[i], *owner); !paired) {
      return tl::unexpected(paired.error());
    }
  }
  return ports;
}

Ports::Ports(Ports&& other) noexcept
    : ports_(std::move(other.ports_)), pool_(std::exchange(other.pool_, nullptr)) {
  other.ports_.clear();
}

Ports& Ports::operator=(Ports&& other) noexcept {
  std::swap(ports_, other.ports_);
  std::swap(pool_, other.pool_);
  return *this;
}

Ports::~Ports() {
  for (const Port& port : ports_) {
    if (port.id == Port::kNone) continue;
    rte_eth_dev_info info{};
    rte_eth_dev_info_get(port.id, &info);
    rte_eth_dev_stop(port.id);
    rte_eth_dev_close(port.id);
    // Closed is not gone: the bus would take it for probed when it is opened again.
    if (info.device != nullptr) rte_dev_remove(info.device);
  }
  ports_.clear();
  rte_mempool_free(pool_);
}

const Port* Ports::Find(std::string_view name) const {
  const auto found = std::ranges::find(ports_, name, &Port::name);
  return found == ports_.end() ? nullptr : &*found;
}

const Port* Ports::FindId(uint16_t id) const {
  const auto found = std::ranges::find(ports_, id, &Port::id);
  return found == ports_.end() ? nullptr : &*found;
}

Result<PortCounters> Ports::Read(const Port& port) {
  rte_eth_stats stats{};
  if (const int rc = rte_eth_stats_get(port.id, &stats); rc != 0) {
    return Fail(ErrorKind::kUnavailable,
                fmt::format("port {}: no counters: {}", port.name, Why(rc)));
  }
  PortCounters counters;
  counters.rx_packets = stats.ipackets;
  counters.tx_packets = stats.opackets;
  counters.rx_missed = stats.imissed + stats.rx_nombuf + stats.ierrors;
  counters.tx_errors = stats.oerrors;
  if (port.xdp) {
    const XdpCounters xdp = port.xdp->Read();
    counters.xdp = xdp.packets;
    counters.xdp_dropped = xdp.Dropped();
  }
  rte_eth_link link{};
  counters.link_up =
      rte_eth_link_get_nowait(port.id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
  return counters;
}

}  // namespace portcullis
