// The policy document and its resources to and from JSON, as openapi.yaml describes them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "control/model/types.hpp"

namespace portcullis::model {

class Fields;

/// Errors carry JSON pointers relative to `value`, prefixed by `where`.
Result<Interface> ParseInterface(const nlohmann::json& value, const std::string& where = {});
Result<Peer> ParsePeer(const nlohmann::json& value, const std::string& where = {});
Result<Policy> ParsePolicy(const nlohmann::json& value, const std::string& where = {});
Result<ApprovalRule> ParseApprovalRule(const nlohmann::json& value, const std::string& where = {});
/// The approval rules may be absent: see SaysApproval().
Result<Document> ParseDocument(const nlohmann::json& value);
/// Without them a document leaves the rules in force as they are: an older tool that knows none
/// must not seem to remove them.
bool SaysApproval(const nlohmann::json& document);

nlohmann::json ToJson(const Interface& interface);
nlohmann::json ToJson(const Peer& peer);
nlohmann::json ToJson(const Policy& policy);
nlohmann::json ToJson(const ApprovalRule& rule);
nlohmann::json ToJson(const Document& document);
nlohmann::json ToJson(const Rate& rate);
nlohmann::json ToJson(const std::vector<Warning>& warnings);

/// The optional field "rate" of a peer or a security association.
Rate ReadRate(Fields& fields, std::optional<Error>& error);

}  // namespace portcullis::model
