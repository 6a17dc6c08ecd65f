#include "dataplane/ports/kernel_routes.hpp"

#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

namespace portcullis {
namespace {

/// Where one prefix leads. `port` null: nowhere.
struct Target {
  const NetworkPort* port = nullptr;
  std::optional<Address> gateway;  // none: on-link, or `mac` is known
  std::optional<Mac> mac;          // known without asking
  uint16_t mtu = 0;
};

/// A kernel route that competes for its prefix within one table.
struct Candidate {
  Target target;
  bool foreign = false;  // leads to an interface that is none of ours
  uint32_t metric = 0;

  /// Ours before foreign ones, then the lower metric, as the kernel has it.
  [[nodiscard]] bool Before(const Candidate& other) const {
    return std::tie(foreign, metric) < std::tie(other.foreign, other.metric);
  }
};

bool NeverForwarded(const Prefix& prefix) {
  static const auto kNever = [] {
    std::array<Prefix, 9> never;
    std::ranges::transform(
        std::to_array<const char*>({"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
                                    "255.255.255.255/32", "::/128", "::1/128", "fe80::/10",
                                    "ff00::/8"}),
        never.begin(), [](const char* text) { return *Prefix::Parse(text); });
    return never;
  }();
  return std::ranges::any_of(kNever, [&](const Prefix& p) { return p.Contains(prefix); });
}

class Compiler {
 public:
  Compiler(const KernelState& kernel, const std::vector<NetworkPort>& ports)
      : kernel_(kernel), ports_(ports) {
    for (const NetworkPort& port : ports_) {
      if (port.ifindex != 0) by_ifindex_.emplace(port.ifindex, &port);
    }
  }

  CompiledRoutes Run(const std::vector<StaticRoute>& statics) {
    AddLocalPrefixes();
    AddStatics(statics);
    AddConnected();
    AddKernelRoutes();
    AddNeighbours();
    return Finish();
  }

 private:
  /// The first target of a prefix stays.
  void Add(const Prefix& prefix, const Target& target) { targets_.emplace(prefix, target); }

  /// Inside a local prefix only its own port has a say.
  [[nodiscard]] bool Taken(const Prefix& prefix, const NetworkPort* by) const {
    return std::ranges::any_of(ports_, [&](const NetworkPort& port) {
      return &port != by && std::ranges::any_of(port.prefixes, [&](const Prefix& own) {
        return own.Contains(prefix);
      });
    });
  }

  void AddLocalPrefixes() {
    for (const NetworkPort& port : ports_) {
      for (const Prefix& prefix : port.prefixes) {
        // The other end of the port, where the kernel of this host listens: known without ARP.
        const KernelLink* own = kernel_.Link(port.ifindex);
        const KernelLink* far = kernel_.Link(port.far_ifindex != 0 ? port.far_ifindex
                                             : own                 ? own->veth_peer
                                                                   : 0);
        Target target{&port, {}, {}, 0};
        if (far != nullptr) target.mac = far->mac;
        Add(prefix, target);
      }
    }
  }

  void AddStatics(const std::vector<StaticRoute>& statics) {
    for (const StaticRoute& route : statics) {
      const auto port = std::ranges::find(ports_, route.port, &NetworkPort::name);
      if (port == ports_.end() || Taken(route.prefix, &*port)) continue;
      // For a local port without far end this is how its prefix gets a MAC.
      targets_.insert_or_assign(route.prefix, Target{&*port, {}, route.mac, 0});
    }
  }

  void AddConnected() {
    for (const NetworkPort& port : ports_) {
      for (const InterfaceAddress& address : port.addresses) {
        const Prefix own(address.address, 128);
        if (!Taken(own, nullptr)) Add(own, {});
        if (!Taken(address.prefix, &port)) Add(address.prefix, {&port, {}, {}, 0});
      }
    }
  }

  void AddKernelRoutes() {
    std::vector<uint32_t> tables = {RT_TABLE_LOCAL};
    for (const auto& port : ports_) {
      if (const KernelLink* link = kernel_.Link(port.ifindex)) {
        tables.push_back(link->table != 0 ? link->table : RT_TABLE_MAIN);
      }
    }
    if (tables.size() == 1) return;  // no port of the kernel's

    std::map<std::pair<uint32_t, Prefix>, Candidate> best;
    for (const KernelRoute& route : kernel_.routes) {
      if (std::ranges::find(tables, route.table) == tables.end() || NeverForwarded(route.prefix)) {
        continue;
      }
      const Candidate candidate = Judge(route);
      if (Taken(route.prefix, candidate.target.port)) continue;
      const auto [at, added] = best.try_emplace({route.table, route.prefix}, candidate);
      if (!added && candidate.Before(at->second)) at->second = candidate;
    }
    // The local table is asked first by every kernel; among VRFs one that leads somewhere wins.
    for (const bool somewhere : {true, false}) {
      for (const uint32_t table : tables) {
        for (auto at = best.lower_bound({table, Prefix()});
             at != best.end() && at->first.first == table; ++at) {
          const Target& target = at->second.target;
          if (table == RT_TABLE_LOCAL || (target.port != nullptr) == somewhere) {
            Add(at->first.second, target);
          }
        }
      }
    }
  }

