#include "control/model/validate.hpp"

#include <algorithm>
#include <map>

#include "control/model/first_line.hpp"
#include "control/model/requests.hpp"

namespace portcullis::model {
namespace {

using Warnings = std::vector<Warning>;

std::string At(const char* list, size_t i, const std::string& rest) {
  return fmt::format("/{}/{}{}", list, i, rest);
}

tl::unexpected<Error> Conflict(std::string where, std::string message, std::string expected,
                               std::string found) {
  return tl::unexpected(Error{ErrorKind::kConflict, std::move(message), std::move(where),
                              std::move(expected), std::move(found)});
}

template <class T>
Result<void> UniqueNames(const char* list, const char* kind, const std::vector<T>& resources) {
  std::map<std::string, size_t> seen;
  for (size_t i = 0; i < resources.size(); ++i) {
    const auto [first, fresh] = seen.emplace(resources[i].name, i);
    if (!fresh) {
      return Conflict(
          At(list, i, "/name"), fmt::format("two {} have the name '{}'", list, resources[i].name),
          "a name of its own", fmt::format("the {} at /{}/{}", kind, list, first->second));
    }
  }
  return {};
}

// "a.b" names the pair of an overlap: prefix index of each, if there is one.
std::optional<std::pair<size_t, size_t>> Overlap(const std::vector<Prefix>& a,
                                                 const std::vector<Prefix>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < b.size(); ++j) {
      if (a[i].Overlaps(b[j])) return std::pair(i, j);
    }
  }
  return {};
}

bool Overlap(const std::vector<ServicePorts>& a, const std::vector<ServicePorts>& b) {
  for (const auto& x : a) {
    for (const auto& y : b) {
      if (x.protocol == y.protocol && x.first <= y.last && y.first <= x.last) return true;
    }
  }
  return false;
}

// The servers, or their clients where the servers stand behind the peer.
const std::vector<Prefix>& BehindGate(const Interface& i) {
  return i.side == Side::local ? i.prefixes : i.clients;
}

// What is sent to the guard must end there: not at a server whose address is the same, and not at
// another interface's listener.
Result<void> CheckGuards(const Document& d) {
  for (size_t n = 0; n < d.interfaces.size(); ++n) {
    const Interface& i = d.interfaces[n];
    const bool needed = i.protection == Protection::tls_esp;
    if (needed != i.guard.has_value()) {
      return Invalid(
          At("interfaces", n, "/guard"),
          needed ? "ESP must end at the guard and not at the servers"
                 : "only what comes in ESP has a place of the guard's in policy",
          needed ? "address and port" : "none, or protection tls+esp",
          needed ? "nothing" : fmt::format("protection {}", TextOf(kProtections, i.protection)));
    }
    if (!i.guard || i.side == Side::remote) continue;
    const Destination guard = DestinationOf(i);
    for (const Interface& other : d.interfaces) {
      const auto both = Overlap(guard.prefixes, BehindGate(other));
      if (both) {
        return Conflict(
            At("interfaces", n, "/guard/address"),
            fmt::format("what peers send to the guard of '{}' could reach '{}' past it", i.name,
                        other.name),
            "an address of the gate's own",
            fmt::format("{}, which lies in {} of interface '{}'", i.guard->address.Text(),
                        BehindGate(other)[both->second].Text(), other.name));
      }
    }
    for (size_t m = 0; m < n; ++m) {
      const Interface& other = d.interfaces[m];
      const Destination taken = DestinationOf(other);
      if (other.guard && guard.prefixes == taken.prefixes && Overlap(guard.ports, taken.ports)) {
        return Conflict(At("interfaces", n, "/guard"),
                        fmt::format("the guard has one listener for each interface; '{}' and '{}' "
                                    "name the same",
                                    i.name, other.name),
                        "an address or a port of its own",
                        fmt::format("{} port {}", i.guard->address.Text(), i.guard->port));
      }
    }
  }
  return {};
}

