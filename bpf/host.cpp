// What closing a port needs to know of the host: its addresses, and whether the kernel would
// forward around the gate.
#include "bpf/host.hpp"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "bpf/loader.hpp"
#include "bpf/pins.hpp"

namespace portcullis {
namespace {

struct FreeSocket {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};
struct FreeCache {
  void operator()(nl_cache* cache) const { nl_cache_free(cache); }
};

/// Does /proc/sys/net/<path> hold something other than 0? A file that is not there cannot be on.
bool IsOn(const std::string& path) {
  std::ifstream file("/proc/sys/net/" + path);
  std::string value;
  return file >> value && value != "0";
}

std::string Join(std::span<const std::string> words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

}  // namespace

Result<Master> FindMaster(const std::string& interface) {
  const std::unique_ptr<nl_sock, FreeSocket> socket(nl_socket_alloc());
  if (!socket) return Fail(ErrorKind::kExhausted, "no memory for a netlink socket");
  if (const int error = nl_connect(socket.get(), NETLINK_ROUTE); error < 0) {
    return Fail(ErrorKind::kInternal, std::string("cannot open netlink: ") + nl_geterror(error));
  }
  nl_cache* cache = nullptr;
  if (const int error = rtnl_link_alloc_cache(socket.get(), AF_UNSPEC, &cache); error < 0) {
    return Fail(ErrorKind::kInternal, std::string("cannot list links: ") + nl_geterror(error));
  }
  const std::unique_ptr<nl_cache, FreeCache> links(cache);
  std::vector<rtnl_link*> all;
  int master = 0;
  for (nl_object* o = nl_cache_get_first(cache); o != nullptr; o = nl_cache_get_next(o)) {
    all.push_back(reinterpret_cast<rtnl_link*>(o));
    if (rtnl_link_get_name(all.back()) == interface) master = rtnl_link_get_master(all.back());
  }
  Master found;
  if (master == 0) return found;
  for (rtnl_link* link : all) {
    const std::string name = rtnl_link_get_name(link);
    if (rtnl_link_get_ifindex(link) == master) {
      const char* kind = rtnl_link_get_type(link);
      found.name = name;
      found.kind = kind != nullptr ? kind : "";
    } else if (rtnl_link_get_master(link) == master && name != interface) {
      found.members.push_back(name);
    }
  }
  return found;
}

std::vector<std::string> ForwardingThatIsOn(const std::string& interface) {
  // IPv4 asks the interface that a packet came in on; IPv6 asks `all` (and since 6.17 the
  // interface's force_forwarding), while its own `forwarding` only makes it act as a router.
  std::vector<std::string> on;
  for (const std::string& path :
       {"ipv4/conf/" + interface + "/forwarding", std::string("ipv6/conf/all/forwarding"),
        "ipv6/conf/" + interface + "/forwarding", "ipv6/conf/" + interface + "/force_forwarding"}) {
    // sysctl(8) takes slashes, which an interface name with dots (wire0.100) needs.
    if (IsOn(path)) on.push_back("net/" + path);
  }
  return on;
}

Result<void> JudgeForwarding(const std::string& interface, std::span<const std::string> on,
                             const Master& master, std::span<const std::string> companions) {
  if (on.empty()) return {};
  std::string found = Join(on, ", ") + " on, and " + interface + " in no VRF";
  if (master.kind == "vrf") {
    std::vector<std::string> strangers;
    for (const std::string& member : master.members) {
      if (std::ranges::find(companions, member) == companions.end()) strangers.push_back(member);
    }
    if (strangers.empty()) return {};
    found =
        Join(on, ", ") + " on, and VRF " + master.name + " shared with " + Join(strangers, ", ");
  }
  std::vector<std::string> off;
  for (const std::string& name : on) off.push_back(name + "=0");
  return tl::unexpected(Error{ErrorKind::kConflict,
                              "the kernel would forward packets from " + interface +
                                  " around the gate; turn that off (sysctl -w " + Join(off, " ") +
                                  ") or give " + interface + " a VRF of its own",
                              {},
                              "forwarding off",
                              found});
}

Result<std::vector<Address>> InterfaceAddresses(const std::string& interface) {
  if (if_nametoindex(interface.c_str()) == 0) {
    return Fail(ErrorKind::kNotFound,
                "there is no interface '" + interface + "' in this network namespace");
  }
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return SystemError("cannot list the host's addresses", errno);
  std::vector<Address> result;
  for (const ifaddrs* a = all; a != nullptr; a = a->ifa_next) {
    if (a->ifa_addr == nullptr || interface != a->ifa_name) continue;
    if (a->ifa_addr->sa_family == AF_INET) {
      result.push_back(Address::V4(&reinterpret_cast<sockaddr_in*>(a->ifa_addr)->sin_addr));
    } else if (a->ifa_addr->sa_family == AF_INET6) {
      result.push_back(Address::V6(&reinterpret_cast<sockaddr_in6*>(a->ifa_addr)->sin6_addr));
    }
  }
  freeifaddrs(all);
  return result;
}

Result<void> CloseInterfaces(const std::string& instance, std::span<const ClosedPort> ports) {
  std::vector<std::string> failures;
  for (const ClosedPort& port : ports) {
    auto attached = XdpPort::AttachAndKeepSas(instance, port.port, port.interface, port.variant);
    if (!attached) {
      failures.push_back(attached.error().Text());
      continue;
    }
    const auto addresses = InterfaceAddresses(port.interface);
    const auto written = addresses ? attached->SetOwnAddresses(*addresses)
                                   : Result<void>(tl::unexpected(addresses.error()));
    if (!written) failures.push_back(written.error().Text());
  }
  if (failures.empty()) return {};
  return Fail(ErrorKind::kUnavailable, "not every port could be closed: " + Join(failures, "; "));
}

Result<void> CheckForwardingOff(const std::string& interface,
                                std::span<const std::string> companions) {
  if (if_nametoindex(interface.c_str()) == 0) {
    return Fail(ErrorKind::kNotFound,
                "there is no interface '" + interface + "' in this network namespace");
  }
  const auto master = FindMaster(interface);
  if (!master) return tl::unexpected(master.error());
  return JudgeForwarding(interface, ForwardingThatIsOn(interface), *master, companions);
}

}  // namespace portcullis
