#include "control/model/first_line.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::model {

using nlohmann::json;
using enum Fields::Presence;

namespace {

constexpr uint64_t kMostPerSecond = 100'000'000;  // a bucket counts nanoseconds between packets
constexpr uint64_t kMostBurst = 1'000'000;
// A shorter one would make half the world one source.
constexpr uint64_t kLeastIpv4 = 8, kMostIpv4 = 32;
constexpr uint64_t kLeastIpv6 = 16, kMostIpv6 = 128;

SourceLimit ReadLimit(Fields& fields, const char* field, std::optional<Error>& error) {
  const json* value = fields.Object(field, optional);
  if (value == nullptr) return {};
  Fields inner(*value, fields.Pointer(field), error);
  SourceLimit limit;
  limit.per_second = inner.Number("per_second", 1, kMostPerSecond);
  limit.burst = static_cast<uint32_t>(inner.Number("burst", 1, kMostBurst));
  inner.RefuseOthers();
  return limit;
}

json LimitJson(const SourceLimit& limit) {
  return {{"per_second", limit.per_second}, {"burst", limit.burst}};
}

}  // namespace

Result<FirstLine> ParseFirstLine(const json& value, const std::string& where) {
  std::optional<Error> error;
  Fields fields(value, where, error);
  FirstLine line;
  line.admit_strangers = fields.Flag("admit_strangers", line.admit_strangers);
  line.admit = fields.Nets("admit", optional);
  line.deny = fields.Nets("deny", optional);
  line.ipv4_length =
      static_cast<uint8_t>(fields.Number("ipv4_length", kLeastIpv4, kMostIpv4, line.ipv4_length));
  line.ipv6_length =
      static_cast<uint8_t>(fields.Number("ipv6_length", kLeastIpv6, kMostIpv6, line.ipv6_length));
  line.packets = ReadLimit(fields, "packets", error);
  line.handshakes = ReadLimit(fields, "handshakes", error);
  line.strangers = ReadLimit(fields, "strangers", error);
  line.sessions = ReadServices(fields, "sessions", false, error);
  if (fields.Find("host", optional) != nullptr) {
    line.host = ReadServices(fields, "host", false, error);
  }
  fields.RefuseOthers();
  if (error) return tl::unexpected(*error);
  SortPrefixes(line);
  return line;
}

json ToJson(const FirstLine& line) {
  json out = {{"admit_strangers", line.admit_strangers},
              {"ipv4_length", line.ipv4_length},
              {"ipv6_length", line.ipv6_length}};
  if (!line.admit.empty()) out["admit"] = PrefixesJson(line.admit);
  if (!line.deny.empty()) out["deny"] = PrefixesJson(line.deny);
  if (line.packets.per_second != 0) out["packets"] = LimitJson(line.packets);
  if (line.handshakes.per_second != 0) out["handshakes"] = LimitJson(line.handshakes);
  if (line.strangers.per_second != 0) out["strangers"] = LimitJson(line.strangers);
  if (!line.sessions.empty()) out["sessions"] = ServicesJson(line.sessions);
  if (line.host) out["host"] = ServicesJson(*line.host);
  return out;
}

void SortPrefixes(FirstLine& line) {
  for (auto* list : {&line.admit, &line.deny}) {
    std::ranges::sort(*list);
    list->erase(std::unique(list->begin(), list->end()), list->end());
  }
}

// ---- rules

namespace {

Result<void> CheckPrefixes(const FirstLine& line) {
  const size_t count = line.admit.size() + line.deny.size();
  if (count > FirstLine::kMostPrefixes) {
    return Invalid("/first_line", "too many prefixes",
                   fmt::format("at most {} in admit and deny", FirstLine::kMostPrefixes),
                   std::to_string(count));
  }
  for (const Prefix& prefix : line.deny) {
    if (!std::ranges::binary_search(line.admit, prefix)) continue;
    return tl::unexpected(Error{ErrorKind::kConflict, "a prefix is both admitted and denied",
                                "/first_line/deny", "one of the two", prefix.Text()});
  }
  return {};
}

Result<void> CheckServices(const FirstLine& line) {
  const size_t count = line.sessions.size() + (line.host ? line.host->size() : 0);
  if (count > FirstLine::kMostServices) {
    return Invalid("/first_line", "too many services",
                   fmt::format("at most {} in sessions and host", FirstLine::kMostServices),
                   std::to_string(count));
  }
  for (size_t i = 0; i < line.sessions.size(); ++i) {
    const Protocol protocol = line.sessions[i].protocol;
    if (protocol == Protocol::tcp || protocol == Protocol::udp) continue;
    return Invalid(fmt::format("/first_line/sessions/{}/protocol", i),
                   "nobody begins a session by this protocol", "tcp or udp",
                   std::string(TextOf(kServiceProtocols, protocol)));
  }
  return {};
}

}  // namespace