Result<void> CheckInterfaces(const Document& d, bool lab, Warnings& warnings) {
  for (size_t n = 0; n < d.interfaces.size(); ++n) {
    const Interface& i = d.interfaces[n];
    const auto at = [&](const std::string& rest) { return At("interfaces", n, rest); };
    if (i.protection == Protection::none) {
      if (i.zone == Zone::external) {
        return Invalid(at("/protection"),
                       fmt::format("interface '{}' is external and must be protected", i.name),
                       "esp, tls or tls+esp, or zone internal", "none in zone external");
      }
      warnings.push_back(
          {"interface", i.name, "a bypass: its traffic passes in cleartext, from anywhere"});
    }
    // The external management exposure (TS 28.533 4.9) and T8 (TS 29.122 5.2.1) ask for TLS and for
    // the authorisation of each request.
    const bool needs_tls =
        i.zone == Zone::external &&
        (i.type == InterfaceType::scef || i.type == InterfaceType::management_exposure);
    if (needs_tls && i.protection == Protection::esp) {
      if (!lab) {
        return Invalid(at("/protection"),
                       fmt::format("interface '{}' is an external {} and needs TLS", i.name,
                                   TextOf(kInterfaceTypes, i.type)),
                       "tls or tls+esp", "esp");
      }
      warnings.push_back({"interface", i.name,
                          fmt::format("laboratory: an external {} asks for tls or tls+esp; esp "
                                      "alone authorises no requests",
                                      TextOf(kInterfaceTypes, i.type))});
    }
    if (i.protection == Protection::tls || i.protection == Protection::tls_esp) {
      warnings.push_back({"interface", i.name,
                          "asks for TLS, which the guard terminates: the dataplane lets nothing "
                          "through to it directly"});
    }
    for (size_t m = 0; m < n; ++m) {
      const Interface& other = d.interfaces[m];
      const auto both = Overlap(i.prefixes, other.prefixes);
      if (both && Overlap(i.ports, other.ports)) {
        return Conflict(
            at(fmt::format("/prefixes/{}", both->first)),
            fmt::format("interfaces '{}' and '{}' claim the same addresses and ports", i.name,
                        other.name),
            "addresses or ports of its own",
            fmt::format("{} overlaps {} of interface '{}'", i.prefixes[both->first].Text(),
                        other.prefixes[both->second].Text(), other.name));
      }
    }
  }
  return {};
}

Result<void> CheckPeers(const Document& d) {
  // Sorted by address, overlapping prefixes are neighbours: a prefix overlaps the one before it or
  // the last one that still reaches so far. Documents have thousands of peers; all pairs would be
  // millions.
  struct Claim {
    Prefix prefix;
    size_t peer;
    size_t index;
  };
  std::vector<Claim> claims;
  std::vector<std::vector<Prefix>> behind;  // this gate, by interface
  for (const Interface& i : d.interfaces) {
    behind.push_back(BehindGate(i));
    if (!i.guard || i.side == Side::remote) continue;
    const auto guard = DestinationOf(i).prefixes;
    behind.back().insert(behind.back().end(), guard.begin(), guard.end());
  }
  std::map<std::string, size_t> identities;
  std::map<std::pair<std::string, std::string>, size_t> clients;
  for (size_t n = 0; n < d.peers.size(); ++n) {
    const Peer& p = d.peers[n];
    const auto [first, fresh] = identities.emplace(p.identity, n);
    if (!fresh) {
      return Conflict(At("peers", n, "/identity"),
                      fmt::format("peers '{}' and '{}' have the same identity", p.name,
                                  d.peers[first->second].name),
                      "an identity of its own", "\"" + p.identity + "\"");
    }
    if (p.token) {
      // A token is one peer's; if it were two peers', either could be the other.
      const auto [other, unused] =
          clients.emplace(std::pair(p.token->issuer, p.token->client_id), n);
      if (!unused) {
        return Conflict(At("peers", n, "/token/client_id"),
                        fmt::format("peers '{}' and '{}' have the same tokens", p.name,
                                    d.peers[other->second].name),
                        "a client of its own", "\"" + p.token->client_id + "\"");
      }
    }
    for (size_t k = 0; k < p.prefixes.size(); ++k) claims.push_back({p.prefixes[k], n, k});
    for (size_t k = 0; k < d.interfaces.size(); ++k) {
      const Interface& i = d.interfaces[k];
      const auto& own = behind[k];
      const auto both = Overlap(p.prefixes, own);
      if (both) {
        return Conflict(
            At("peers", n, fmt::format("/prefixes/{}", both->first)),
            fmt::format("peer '{}' claims addresses that stand behind this gate", p.name),
            "addresses on the peer's side",
            fmt::format("{} overlaps {} of interface '{}'", p.prefixes[both->first].Text(),
                        own[both->second].Text(), i.name));
      }
    }
  }
  std::sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) {
    return std::tuple(a.prefix, a.peer) < std::tuple(b.prefix, b.peer);
  });
  std::vector<const Claim*> enclosing;
  for (const Claim& c : claims) {
    while (!enclosing.empty() && !enclosing.back()->prefix.Contains(c.prefix)) enclosing.pop_back();
    for (const Claim* outer : enclosing) {
      if (outer->peer == c.peer) continue;
      const Claim& later = outer->peer > c.peer ? *outer : c;
      const Claim& earlier = outer->peer > c.peer ? c : *outer;
      return Conflict(At("peers", later.peer, fmt::format("/prefixes/{}", later.index)),
                      fmt::format("peers '{}' and '{}' claim the same addresses",
                                  d.peers[later.peer].name, d.peers[earlier.peer].name),
                      "addresses of its own",
                      fmt::format("{} overlaps {} of peer '{}'", later.prefix.Text(),
                                  earlier.prefix.Text(), d.peers[earlier.peer].name));
    }
    enclosing.push_back(&c);
  }
  return {};
}

