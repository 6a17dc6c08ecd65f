#include "control/model/compile.hpp"

#include <map>

#include "control/model/first_line.hpp"
#include "control/model/requests.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::model {
namespace {

using portcullis::steer::ToMessage;

// What both admit: of two prefixes that overlap, one contains the other.
std::optional<Prefix> Common(const Prefix& a, const Prefix& b) {
  if (a.Contains(b)) return b;
  if (b.Contains(a)) return a;
  return {};
}

void SetPorts(const ServicePorts& service, steer::Ports& ports) {
  ports.set_first(service.first);
  ports.set_last(service.last);
}

// Where the two ends of a service are, seen from this gate.
struct Ends {
  std::vector<Prefix> local;
  std::vector<Prefix> remote;
  bool servers_local;
};

// The prefixes between which `peer` may use `interface`. On the peer's side it is what the peer
// itself may use, and for servers there only those of the interface.
Ends EndsOf(const Interface& interface, const Peer& peer) {
  const auto servers = DestinationOf(interface).prefixes;
  if (interface.side == Side::local) return {servers, peer.prefixes, true};
  Ends ends{interface.clients, {}, false};
  for (const auto& server : servers) {
    for (const auto& own : peer.prefixes) {
      if (const auto both = Common(server, own)) ends.remote.push_back(*both);
    }
  }
  return ends;
}

// One per pair of prefixes of the same family. `services` name the ports of the servers, or with
// `callback` those of the clients.
void AddSelectors(const Ends& ends, const std::vector<ServicePorts>& services, bool callback,
                  std::vector<steer::Selector>& out) {
  const bool ports_local = ends.servers_local != callback;
  for (const auto& local : ends.local) {
    for (const auto& remote : ends.remote) {
      if (local.IsV4() != remote.IsV4()) continue;
      for (const auto& service : services) {
        steer::Selector& selector = out.emplace_back();
        *selector.mutable_local() = ToMessage(local);
        *selector.mutable_remote() = ToMessage(remote);
        selector.set_protocol(static_cast<uint32_t>(service.protocol));
        if (HasPorts(service.protocol)) {
          SetPorts(service, ports_local ? *selector.mutable_local_ports()
                                        : *selector.mutable_remote_ports());
        }
      }
    }
  }
}

// What asks for TLS goes through the guard, which judges each request; packets straight to the
// servers would go around it. With tls+esp they end at the guard (DestinationOf).
bool DataplaneAdmits(const Interface& interface) {
  return interface.protection == Protection::esp || interface.protection == Protection::tls_esp;
}

steer::Peer CompilePeer(const Document& d, const Peer& peer) {
  steer::Peer out;
  out.set_name(peer.name);
  out.set_tenant(peer.tenant);
  for (const auto& p : peer.prefixes) *out.add_prefixes() = ToMessage(p);
  *out.mutable_rate() = ToMessage(peer.rate);
  if (!peer.enabled) return out;  // known, so that its SAs stay; nothing is admitted
  for (const auto& policy : d.policies) {
    if (policy.role != peer.role) continue;
    for (const auto& interface : d.interfaces) {
      if (interface.name != policy.interface) continue;
      for (auto& selector : SelectorsOf(interface, peer, policy)) {
        steer::Rule& rule = *out.add_rules();
        rule.set_policy(policy.name);
        *rule.mutable_selector() = std::move(selector);
      }
    }
  }
  return out;
}

void CompileInterfaces(const Document& d, steer::ApplySnapshot& out) {
  for (const auto& i : d.interfaces) {
    steer::ProtectedInterface& guarded = *out.add_interfaces();
    guarded.set_name(i.name);
    for (const auto& p : i.prefixes) *guarded.add_prefixes() = ToMessage(p);
    for (const auto& p : i.clients) *guarded.add_prefixes() = ToMessage(p);
    if (i.guard) {
      for (const auto& p : DestinationOf(i).prefixes) *guarded.add_prefixes() = ToMessage(p);
    }
    if (i.protection != Protection::none) continue;
    for (const auto& server : i.prefixes) {
      for (const auto& service : i.ports) {
        const auto add = [&](const Prefix* client) {
          steer::Bypass& bypass = *out.add_bypasses();
          bypass.set_name(i.name);
          steer::Selector& selector = *bypass.mutable_selector();
          const bool local = i.side == Side::local;
          *(local ? selector.mutable_local() : selector.mutable_remote()) = ToMessage(server);
          if (client != nullptr) *selector.mutable_local() = ToMessage(*client);
          selector.set_protocol(static_cast<uint32_t>(service.protocol));
          if (HasPorts(service.protocol)) {
            SetPorts(service,
                     local ? *selector.mutable_local_ports() : *selector.mutable_remote_ports());
          }
        };
        if (i.side == Side::local) add(nullptr);
        for (const auto& client : i.clients) {
          if (client.IsV4() == server.IsV4()) add(&client);
        }
      }
    }
  }
}

}  // namespace

std::vector<steer::Selector> SelectorsOf(const Interface& interface, const Peer& peer,
                                         const Policy& policy) {
  std::vector<steer::Selector> out;
  if (!DataplaneAdmits(interface)) return out;
  const Ends ends = EndsOf(interface, peer);
  AddSelectors(ends, DestinationOf(interface).ports, false, out);
  AddSelectors(ends, policy.callback_ports, true, out);
  return out;
}

std::vector<steer::Selector> SelectorsBeforeRegistration(const Interface& interface,
                                                         const Peer& peer, const Policy& policy) {
  if (policy.registration_ports.empty()) return SelectorsOf(interface, peer, policy);
  std::vector<steer::Selector> out;
  if (DataplaneAdmits(interface)) {
    AddSelectors(EndsOf(interface, peer), policy.registration_ports, false, out);
  }
  return out;
}

steer::Rate ToMessage(const Rate& rate) {
  steer::Rate out;
  out.set_packets_per_second(rate.packets_per_second);
  out.set_bits_per_second(rate.bits_per_second);
  out.set_burst_ms(rate.burst_ms);
  return out;
}

steer::ApplySnapshot CompileFull(const Document& d, uint64_t generation) {
  steer::ApplySnapshot out;
  out.set_generation(generation);
  out.set_full(true);
  for (const auto& peer : d.peers) *out.add_peers() = CompilePeer(d, peer);
  CompileInterfaces(d, out);
  *out.mutable_first_line() = CompileFirstLine(d);
  return out;
}

steer::ApplySnapshot CompileChange(const Document& before, uint64_t base, const Document& after,
                                   uint64_t generation) {
  steer::ApplySnapshot out;
  out.set_generation(generation);
  out.set_base_generation(base);
  std::map<std::string, std::string> old;  // name -> its compiled form, serialised
  for (const auto& peer : before.peers) {
    old.emplace(peer.name, CompilePeer(before, peer).SerializeAsString());
  }
  for (const auto& peer : after.peers) {
    steer::Peer compiled = CompilePeer(after, peer);
    const auto was = old.find(peer.name);
    if (was == old.end() || was->second != compiled.SerializeAsString()) {
      *out.add_peers() = std::move(compiled);
    }
    if (was != old.end()) old.erase(was);
  }
  for (const auto& [name, compiled] : old) out.add_removed_peers(name);
  CompileInterfaces(after, out);
  steer::FirstLine line = CompileFirstLine(after);
  if (line.SerializeAsString() != CompileFirstLine(before).SerializeAsString()) {
    *out.mutable_first_line() = std::move(line);
  }
  return out;
}

}  // namespace portcullis::model
