#include "control/model/requests.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "control/model/callback.hpp"
#include "control/model/fields.hpp"
#include "control/model/json.hpp"

namespace portcullis::model {

using nlohmann::json;
using enum Fields::Presence;

namespace {

constexpr size_t kLongestOperation = 63;
constexpr uint64_t kMostCount = 100'000;  // each use is remembered for as long as it counts
constexpr uint64_t kMostSeconds = 31UL * 86400;
constexpr size_t kMostOperations = 256;  // of a policy; what a peer may do is one message
constexpr size_t kMostBlocks = 100;      // as are all that concern it
constexpr uint64_t kLeastApproval = 60;  // seconds
constexpr uint64_t kMostApproval = 30UL * 86400;
constexpr size_t kLongestPath = 256;
constexpr size_t kLongestMethod = 16;
constexpr size_t kLongestCaller = 255;
constexpr unsigned kWholeAddress = 128;  // of either family, in the mapped space

constexpr const char* kOperationText = "[a-z0-9][a-z0-9:-]*, at most 63 characters";

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// RFC 3986 3.3, pchar without what is percent-encoded.
bool IsInSegment(char c) {
  return IsAlnum(c) || std::string_view("-._~!$&'()*+,;=:@").find(c) != std::string_view::npos;
}

std::string ReadOperation(const json& value, const std::string& where,
                          std::optional<Error>& error) {
  if (value.is_string() && IsOperation(value.get_ref<const std::string&>())) {
    return value.get<std::string>();
  }
  if (!error) {
    error = Error{ErrorKind::kInvalid, "not an operation's name", where, kOperationText,
                  Describe(value)};
  }
  return {};
}

Quota ReadQuota(const json& value, const std::string& where, std::optional<Error>& error) {
  Fields fields(value, where, error);
  Quota quota;
  if (const json* operation = fields.Find("operation", required); operation != nullptr) {
    quota.operation = ReadOperation(*operation, fields.Pointer("operation"), error);
  }
  quota.count = static_cast<uint32_t>(fields.Number("count", 1, kMostCount));
  quota.seconds = static_cast<uint32_t>(fields.Number("seconds", 1, kMostSeconds));
  fields.RefuseOthers();
  return quota;
}

void ReadApproval(Fields& fields, Policy& policy, std::optional<Error>& error) {
  fields.Each("approval", optional, [&](const json& element, const std::string& where) {
    std::string operation = ReadOperation(element, where, error);
    const bool given = std::ranges::find(policy.operations, operation) != policy.operations.end();
    if (!error && !given) {
      error = Error{ErrorKind::kInvalid, "the approval of what the policy does not give", where,
                    "one of the policy's operations", Describe(element)};
    }
    if (!error && std::ranges::find(policy.approval, operation) != policy.approval.end()) {
      error = Error{ErrorKind::kConflict, "an operation is named twice", where, "each once",
                    Describe(element)};
    }
    policy.approval.push_back(std::move(operation));
  });
  std::ranges::sort(policy.approval);
  policy.approval_seconds = static_cast<uint32_t>(
      fields.Number("approval_seconds", kLeastApproval, kMostApproval, kApprovalSeconds));
  if (policy.approval.empty() && policy.approval_seconds != kApprovalSeconds) {
    fields.Refuse("approval_seconds", "nothing waits for anybody's approval", "with approval only",
                  std::to_string(policy.approval_seconds));
  }
}

}  // namespace

Destination DestinationOf(const Interface& interface) {
  if (interface.protection != Protection::tls_esp) return {interface.prefixes, interface.ports};
  if (!interface.guard) return {};  // no valid document has one without
  const auto& [address, port] = *interface.guard;
  return {{Prefix(address, kWholeAddress)}, {{Protocol::tcp, port, port}}};
}

bool IsOperation(std::string_view text) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= kLongestOperation && alnum(text[0]) &&
         std::ranges::all_of(text, [&](char c) { return alnum(c) || c == ':' || c == '-'; });
}

std::string_view CallerIdOf(const Peer& peer) {
  if (!peer.caller_id.empty() || !peer.token) return peer.caller_id;
  return peer.token->client_id;
}

bool Matches(std::string_view blocked_method, std::string_view blocked_path,
             std::string_view method, std::string_view path) {
  if (!blocked_method.empty() && blocked_method != method) return false;
  if (!blocked_path.ends_with('*')) return path == blocked_path;
  blocked_path.remove_suffix(1);
  return path.starts_with(blocked_path);
}

