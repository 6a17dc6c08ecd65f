#include "bench/generator/device.hpp"

#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

#include <algorithm>
#include <numeric>

namespace portcullis::generator {
namespace {

// A receiver that is away for 200 µs misses nothing at 20 Mpps
constexpr uint16_t kDescriptors = 4096;
constexpr uint16_t kTxDescriptors = 1024;
constexpr unsigned kCache = 256;

// "0000:01:00.0"; everything else is a virtual device and its arguments.
bool IsPci(const std::string& device) {
  return device.find(':') != std::string::npos && device.compare(0, 4, "net_") != 0;
}

std::string NameOf(const std::string& device) {
  return device.substr(0, device.find(','));
}

uint16_t PortOf(const std::string& device) {
  uint16_t id = 0;
  if (rte_eth_dev_get_port_by_name(NameOf(device).c_str(), &id) != 0) {
    Die(fmt::format("{}: no such DPDK device. A NIC must be bound to vfio-pci", device));
  }
  return id;
}

void Check(int result, const std::string& device, const char* what) {
  if (result < 0) Die(fmt::format("{}: {}: {}", device, what, rte_strerror(-result)));
}

Device Start(const std::string& name, uint16_t tx_queues, uint32_t frame, rte_mempool* pool) {
  Device device{.id = PortOf(name)};
  rte_eth_dev_info info{};
  Check(rte_eth_dev_info_get(device.id, &info), name, "no information");
  if (tx_queues > info.max_tx_queues) {
    Die(fmt::format("{}: has {} transmit queues; {} sending cores need one each", name,
                    info.max_tx_queues, tx_queues));
  }
  rte_eth_conf conf{};
  const uint32_t mtu = frame - RTE_ETHER_HDR_LEN;
  if (mtu > RTE_ETHER_MTU) conf.rxmode.mtu = mtu;
  Check(rte_eth_dev_configure(device.id, 1, tx_queues, &conf), name, "cannot be configured");
  uint16_t rx = kDescriptors;
  uint16_t tx = kTxDescriptors;
  Check(rte_eth_dev_adjust_nb_rx_tx_desc(device.id, &rx, &tx), name, "descriptors");
  Check(rte_eth_rx_queue_setup(device.id, 0, rx, SOCKET_ID_ANY, nullptr, pool), name,
        "receive queue");
  for (uint16_t q = 0; q < tx_queues; ++q) {
    Check(rte_eth_tx_queue_setup(device.id, q, tx, SOCKET_ID_ANY, nullptr), name, "transmit queue");
  }
  Check(rte_eth_dev_start(device.id), name, "does not start");
  rte_eth_promiscuous_enable(device.id);  // not every device can, nor needs to
  rte_ether_addr mac{};
  rte_eth_macaddr_get(device.id, &mac);
  std::copy_n(mac.addr_bytes, device.mac.size(), device.mac.begin());
  return device;
}

}  // namespace

void StartEal(const Options& o) {
  std::string cores;
  for (size_t i = 0; i < o.cores.size(); ++i) {
    cores += fmt::format("{}{}@{}", i == 0 ? "" : ",", i, o.cores[i]);
  }
  std::vector<std::string> args = {"portcullis-generator", "--lcores", cores,
                                   "--main-lcore",         "0",        "--no-telemetry",
                                   "--log-level=error",    "-m",       std::to_string(o.megabytes)};
  if (o.small_pages) {
    args.insert(args.end(), {"--no-huge", "--no-shconf"});
  } else {
    args.emplace_back("--in-memory");
  }
  bool pci = false;
  for (const std::string& device : {o.wire_device, o.core_device}) {
    if (device.empty()) continue;
    args.emplace_back(IsPci(device) ? "-a" : "--vdev");
    args.push_back(device);
    pci = pci || IsPci(device);
  }
  if (!pci) args.emplace_back("--no-pci");
  std::vector<char*> pointers;
  pointers.reserve(args.size());
  for (std::string& arg : args) pointers.push_back(arg.data());
  if (rte_eal_init(static_cast<int>(pointers.size()), pointers.data()) < 0) {
    Die(fmt::format("the EAL does not start: {}{}", rte_strerror(rte_errno),
                    o.small_pages ? "" : ". Without hugepages: --small-pages"));
  }
}

Devices::Devices(const Options& o) {
  senders = static_cast<uint16_t>(std::max<size_t>(o.cores.size(), 2) - 1);
  const uint32_t frame = o.MaxFrame();
  const auto room = static_cast<uint16_t>(RTE_PKTMBUF_HEADROOM +
                                          std::max<uint32_t>(frame, RTE_MBUF_DEFAULT_DATAROOM));
  // Both ports' rings, what each sender's queues still hold, and the lcores' caches and bursts.
  const unsigned buffers =
      2 * kDescriptors + senders * (2U * kTxDescriptors + 2 * kCache) + 2 * kCache + 1024;
  pool = rte_pktmbuf_pool_create("generator", buffers, kCache, 0, room, SOCKET_ID_ANY);
  if (pool == nullptr) Die("no memory for the packet buffers: raise --megabytes");
  wire = Start(o.wire_device, senders, frame, pool);
  core = o.core_device.empty() ? wire : Start(o.core_device, senders, frame, pool);
  replies = rte_ring_create("replies", 256, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (replies == nullptr) Die("no memory for a ring");
}

Devices::~Devices() {
  for (const uint16_t id : {wire.id, core.id}) {
    if (rte_eth_dev_is_valid_port(id) == 0) continue;
    rte_eth_dev_stop(id);
    rte_eth_dev_close(id);
  }
}

}  // namespace portcullis::generator
