#include "dataplane/ports/host.hpp"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <rte_build_config.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

namespace portcullis {
namespace {

class Socket {
 public:
  Socket(int family, int type) : fd_(socket(family, type | SOCK_CLOEXEC, 0)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

bool HasCapability(cap_value_t capability) {
  const std::unique_ptr<_cap_struct, int (*)(void*)> all(cap_get_proc(), cap_free);
  cap_flag_value_t set = CAP_CLEAR;
  return all && cap_get_flag(all.get(), capability, CAP_EFFECTIVE, &set) == 0 && set == CAP_SET;
}

Error Lacks(std::string message, std::string expected = {}, std::string found = {}) {
  return {ErrorKind::kUnavailable, std::move(message), {}, std::move(expected), std::move(found)};
}

void CheckPermissions(const DataplaneConfig& config, std::vector<Error>& lacking) {
  bool af_xdp = false, tap = false;
  for (const PortConfig& port : config.ports) {
    af_xdp |= std::holds_alternative<InterfaceDevice>(port.device);
    const auto* vdev = std::get_if<VdevDevice>(&port.device);
    tap |= vdev != nullptr &&
           (vdev->args.starts_with("net_tap") || vdev->args.starts_with("virtio_user"));
  }
  const auto need = [&](bool needed, const char* name, cap_value_t capability, const char* why) {
    if (!needed || HasCapability(capability)) return;
    lacking.push_back(Lacks(fmt::format("no permission {} ({})", name, why),
                            "root, or a unit with AmbientCapabilities=" + std::string(name)));
  };
  need(af_xdp || tap, "CAP_NET_ADMIN", CAP_NET_ADMIN, "to attach XDP and set up interfaces");
  need(af_xdp, "CAP_NET_RAW", CAP_NET_RAW, "to open AF_XDP sockets");
  // Before CAP_BPF there was CAP_SYS_ADMIN for it, which still includes it.
  need(af_xdp && !HasCapability(CAP_SYS_ADMIN), "CAP_BPF", CAP_BPF, "to load the XDP program");
  if (!af_xdp) return;

  const Socket socket(AF_XDP, SOCK_RAW);
  if (socket.fd() < 0 && (errno == EAFNOSUPPORT || errno == EINVAL)) {
    lacking.push_back(Lacks("the kernel has no AF_XDP", "a kernel with CONFIG_XDP_SOCKETS=y"));
  }
  rlimit locked{};
  const uint64_t needed = uint64_t{config.memory.megabytes} << 20;
  if (!HasCapability(CAP_IPC_LOCK) && getrlimit(RLIMIT_MEMLOCK, &locked) == 0 &&
      locked.rlim_max < needed) {
    lacking.push_back(Lacks(
        "too little memory may be locked for AF_XDP",
        fmt::format("CAP_IPC_LOCK, or LimitMEMLOCK of {} MB or more", config.memory.megabytes),
        fmt::format("{} KB", locked.rlim_max >> 10)));
  }
  if (!std::filesystem::exists(RTE_EAL_PMD_PATH "/librte_net_af_xdp.so.23")) {
    lacking.push_back(Lacks("DPDK's AF_XDP driver is not installed", "package librte-net-af-xdp23",
                            "no librte_net_af_xdp.so.23 in " RTE_EAL_PMD_PATH));
  }
}

std::string InterfacesHere() {
  std::string names;
  struct if_nameindex* all = if_nameindex();
  for (const struct if_nameindex* i = all; i != nullptr && i->if_index != 0; ++i) {
    names += (names.empty() ? "" : ", ") + std::string(i->if_name);
  }
  if_freenameindex(all);
  return names;
}

void CheckInterface(const PortConfig& port, const std::string& name, std::vector<Error>& lacking) {
  const auto where = [&](Error error) {
    error.where = "port " + port.name;
    lacking.push_back(std::move(error));
  };
  const auto interface = ReadInterface(name);
  if (!interface) {
    return where(Lacks(fmt::format("there is no interface {} in this network namespace", name),
                       "an existing one", InterfacesHere()));
  }
  if (!interface->ethernet) where(Lacks(name + " is not an Ethernet interface"));
  if (!interface->up) {
    where(Lacks(name + " is down", fmt::format("ip link set dev {} up", name)));
  }
  if (port.mtu > interface->mtu) {
    where(Lacks(fmt::format("mtu {} is more than {} has", port.mtu, name),
                fmt::format("ip link set dev {} mtu {}", name, port.mtu),
                fmt::format("{}", interface->mtu)));
  }
  if (interface->mtu > kMaxAfXdpMtu) {
    where(Lacks(fmt::format("the MTU of {} is too large for AF_XDP", name),
                fmt::format("ip link set dev {} mtu {}", name, kMaxAfXdpMtu),
                fmt::format("{}", interface->mtu)));
  }
  // XDP cannot lead a packet to another queue's socket: what comes in on a queue without one is
  // lost, and with RSS that is some flows and not others.
  if (interface->rx_queues != 0 && interface->rx_queues != port.queues) {
    where(Lacks(fmt::format("{} has not as many receive queues as the port", name),
                fmt::format("queues: {}, or ethtool -L {} with {}", interface->rx_queues, name,
                            port.queues),
                fmt::format("queues: {}", port.queues)));
  }
}

}  // namespace

HostFacts ReadHostFacts() {
  HostFacts facts;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) facts.cpus.push_back(cpu);
  }
  std::error_code none;
  for (const auto& size : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", none)) {
    // "hugepages-2048kB"
    const std::string name = size.path().filename();
    uint64_t pages = 0;
    std::ifstream(size.path() / "free_hugepages") >> pages;
    facts.free_hugepages_mb += pages * std::strtoull(name.c_str() + 10, nullptr, 10) / 1024;
  }
  return facts;
}

std::optional<InterfaceFacts> ReadInterface(const std::string& name) {
  // By ioctl and not from /sys/class/net, which shows the namespace that mounted it.
  const Socket socket(AF_INET, SOCK_DGRAM);
  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) return std::nullopt;
  std::memcpy(request.ifr_name, name.c_str(), name.size() + 1);
  const auto ask = [&](unsigned long what) { return ioctl(socket.fd(), what, &request) == 0; };

