#include "control/model/json.hpp"

#include <algorithm>
#include <limits>

#include "control/model/callback.hpp"
#include "control/model/fields.hpp"
#include "control/model/requests.hpp"

namespace portcullis::model {

using nlohmann::json;
using enum Fields::Presence;

namespace {

// JSON numbers beyond 2^53 do not survive every reader.
constexpr uint64_t kMostRate = uint64_t{1} << 53U;
constexpr uint64_t kMostBurstMs = 10000;
constexpr uint64_t kLeastGrant = 60;  // seconds
constexpr uint64_t kMostGrant = 86400;
constexpr uint64_t kLeastApproval = 60;  // seconds
constexpr uint64_t kMostApproval = 30UL * 86400;

ServicePorts ReadServicePorts(const json& value, const std::string& where,
                              std::optional<Error>& error) {
  Fields fields(value, where, error);
  ServicePorts ports;
  ports.protocol = fields.Choice("protocol", kServiceProtocols);
  if (HasPorts(ports.protocol)) {
    ports.first = static_cast<uint16_t>(fields.Number("first", 0, kMostPort));
    ports.last = static_cast<uint16_t>(fields.Number("last", 0, kMostPort));
    if (ports.first > ports.last) {
      fields.Refuse("last", "the range ends before it starts",
                    fmt::format("{} or more", ports.first), std::to_string(ports.last));
    }
  }
  fields.RefuseOthers();
  return ports;
}

// base64url of a SHA-256, as RFC 7638 3 and RFC 8705 3.1 write it.
constexpr size_t kThumbprintLength = 43;

TokenClient ReadTokenClient(const json& value, const std::string& where, Authentication by,
                            std::optional<Error>& error) {
  constexpr size_t kLongestIssuer = 1024;
  constexpr size_t kLongestClient = 255;
  Fields fields(value, where, error);
  TokenClient client;
  client.issuer = fields.Text("issuer", kLongestIssuer);
  client.client_id = fields.Text("client_id", kLongestClient);
  const bool psk = by == Authentication::psk;
  client.key_thumbprint =
      fields.Text("key_thumbprint", kThumbprintLength, psk ? required : optional);
  if (!client.key_thumbprint.empty() && !psk) {
    fields.Refuse("key_thumbprint",
                  "only a peer with a pre-shared key proves with a key of its own",
                  "none: the token is bound to the certificate", "a thumbprint");
  } else if (psk && client.key_thumbprint.size() != kThumbprintLength) {
    fields.Refuse("key_thumbprint", "not a thumbprint (RFC 7638)",
                  fmt::format("{} characters of base64url", kThumbprintLength),
                  fmt::format("{} characters", client.key_thumbprint.size()));
  }
  fields.RefuseOthers();
  return client;
}

template <class T>
Result<T> Checked(T value, const std::optional<Error>& error) {
  if (error) return tl::unexpected(*error);
  return value;
}

}  // namespace

std::vector<ServicePorts> ReadServices(Fields& fields, const char* field, bool needed,
                                       std::optional<Error>& error) {
  std::vector<ServicePorts> all;
  fields.Each(field, needed ? required : optional,
              [&](const json& element, const std::string& where) {
                all.push_back(ReadServicePorts(element, where, error));
              });
  return all;
}

json ServicesJson(const std::vector<ServicePorts>& services) {
  json all = json::array();
  for (const auto& s : services) {
    json one = {{"protocol", TextOf(kServiceProtocols, s.protocol)}};
    if (HasPorts(s.protocol)) {
      one["first"] = s.first;
      one["last"] = s.last;
    }
    all.push_back(std::move(one));
  }
  return all;
}

json PrefixesJson(const std::vector<Prefix>& prefixes) {
  json all = json::array();
  for (const auto& p : prefixes) all.push_back(p.Text());
  return all;
}

Rate ReadRate(Fields& fields, std::optional<Error>& error) {
  Rate rate;
  const json* value = fields.Object("rate", optional);
  if (value == nullptr) return rate;
  Fields inner(*value, fields.Pointer("rate"), error);
  rate.packets_per_second = inner.Number("packets_per_second", 0, kMostRate, 0);
  rate.bits_per_second = inner.Number("bits_per_second", 0, kMostRate, 0);
  rate.burst_ms = static_cast<uint32_t>(inner.Number("burst_ms", 0, kMostBurstMs, 0));
  inner.RefuseOthers();
  return rate;
}

namespace {

std::optional<GuardPlace> ReadGuardPlace(Fields& fields, std::optional<Error>& error) {
  const json* value = fields.Object("guard", optional);
  if (value == nullptr) return {};
  Fields inner(*value, fields.Pointer("guard"), error);
  const auto address = inner.Ip("address", required);
  const auto port = static_cast<uint16_t>(inner.Number("port", 1, kMostPort));
  inner.RefuseOthers();
  return GuardPlace{address.value_or(Address{}), port};
}

}  // namespace

Result<Interface> ParseInterface(const json& value, const std::string& where) {
  std::optional<Error> error;
  Fields fields(value, where, error);
  Interface i;
  i.name = fields.Name("name");
  i.type = fields.Choice("type", kInterfaceTypes);
  i.side = fields.Choice("side", kSides);
  i.prefixes = fields.Nets("prefixes", required);
  i.ports = ReadServices(fields, "ports", true, error);
  i.zone = fields.Choice("zone", kZones);
  i.protection = fields.Choice("protection", kProtections);
  i.clients = fields.Nets("clients", i.side == Side::remote ? required : optional);
  if (i.side == Side::local && !i.clients.empty()) {
    fields.Refuse("clients", "clients are named only where the servers stand behind the peer",
                  "no clients, or \"side\": \"remote\"",
                  fmt::format("{} prefixes", i.clients.size()));
  }
  i.guard = ReadGuardPlace(fields, error);
  fields.RefuseOthers();
  return Checked(std::move(i), error);
}

Result<Peer> ParsePeer(const json& value, const std::string& where) {
  constexpr size_t kLongestIdentity = 253;  // a DNS name
  constexpr size_t kLongestTenant = 63;
  std::optional<Error> error;
  Fields fields(value, where, error);
  Peer p;
  p.name = fields.Name("name");
  p.identity = fields.Text("identity", kLongestIdentity);
  p.authentication =
      fields.Choice("authentication", kAuthentications, std::optional(Authentication::certificate));
  if (const json* token = fields.Object("token", optional); token != nullptr) {
    p.token = ReadTokenClient(*token, fields.Pointer("token"), p.authentication, error);
  }
  p.role = fields.Name("role");
  p.tenant = fields.Text("tenant", kLongestTenant, optional);
  p.caller_id = ReadCallerId(fields);
  p.callbacks = ReadCallbacks(fields, error);
  p.endpoint = fields.Ip("endpoint", optional);
  p.prefixes = fields.Nets("prefixes", required);
  p.rate = ReadRate(fields, error);
  p.enabled = fields.Flag("enabled", true);
  fields.RefuseOthers();
  return Checked(std::move(p), error);
}

namespace {

// RFC 6749 3.3: printable ASCII but space, quote and backslash.
std::string ReadScope(Fields& fields) {
  constexpr size_t kLongestScope = 255;
  std::string scope = fields.Text("scope", kLongestScope, optional);
  const bool fits = std::ranges::all_of(
      scope, [](char c) { return c > ' ' && c <= '~' && c != '"' && c != '\\'; });
  if (!fits) {
    fields.Refuse("scope", "not one scope (RFC 6749 3.3)",
                  "printable ASCII without space, quote and backslash", "\"" + scope + "\"");
  }
  return scope;
}

}  // namespace

Result<Policy> ParsePolicy(const json& value, const std::string& where) {
  std::optional<Error> error;
  Fields fields(value, where, error);
  Policy p;
  p.name = fields.Name("name");
  p.role = fields.Name("role");
  p.interface = fields.Name("interface");
  ReadOperations(fields, p, error);
  p.callback_ports = ReadServices(fields, "callback_ports", false, error);
  p.registration_ports = ReadServices(fields, "registration_ports", false, error);
  p.scope = ReadScope(fields);
  p.grant_seconds =
      static_cast<uint32_t>(fields.Number("grant_seconds", kLeastGrant, kMostGrant, kGrantSeconds));
  p.second_place =
      fields.Choice("second_place", kSecondPlaces, std::optional(SecondPlace::replace));
  fields.RefuseOthers();
  return Checked(std::move(p), error);
}

Result<ApprovalRule> ParseApprovalRule(const json& value, const std::string& where) {
  std::optional<Error> error;
  Fields fields(value, where, error);
  ApprovalRule rule;
  rule.name = fields.Name("name");
  fields.Each("changes", required, [&](const json& element, const std::string& at) {
    const auto named = std::ranges::find_if(
        kApprovedChanges, [&](const auto& choice) { return element == choice.first; });
    if (named != kApprovedChanges.end()) {
      rule.changes.push_back(named->second);
    } else if (!error) {
      error =
          Error{ErrorKind::kInvalid, "not a kind of change", at,
                "one of interfaces, peers, policies, first-line, readmission", Describe(element)};
    }
  });
  rule.expires_seconds = static_cast<uint32_t>(
      fields.Number("expires_seconds", kLeastApproval, kMostApproval, kApprovalSeconds));
  fields.RefuseOthers();
  return Checked(std::move(rule), error);
}

bool Says(const json& document, const char* field) {
  return document.is_object() && document.contains(field);
}

Result<Document> ParseDocument(const json& value) {
  std::optional<Error> error;
  Fields fields(value, "", error);
  Document d;
  // An absent list is not an empty one: that would remove everything by oversight.
  const auto read = [&](const char* field, auto parse, auto& into,
                        Fields::Presence presence = required) {
    if (fields.Find(field, presence) == nullptr) return;
    fields.Each(field, optional, [&](const json& element, const std::string& where) {
      auto parsed = parse(element, where);
      if (parsed) {
        into.push_back(std::move(*parsed));
      } else {
        error = parsed.error();
      }
    });
  };
  read("interfaces", ParseInterface, d.interfaces);
  read("peers", ParsePeer, d.peers);
  read("policies", ParsePolicy, d.policies);
  read("approval", ParseApprovalRule, d.approval, optional);
  read("request_blocks", ParseRequestBlock, d.blocks, optional);
  if (const json* line = fields.Find("first_line", optional); line != nullptr && !line->is_null()) {
    auto parsed = ParseFirstLine(*line, fields.Pointer("first_line"));
    if (parsed) {
      d.first_line = std::move(*parsed);
    } else if (!error) {
      error = parsed.error();
    }
  }
  fields.RefuseOthers();
  return Checked(std::move(d), error);
}

json ToJson(const Rate& rate) {
  json out = json::object();
  if (rate.packets_per_second != 0) out["packets_per_second"] = rate.packets_per_second;
  if (rate.bits_per_second != 0) out["bits_per_second"] = rate.bits_per_second;
  // How much at once says nothing where everything may come.
  if (rate.burst_ms != 0 && !out.empty()) out["burst_ms"] = rate.burst_ms;
  return out;
}

json ToJson(const Interface& i) {
  json out = {{"name", i.name},
              {"type", TextOf(kInterfaceTypes, i.type)},
              {"side", TextOf(kSides, i.side)},
              {"prefixes", PrefixesJson(i.prefixes)},
              {"ports", ServicesJson(i.ports)},
              {"zone", TextOf(kZones, i.zone)},
              {"protection", TextOf(kProtections, i.protection)}};
  if (!i.clients.empty()) out["clients"] = PrefixesJson(i.clients);
  if (i.guard) out["guard"] = {{"address", i.guard->address.Text()}, {"port", i.guard->port}};
  return out;
}

json ToJson(const Peer& p) {
  json out = {{"name", p.name},
              {"identity", p.identity},
              {"role", p.role},
              {"prefixes", PrefixesJson(p.prefixes)},
              {"enabled", p.enabled}};
  if (p.authentication != Authentication::certificate) {
    out["authentication"] = TextOf(kAuthentications, p.authentication);
  }
  if (p.token) {
    out["token"] = {{"issuer", p.token->issuer}, {"client_id", p.token->client_id}};
    if (!p.token->key_thumbprint.empty()) {
      out["token"]["key_thumbprint"] = p.token->key_thumbprint;
    }
  }
  if (!p.tenant.empty()) out["tenant"] = p.tenant;
  if (!p.caller_id.empty()) out["caller_id"] = p.caller_id;
  if (!p.callbacks.empty()) out["callbacks"] = p.callbacks;
  if (p.endpoint) out["endpoint"] = p.endpoint->Text();
  if (json rate = ToJson(p.rate); !rate.empty()) out["rate"] = std::move(rate);
  return out;
}

json ToJson(const Policy& p) {
  json out = {{"name", p.name}, {"role", p.role}, {"interface", p.interface}};
  WriteOperations(p, out);
  if (!p.callback_ports.empty()) out["callback_ports"] = ServicesJson(p.callback_ports);
  if (!p.registration_ports.empty()) {
    out["registration_ports"] = ServicesJson(p.registration_ports);
  }
  if (!p.scope.empty()) out["scope"] = p.scope;
  if (p.grant_seconds != kGrantSeconds) out["grant_seconds"] = p.grant_seconds;
  if (p.second_place != SecondPlace::replace) {
    out["second_place"] = TextOf(kSecondPlaces, p.second_place);
  }
  return out;
}

json ToJson(const ApprovalRule& rule) {
  json changes = json::array();
  for (const auto change : rule.changes) changes.push_back(TextOf(kApprovedChanges, change));
  return {{"name", rule.name},
          {"changes", std::move(changes)},
          {"expires_seconds", rule.expires_seconds}};
}

json ToJson(const Document& d) {
  const auto all = [](const auto& resources) {
    json out = json::array();
    for (const auto& r : resources) out.push_back(ToJson(r));
    return out;
  };
  json out = {
      {"interfaces", all(d.interfaces)}, {"peers", all(d.peers)}, {"policies", all(d.policies)}};
  if (!d.approval.empty()) out["approval"] = all(d.approval);
  if (d.first_line) out["first_line"] = ToJson(*d.first_line);
  if (!d.blocks.empty()) out["request_blocks"] = all(d.blocks);
  return out;
}

json ToJson(const std::vector<Warning>& warnings) {
  json out = json::array();
  for (const auto& w : warnings) {
    out.push_back({{"kind", w.kind}, {"name", w.name}, {"text", w.text}});
  }
  return out;
}

}  // namespace portcullis::model
