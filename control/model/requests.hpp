// What policy says of single requests (design: requests through the guard): operations and quotas
// of policies, the name by which a peer calls itself in paths, and what is blocked for now.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "control/model/types.hpp"

namespace portcullis::model {

class Fields;

/// Its requests come through the guard, which judges each.
constexpr bool CarriesRequests(const Interface& interface) {
  return interface.protection == Protection::tls || interface.protection == Protection::tls_esp;
}

/// What clients connect to: the servers, or with tls+esp the guard in their place.
struct Destination {
  std::vector<Prefix> prefixes;
  std::vector<ServicePorts> ports;
};
Destination DestinationOf(const Interface& interface);

/// [a-z0-9][a-z0-9:-]{0,62}
bool IsOperation(std::string_view text);
/// What must stand in the peer's paths; empty: nothing would do.
std::string_view CallerIdOf(const Peer& peer);
/// Does a block of this method (empty: any) and path (`*` at its end: whatever follows) close the
/// way to that? `path` without the query.
bool Matches(std::string_view blocked_method, std::string_view blocked_path,
             std::string_view method, std::string_view path);

/// The optional fields "operations", "quotas", "approval", "approval_seconds" and "one_time"
/// of a policy.
void ReadOperations(Fields& fields, Policy& policy, std::optional<Error>& error);
/// Adds them to the policy's JSON, where it has any.
void WriteOperations(const Policy& policy, nlohmann::json& out);
/// The optional field "caller_id" of a peer.
std::string ReadCallerId(Fields& fields);

/// The rule that the document breaks, with a JSON pointer into it; or what is added to `warnings`.
Result<void> CheckRequests(const Document& document, std::vector<Warning>& warnings);

}  // namespace portcullis::model