  InterfaceFacts facts;
  if (!ask(SIOCGIFINDEX)) return std::nullopt;
  facts.index = request.ifr_ifindex;
  if (ask(SIOCGIFMTU)) facts.mtu = static_cast<unsigned>(request.ifr_mtu);
  if (ask(SIOCGIFFLAGS)) facts.up = (request.ifr_flags & IFF_UP) != 0;
  if (ask(SIOCGIFHWADDR)) facts.ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  request.ifr_data = reinterpret_cast<char*>(&channels);
  if (ask(SIOCETHTOOL)) facts.rx_queues = channels.combined_count + channels.rx_count;
  return facts;
}

std::vector<Error> CheckHost(const DataplaneConfig& config) {
  std::vector<Error> lacking;
  CheckPermissions(config, lacking);
  for (const PortConfig& port : config.ports) {
    if (const auto* device = std::get_if<InterfaceDevice>(&port.device)) {
      CheckInterface(port, device->name, lacking);
    } else if (const auto* pci = std::get_if<PciDevice>(&port.device)) {
      if (!std::filesystem::exists("/sys/bus/pci/devices/" + pci->address)) {
        lacking.push_back({ErrorKind::kUnavailable,
                           "there is no PCI device " + pci->address,
                           "port " + port.name,
                           "one that `dpdk-devbind.py --status` lists",
                           {}});
      }
    }
  }
  const HostFacts facts = ReadHostFacts();
  if (config.memory.hugepages == Hugepages::kRequire &&
      facts.free_hugepages_mb < config.memory.megabytes) {
    lacking.push_back(Lacks("too few free hugepages",
                            fmt::format("{} MB: sysctl vm.nr_hugepages=..., or memory.hugepages: "
                                        "auto",
                                        config.memory.megabytes),
                            fmt::format("{} MB", facts.free_hugepages_mb)));
  }
  for (const unsigned core : config.workers.cores) {
    if (std::ranges::find(facts.cpus, core) != facts.cpus.end()) continue;
    lacking.push_back({ErrorKind::kUnavailable,
                       fmt::format("core {} is not one that this process may run on", core),
                       config.file + ": workers.cores",
                       fmt::format("some of {}", fmt::join(facts.cpus, ", ")),
                       {}});
  }
  return lacking;
}

}  // namespace portcullis