  [[nodiscard]] Candidate Judge(const KernelRoute& route) const {
    Candidate candidate{{}, false, route.metric};
    if (!route.forwards) return candidate;
    for (const KernelHop& hop : route.hops) {
      const auto port = by_ifindex_.find(hop.ifindex);
      if (port == by_ifindex_.end()) continue;
      // A route in a table that is not the port's (a leak between VRFs) does not count.
      const KernelLink* link = kernel_.Link(hop.ifindex);
      const uint32_t table = link != nullptr && link->table != 0 ? link->table : RT_TABLE_MAIN;
      if (table != route.table) continue;
      const auto mtu = static_cast<uint16_t>(std::min(route.mtu, 65535U));
      candidate.target = {port->second, hop.gateway, {}, mtu};
      return candidate;
    }
    candidate.foreign = true;
    return candidate;
  }

  [[nodiscard]] const Target* Lookup(const Address& address) const {
    for (int length = 128; length >= (address.IsV4() ? 96 : 0); --length) {
      if (!lengths_.contains(static_cast<unsigned>(length))) continue;
      const auto at = targets_.find(Prefix(address, static_cast<unsigned>(length)));
      if (at != targets_.end()) return &at->second;
    }
    return nullptr;
  }

  /// A resolved neighbour is a host route, but only where its port's on-link route leads anyway:
  /// an entry cannot draw traffic away from where routing sends it.
  void AddNeighbours() {
    for (const auto& [prefix, target] : targets_) lengths_.insert(prefix.length());
    std::vector<std::pair<Prefix, Target>> hosts;
    for (const KernelNeighbour& neighbour : kernel_.neighbours) {
      const auto port = by_ifindex_.find(neighbour.ifindex);
      const Prefix host(neighbour.address, 128);
      if (!neighbour.usable || port == by_ifindex_.end() || NeverForwarded(host)) continue;
      macs_[{neighbour.ifindex, neighbour.address}] = neighbour.mac;
      const Target* target = Lookup(neighbour.address);
      if (target == nullptr || target->port != port->second || target->gateway || target->mac) {
        continue;
      }
      hosts.emplace_back(host, Target{target->port, {}, neighbour.mac, target->mtu});
    }
    for (const auto& [prefix, target] : hosts) {
      targets_.insert_or_assign(prefix, target);
      neighbour_hosts_.insert(prefix);
    }
    // Gateways may have link-local addresses, which are never destinations.
    for (const KernelNeighbour& neighbour : kernel_.neighbours) {
      if (neighbour.usable) macs_[{neighbour.ifindex, neighbour.address}] = neighbour.mac;
    }
  }

  NextHop MakeHop(const Prefix& prefix, const Target& target) {
    const NetworkPort& port = *target.port;
    const KernelLink* link = kernel_.Link(port.ifindex);
    NextHop hop;
    hop.port = port.id;
    hop.source = link != nullptr ? link->mac : port.mac;
    hop.mtu = link != nullptr ? std::min(port.mtu, link->mtu) : port.mtu;
    if (target.mtu != 0) hop.mtu = std::min(hop.mtu, target.mtu);
    if (target.gateway) {
      hop.gateway = *target.gateway;
      const auto mac = macs_.find({port.ifindex, *target.gateway});
      hop.resolved = mac != macs_.end();
      if (hop.resolved) hop.destination = mac->second;
      if (port.ifindex != 0) gateways_.emplace(port.id, *target.gateway);
    } else if (target.mac) {
      hop.resolved = true;
      hop.destination = *target.mac;
      // So that whoever uses it can say which neighbour is in use.
      if (neighbour_hosts_.contains(prefix)) hop.gateway = prefix.address();
    }
    return hop;
  }

  CompiledRoutes Finish() {
    CompiledRoutes compiled;
    using Key = std::tuple<uint16_t, Address, Mac, uint16_t, bool>;
    std::map<Key, uint32_t> known;
    for (const auto& [prefix, target] : targets_) {
      if (target.port == nullptr) {
        compiled.fib.routes.push_back({prefix, Route::kUnreachable});
        continue;
      }
      const NextHop hop = MakeHop(prefix, target);
      const auto next = static_cast<uint32_t>(compiled.fib.next_hops.size());
      const auto [at, added] =
          known.try_emplace({hop.port, hop.gateway, hop.destination, hop.mtu, hop.resolved}, next);
      if (added) compiled.fib.next_hops.push_back(hop);
      compiled.fib.routes.push_back({prefix, at->second});
    }
    compiled.gateways.assign(gateways_.begin(), gateways_.end());
    return compiled;
  }

  const KernelState& kernel_;
  const std::vector<NetworkPort>& ports_;
  std::map<int, const NetworkPort*> by_ifindex_;
  std::map<Prefix, Target> targets_;
  std::set<unsigned> lengths_;  // of targets_, for Lookup
  std::set<Prefix> neighbour_hosts_;
  std::map<std::pair<int, Address>, Mac> macs_;
  std::set<std::pair<uint16_t, Address>> gateways_;
};

}  // namespace

const KernelLink* KernelState::Link(int ifindex) const {
  if (ifindex == 0) return nullptr;
  const auto found = std::ranges::find(links, ifindex, &KernelLink::ifindex);
  return found == links.end() ? nullptr : &*found;
}

CompiledRoutes CompileRoutes(const KernelState& kernel, const std::vector<NetworkPort>& ports,
                             const std::vector<StaticRoute>& routes) {
  return Compiler(kernel, ports).Run(routes);
}

}  // namespace portcullis