Result<void> CheckFirstLine(const Document& d, std::vector<Warning>& warnings) {
  if (!d.first_line) return {};
  FirstLine line = *d.first_line;
  SortPrefixes(line);
  if (auto checked = CheckPrefixes(line); !checked) return checked;
  if (auto checked = CheckServices(line); !checked) return checked;
  const auto warn = [&](std::string text) {
    warnings.push_back({"first-line", "first-line", std::move(text)});
  };
  const bool limits = line.handshakes.per_second != 0 || line.strangers.per_second != 0;
  if (limits && line.sessions.empty()) {
    warn("handshakes are limited, but no ports of sessions are named: the limits count nothing");
  }
  const auto tell = [&](const std::vector<std::string>& who, const char* text) {
    if (who.empty()) return;
    const std::string more = who.size() == 1 ? "" : fmt::format(" and {} more", who.size() - 1);
    warn(fmt::format("peer '{}'{} {}", who.front(), more, text));
  };
  std::vector<std::string> placeless;
  std::vector<std::string> denied;
  for (const Peer& peer : d.peers) {
    if (!peer.enabled) continue;
    if (!peer.endpoint) {
      placeless.push_back(peer.name);
    } else if (std::ranges::binary_search(line.deny, Prefix(*peer.endpoint, 128))) {
      denied.push_back(peer.name);
    }
  }
  if (!line.admit_strangers) {
    tell(placeless,
         "without endpoint: strangers are not admitted, so it cannot connect unless `admit` "
         "contains where it is");
  }
  tell(denied, "cannot connect: its endpoint is denied");
  return {};
}

// ---- difference

json FirstLineFields(const FirstLine& before, const FirstLine& after) {
  json fields = json::array();
  const auto prefixes = [&](const char* field, const auto& from, const auto& to) {
    std::vector<Prefix> gone;
    std::vector<Prefix> come;
    std::ranges::set_difference(from, to, std::back_inserter(gone));
    std::ranges::set_difference(to, from, std::back_inserter(come));
    for (const Prefix& p : gone) fields.push_back({{"field", field}, {"from", p.Text()}});
    for (const Prefix& p : come) fields.push_back({{"field", field}, {"to", p.Text()}});
  };
  prefixes("/admit", before.admit, after.admit);
  prefixes("/deny", before.deny, after.deny);
  json from = ToJson(before);
  json to = ToJson(after);
  for (json* side : {&from, &to}) {
    side->erase("admit");
    side->erase("deny");
  }
  std::set<std::string> names;
  for (const json* side : {&from, &to}) {
    for (const auto& [name, value] : side->items()) names.insert(name);
  }
  for (const std::string& name : names) {
    const bool was = from.contains(name);
    const bool is = to.contains(name);
    if (was && is && from[name] == to[name]) continue;
    json field = {{"field", "/" + name}};
    if (was) field["from"] = from[name];
    if (is) field["to"] = to[name];
    fields.push_back(std::move(field));
  }
  return fields;
}

// ---- for the dataplane

namespace {

void Fill(const SourceLimit& limit, steer::SourceLimit& out) {
  out.set_per_second(limit.per_second);
  out.set_burst(limit.burst);
}

void Fill(const ServicePorts& service, steer::Service& out) {
  out.set_protocol(static_cast<uint32_t>(service.protocol));
  if (!HasPorts(service.protocol)) return;
  out.mutable_ports()->set_first(service.first);
  out.mutable_ports()->set_last(service.last);
}

}  // namespace

steer::FirstLine CompileFirstLine(const Document& d) {
  FirstLine line = d.first_line.value_or(FirstLine());
  SortPrefixes(line);
  // A denial of exactly that address stands: who wrote it has meant this peer.
  std::set<Prefix> admitted(line.admit.begin(), line.admit.end());
  for (const Peer& peer : d.peers) {
    if (!peer.enabled || !peer.endpoint) continue;
    const Prefix endpoint(*peer.endpoint, 128);
    if (!std::ranges::binary_search(line.deny, endpoint)) admitted.insert(endpoint);
  }
  steer::FirstLine out;
  out.set_deny_strangers(!line.admit_strangers);
  for (const Prefix& prefix : admitted) {
    *out.add_sources()->mutable_prefix() = steer::ToMessage(prefix);
  }
  for (const Prefix& prefix : line.deny) {
    steer::SourceRule& rule = *out.add_sources();
    *rule.mutable_prefix() = steer::ToMessage(prefix);
    rule.set_deny(true);
  }
  out.set_ipv4_length(line.ipv4_length);
  out.set_ipv6_length(line.ipv6_length);
  if (line.packets.per_second != 0) Fill(line.packets, *out.mutable_packets());
  if (line.handshakes.per_second != 0) Fill(line.handshakes, *out.mutable_handshakes());
  if (line.strangers.per_second != 0) Fill(line.strangers, *out.mutable_strangers());
  for (const ServicePorts& service : line.sessions) Fill(service, *out.add_sessions());
  out.set_some_of_host(line.host.has_value());
  for (const ServicePorts& service : line.host.value_or(std::vector<ServicePorts>())) {
    Fill(service, *out.add_host());
  }
  return out;
}

}  // namespace portcullis::model