Result<void> CheckPolicies(const Document& d) {
  for (size_t n = 0; n < d.policies.size(); ++n) {
    const Policy& p = d.policies[n];
    const auto named = std::find_if(d.interfaces.begin(), d.interfaces.end(),
                                    [&](const Interface& i) { return i.name == p.interface; });
    if (named == d.interfaces.end()) {
      return Invalid(At("policies", n, "/interface"),
                     fmt::format("policy '{}' names an interface that does not exist", p.name),
                     "the name of an interface", "\"" + p.interface + "\"");
    }
    const Destination reached = DestinationOf(*named);
    for (size_t k = 0; k < p.registration_ports.size(); ++k) {
      const ServicePorts& own = p.registration_ports[k];
      const bool covered = std::ranges::any_of(reached.ports, [&](const ServicePorts& s) {
        return s.protocol == own.protocol && s.first <= own.first && own.last <= s.last;
      });
      if (covered) continue;
      return Invalid(
          At("policies", n, fmt::format("/registration_ports/{}", k)),
          fmt::format("policy '{}' registers at what is none of '{}'", p.name, named->name),
          "a part of the interface's ports",
          fmt::format("{} {}-{}", static_cast<unsigned>(own.protocol), own.first, own.last));
    }
  }
  return {};
}

}  // namespace

Result<Warnings> Validate(const Document& d, bool lab) {
  Warnings warnings;
  for (const auto& outcome :
       {UniqueNames("interfaces", "interface", d.interfaces), UniqueNames("peers", "peer", d.peers),
        UniqueNames("policies", "policy", d.policies),
        UniqueNames("approval", "approval rule", d.approval), CheckInterfaces(d, lab, warnings),
        CheckGuards(d), CheckPeers(d), CheckPolicies(d), CheckFirstLine(d, warnings),
        UniqueNames("request_blocks", "block", d.blocks), CheckRequests(d, warnings)}) {
    if (!outcome) return tl::unexpected(outcome.error());
  }
  return warnings;
}

void SortByName(Document& d) {
  const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  std::sort(d.interfaces.begin(), d.interfaces.end(), by_name);
  std::sort(d.peers.begin(), d.peers.end(), by_name);
  std::sort(d.policies.begin(), d.policies.end(), by_name);
  std::sort(d.approval.begin(), d.approval.end(), by_name);
  std::sort(d.blocks.begin(), d.blocks.end(), by_name);
  if (d.first_line) SortPrefixes(*d.first_line);
}

}  // namespace portcullis::model