void ReadOperations(Fields& fields, Policy& policy, std::optional<Error>& error) {
  fields.Each("operations", optional, [&](const json& element, const std::string& where) {
    std::string operation = ReadOperation(element, where, error);
    if (!error && std::ranges::find(policy.operations, operation) != policy.operations.end()) {
      error = Error{ErrorKind::kConflict, "an operation is named twice", where, "each once",
                    Describe(element)};
    }
    policy.operations.push_back(std::move(operation));
  });
  if (policy.operations.size() > kMostOperations) {
    fields.Refuse("operations", "too many operations", fmt::format("at most {}", kMostOperations),
                  std::to_string(policy.operations.size()));
  }
  fields.Each("quotas", optional, [&](const json& element, const std::string& where) {
    Quota quota = ReadQuota(element, where, error);
    const auto refuse = [&](ErrorKind kind, const char* message, const char* expected) {
      if (error) return;
      error = Error{kind, message, where + "/operation", expected, Describe(json(quota.operation))};
    };
    if (std::ranges::find(policy.operations, quota.operation) == policy.operations.end()) {
      refuse(ErrorKind::kInvalid, "the quota of what the policy does not give",
             "one of the policy's operations");
    }
    if (std::ranges::any_of(policy.quotas, [&](const Quota& other) {
          return other.operation == quota.operation && other.seconds == quota.seconds;
        })) {
      refuse(ErrorKind::kConflict, "two quotas of one operation for the same time", "one of them");
    }
    policy.quotas.push_back(std::move(quota));
  });
  ReadApproval(fields, policy, error);
  policy.one_time = fields.Flag("one_time", false);
  if (policy.one_time && policy.operations.empty()) {
    fields.Refuse("one_time", "nobody sees the single requests of a policy without operations",
                  "operations, or no one_time", "true");
  }
  const auto by_what = [](const Quota& a, const Quota& b) {
    return std::tie(a.operation, a.seconds) < std::tie(b.operation, b.seconds);
  };
  std::ranges::sort(policy.operations);  // sets, shown and compared as such
  std::ranges::sort(policy.quotas, by_what);
}

void WriteOperations(const Policy& policy, json& out) {
  if (!policy.operations.empty()) out["operations"] = policy.operations;
  for (const Quota& q : policy.quotas) {
    out["quotas"].push_back(
        {{"operation", q.operation}, {"count", q.count}, {"seconds", q.seconds}});
  }
  if (!policy.approval.empty()) out["approval"] = policy.approval;
  if (policy.approval_seconds != kApprovalSeconds) {
    out["approval_seconds"] = policy.approval_seconds;
  }
  if (policy.one_time) out["one_time"] = true;
}

std::string ReadCallerId(Fields& fields) {
  std::string caller = fields.Text("caller_id", kLongestCaller, optional);
  if (!std::ranges::all_of(caller, IsInSegment)) {
    fields.Refuse("caller_id", "not one segment of a path as it is written",
                  "letters, digits and -._~!$&'()*+,;=:@", Describe(json(caller)));
  }
  return caller;
}

Result<RequestBlock> ParseRequestBlock(const json& value, const std::string& where) {
  std::optional<Error> error;
  Fields fields(value, where, error);
  RequestBlock block;
  block.name = fields.Name("name");
  block.interface = fields.Name("interface");
  block.peer = fields.Name("peer", optional);
  block.method = fields.Text("method", kLongestMethod, optional);
  if (!std::ranges::all_of(block.method, [](char c) { return c >= 'A' && c <= 'Z'; })) {
    fields.Refuse("method", "not a method (RFC 9110 9.1)", "capital letters, such as PATCH",
                  Describe(json(block.method)));
  }
  block.path = fields.Text("path", kLongestPath);
  const std::string_view path = block.path;
  const bool fits =
      path.starts_with('/') &&
      path.substr(0, path.size() - 1).find('*') == std::string_view::npos &&
      std::ranges::all_of(path, [](char c) { return IsInSegment(c) || c == '/' || c == '%'; });
  if (!fits) {
    fields.Refuse("path", "not a path as it stands in requests",
                  "a path that begins with '/', without query, with '*' at its end at most",
                  Describe(json(block.path)));
  }
  fields.RefuseOthers();
  if (error) return tl::unexpected(*error);
  return block;
}

