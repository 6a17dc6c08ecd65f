#include "dataplane/ports/kernel_reader.hpp"

#include <linux/if.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/vrf.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>

namespace portcullis {
namespace {

struct FreeCache {
  void operator()(nl_cache* cache) const { nl_cache_free(cache); }
};
using Cache = std::unique_ptr<nl_cache, FreeCache>;

tl::unexpected<Error> Failed(const char* what, int code) {
  return Fail(ErrorKind::kUnavailable, fmt::format("{}: {}", what, NetlinkText(code)));
}

template <class Object, class Take>
void ForEach(nl_cache* cache, Take take) {
  for (nl_object* o = nl_cache_get_first(cache); o != nullptr; o = nl_cache_get_next(o)) {
    take(reinterpret_cast<Object*>(o));
  }
}

/// Nothing for families other than IPv4 and IPv6.
std::optional<Address> ToAddress(nl_addr* address) {
  if (address == nullptr) return std::nullopt;
  const void* bytes = nl_addr_get_binary_addr(address);
  if (nl_addr_get_family(address) == AF_INET && nl_addr_get_len(address) == 4) {
    return Address::V4(bytes);
  }
  if (nl_addr_get_family(address) == AF_INET6 && nl_addr_get_len(address) == 16) {
    return Address::V6(bytes);
  }
  return std::nullopt;
}

/// A default route's destination has no bytes, only a family.
std::optional<Prefix> ToPrefix(nl_addr* address) {
  static constexpr std::array<uint8_t, 16> kZero{};
  const bool v4 = nl_addr_get_family(address) == AF_INET;
  if (!v4 && nl_addr_get_family(address) != AF_INET6) return std::nullopt;
  const auto bytes = nl_addr_get_len(address) == 0
                         ? std::optional(v4 ? Address::V4(kZero.data()) : Address::V6(kZero.data()))
                         : ToAddress(address);
  if (!bytes) return std::nullopt;
  return Prefix(*bytes, nl_addr_get_prefixlen(address) + (v4 ? 96 : 0));
}

/// All zero when it is not an Ethernet address.
Mac ToMac(nl_addr* address) {
  Mac mac{};
  if (address != nullptr && nl_addr_get_len(address) == mac.size()) {
    std::memcpy(mac.data(), nl_addr_get_binary_addr(address), mac.size());
  }
  return mac;
}

KernelRoute ToRoute(rtnl_route* route, const Prefix& prefix) {
  KernelRoute out;
  out.prefix = prefix;
  out.table = rtnl_route_get_table(route);
  out.metric = rtnl_route_get_priority(route);
  out.forwards = rtnl_route_get_type(route) == RTN_UNICAST;
  rtnl_route_get_metric(route, RTAX_MTU, &out.mtu);
  for (int i = 0; i < rtnl_route_get_nnexthops(route); ++i) {
    rtnl_nexthop* hop = rtnl_route_nexthop_n(route, i);
    if ((rtnl_route_nh_get_flags(hop) & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) != 0) continue;
    auto gateway = ToAddress(rtnl_route_nh_get_gateway(hop));
    if (!gateway) gateway = ToAddress(rtnl_route_nh_get_via(hop));  // RFC 8950: IPv4 via IPv6
    out.hops.push_back({rtnl_route_nh_get_ifindex(hop), gateway});
  }
  return out;
}

}  // namespace

void NlFree::operator()(nl_sock* socket) const {
  nl_socket_free(socket);
}

std::string NetlinkText(int code) {
  return nl_geterror(code);
}

Result<NlSocket> ConnectNetlink() {
  NlSocket socket(nl_socket_alloc());
  if (!socket) return Fail(ErrorKind::kExhausted, "netlink: no memory for a socket");
  if (const int rc = nl_connect(socket.get(), NETLINK_ROUTE); rc < 0) {
    return Failed("netlink: cannot connect", rc);
  }
  return socket;
}

Result<KernelReader> KernelReader::Open() {
  auto socket = ConnectNetlink();
  if (!socket) return tl::unexpected(socket.error());
  return KernelReader(*std::move(socket));
}

Result<void> KernelReader::ReadLinks(KernelState& state) {
  nl_cache* raw = nullptr;
  if (const int rc = rtnl_link_alloc_cache(socket_.get(), AF_UNSPEC, &raw); rc < 0) {
    return Failed("netlink: cannot read links", rc);
  }
  const Cache cache(raw);
  std::map<int, uint32_t> vrf_tables;
  ForEach<rtnl_link>(raw, [&](rtnl_link* link) {
    uint32_t table = 0;
    if (rtnl_link_is_vrf(link) != 0 && rtnl_link_vrf_get_tableid(link, &table) == 0) {
      vrf_tables[rtnl_link_get_ifindex(link)] = table;
    }
  });
  state.links.clear();
  ForEach<rtnl_link>(raw, [&](rtnl_link* link) {
    KernelLink out;
    out.ifindex = rtnl_link_get_ifindex(link);
    out.mac = ToMac(rtnl_link_get_addr(link));
    out.mtu = static_cast<uint16_t>(std::min(rtnl_link_get_mtu(link), 65535U));
    constexpr unsigned kUp = IFF_UP | IFF_LOWER_UP;
    out.up = (rtnl_link_get_flags(link) & kUp) == kUp;
    const auto table = vrf_tables.find(rtnl_link_get_master(link));
    if (table != vrf_tables.end()) out.table = table->second;
    const char* type = rtnl_link_get_type(link);
    int32_t elsewhere = 0;  // the number of the other end's namespace
    if (type != nullptr && std::string_view(type) == "veth" &&
        rtnl_link_get_link_netnsid(link, &elsewhere) < 0) {
      out.veth_peer = rtnl_link_get_link(link);
    }
    state.links.push_back(out);
  });
  return {};
}

Result<void> KernelReader::ReadAddresses(KernelState& state) {
  nl_cache* raw = nullptr;
  if (const int rc = rtnl_addr_alloc_cache(socket_.get(), &raw); rc < 0) {
    return Failed("netlink: cannot read addresses", rc);
  }
  const Cache cache(raw);
  state.addresses.clear();
  ForEach<rtnl_addr>(raw, [&](rtnl_addr* address) {
    if (const auto local = ToAddress(rtnl_addr_get_local(address))) {
      state.addresses.push_back({rtnl_addr_get_ifindex(address), *local});
    }
  });
  return {};
}

Result<void> KernelReader::ReadRoutes(KernelState& state) {
  nl_cache* raw = nullptr;
  if (const int rc = rtnl_route_alloc_cache(socket_.get(), AF_UNSPEC, 0, &raw); rc < 0) {
    return Failed("netlink: cannot read routes", rc);
  }
  const Cache cache(raw);
  state.routes.clear();
  ForEach<rtnl_route>(raw, [&](rtnl_route* route) {
    const auto prefix = ToPrefix(rtnl_route_get_dst(route));
    nl_addr* source = rtnl_route_get_src(route);
    // Not for every packet: those for one traffic class or one source prefix, and clones. A throw
    // route says "ask the next table", which is none of ours.
    const bool special = rtnl_route_get_tos(route) != 0 ||
                         (source != nullptr && nl_addr_get_prefixlen(source) != 0) ||
                         (rtnl_route_get_flags(route) & RTM_F_CLONED) != 0 ||
                         rtnl_route_get_type(route) == RTN_THROW;
    if (prefix && !special) state.routes.push_back(ToRoute(route, *prefix));
  });
  return {};
}

Result<void> KernelReader::ReadNeighbours(KernelState& state) {
  nl_cache* raw = nullptr;
  if (const int rc = rtnl_neigh_alloc_cache(socket_.get(), &raw); rc < 0) {
    return Failed("netlink: cannot read neighbours", rc);
  }
  const Cache cache(raw);
  state.neighbours.clear();
  ForEach<rtnl_neigh>(raw, [&](rtnl_neigh* neighbour) {
    const auto address = ToAddress(rtnl_neigh_get_dst(neighbour));
    if (!address || (rtnl_neigh_get_flags(neighbour) & NTF_PROXY) != 0) return;
    constexpr int kUsable =
        NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
    const int nud = rtnl_neigh_get_state(neighbour);
    KernelNeighbour out;
    out.ifindex = rtnl_neigh_get_ifindex(neighbour);
    out.address = *address;
    out.mac = ToMac(rtnl_neigh_get_lladdr(neighbour));
    // A group address would spread a packet for one host to all.
    out.usable = nud > 0 && (nud & kUsable) != 0 && out.mac != Mac{} && out.mac[0] % 2 == 0;
    out.stale = nud == NUD_STALE;
    out.fixed = nud > 0 && (nud & (NUD_PERMANENT | NUD_NOARP)) != 0;
    state.neighbours.push_back(out);
  });
  return {};
}

Result<void> KernelReader::Ask(int ifindex, const Address& neighbour, bool keep) {
  // By hand: libnl 3.7 has no word for extended flags.
  ndmsg header{};
  header.ndm_family = neighbour.IsV4() ? AF_INET : AF_INET6;
  header.ndm_ifindex = ifindex;
  header.ndm_flags = NTF_USE;
  nl_msg* message = nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
  const auto wire = neighbour.wire();
  if (message == nullptr || nlmsg_append(message, &header, sizeof header, NLMSG_ALIGNTO) < 0 ||
      nla_put(message, NDA_DST, static_cast<int>(wire.size()), wire.data()) < 0 ||
      (keep && nla_put_u32(message, NDA_FLAGS_EXT, NTF_EXT_MANAGED) < 0)) {
    nlmsg_free(message);
    return Fail(ErrorKind::kExhausted, "netlink: no memory for a message");
  }
  const int rc = nl_send_sync(socket_.get(), message);  // frees it
  if (rc < 0) {
    return Failed(fmt::format("netlink: cannot resolve {}", neighbour.Text()).c_str(), rc);
  }
  return {};
}

}  // namespace portcullis