json ToJson(const RequestBlock& block) {
  json out = {{"name", block.name}, {"interface", block.interface}, {"path", block.path}};
  if (!block.peer.empty()) out["peer"] = block.peer;
  if (!block.method.empty()) out["method"] = block.method;
  return out;
}

// ---- rules

namespace {

const Interface* Find(const Document& d, const std::string& name) {
  const auto at = std::ranges::find(d.interfaces, name, &Interface::name);
  return at == d.interfaces.end() ? nullptr : &*at;
}

std::string ProtectionOf(const Interface& interface) {
  return std::string(TextOf(kProtections, interface.protection));
}

// Who stands for another tenant's caller in a path would have what is that one's.
Result<void> CheckCallers(const Document& d) {
  std::multimap<std::string_view, size_t> callers;
  for (size_t n = 0; n < d.peers.size(); ++n) {
    const std::string_view own = CallerIdOf(d.peers[n]);
    if (!own.empty()) callers.emplace(own, n);
  }
  for (size_t n = 0; n < d.peers.size(); ++n) {
    const Peer& p = d.peers[n];
    if (p.caller_id.empty()) continue;
    const auto [first, last] = callers.equal_range(p.caller_id);
    for (auto at = first; at != last; ++at) {
      const Peer& other = d.peers[at->second];
      if (at->second == n || (other.tenant == p.tenant && !p.tenant.empty())) continue;
      return tl::unexpected(
          Error{ErrorKind::kConflict,
                fmt::format("peers '{}' and '{}' call themselves the same in paths, and are not of "
                            "one tenant",
                            p.name, other.name),
                fmt::format("/peers/{}/caller_id", n), "a name of its own, or one tenant",
                "\"" + p.caller_id + "\""});
    }
  }
  return {};
}

Result<void> CheckOperations(const Document& d, std::vector<Warning>& warnings) {
  for (size_t n = 0; n < d.policies.size(); ++n) {
    const Policy& p = d.policies[n];
    const Interface* interface = Find(d, p.interface);
    if (interface == nullptr) continue;  // refused elsewhere
    if (!p.operations.empty() && !CarriesRequests(*interface)) {
      return Invalid(fmt::format("/policies/{}/operations", n),
                     fmt::format("nobody judges single requests on interface '{}': only the guard "
                                 "sees them",
                                 interface->name),
                     "an interface whose protection is tls or tls+esp, or no operations",
                     "protection " + ProtectionOf(*interface));
    }
    if (!p.operations.empty() && p.scope.empty()) {
      warnings.push_back({"policy", p.name, "names no scope: no token opens its operations"});
    }
  }
  return {};
}

Result<void> CheckBlocks(const Document& d) {
  if (d.blocks.size() > kMostBlocks) {
    return Invalid("/request_blocks", "too many blocks", fmt::format("at most {}", kMostBlocks),
                   std::to_string(d.blocks.size()));
  }
  for (size_t n = 0; n < d.blocks.size(); ++n) {
    const RequestBlock& block = d.blocks[n];
    const auto at = [&](const char* field) {
      return fmt::format("/request_blocks/{}/{}", n, field);
    };
    const Interface* interface = Find(d, block.interface);
    if (interface == nullptr) {
      return Invalid(at("interface"),
                     fmt::format("block '{}' names an interface that does not exist", block.name),
                     "the name of an interface", "\"" + block.interface + "\"");
    }
    if (!CarriesRequests(*interface)) {
      return Invalid(at("interface"),
                     fmt::format("block '{}' would block nothing: nobody judges single requests on "
                                 "interface '{}'",
                                 block.name, block.interface),
                     "an interface whose protection is tls or tls+esp",
                     "protection " + ProtectionOf(*interface));
    }
    if (!block.peer.empty() &&
        std::ranges::find(d.peers, block.peer, &Peer::name) == d.peers.end()) {
      return Invalid(at("peer"),
                     fmt::format("block '{}' names a peer that does not exist", block.name),
                     "the name of a peer, or none: everybody's requests", "\"" + block.peer + "\"");
    }
  }
  return {};
}

}  // namespace

Result<void> CheckRequests(const Document& d, std::vector<Warning>& warnings) {
  if (auto checked = CheckCallers(d); !checked) return checked;
  if (auto checked = CheckCallbacks(d); !checked) return checked;
  if (auto checked = CheckOperations(d, warnings); !checked) return checked;
  return CheckBlocks(d);
}

}  // namespace portcullis::model
