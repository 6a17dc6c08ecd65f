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
Result<FirstLine> ParseFirstLine(const nlohmann::json& value, const std::string& where = {});
Result<RequestBlock> ParseRequestBlock(const nlohmann::json& value, const std::string& where = {});
/// `approval`, `first_line` and `request_blocks` may be absent: see Says(). A first line that is
/// null is none.
Result<Document> ParseDocument(const nlohmann::json& value);
/// Without these three a document leaves what is in force as it is: an older tool that knows
/// nothing of them must not seem to remove them.
bool Says(const nlohmann::json& document, const char* field);

nlohmann::json ToJson(const Interface& interface);
nlohmann::json ToJson(const Peer& peer);
nlohmann::json ToJson(const Policy& policy);
nlohmann::json ToJson(const ApprovalRule& rule);
nlohmann::json ToJson(const FirstLine& line);
nlohmann::json ToJson(const RequestBlock& block);
nlohmann::json ToJson(const Document& document);
nlohmann::json ToJson(const Rate& rate);
nlohmann::json ToJson(const std::vector<Warning>& warnings);

/// `needed`: at least one.
std::vector<ServicePorts> ReadServices(Fields& fields, const char* field, bool needed,
                                       std::optional<Error>& error);
nlohmann::json ServicesJson(const std::vector<ServicePorts>& services);
nlohmann::json PrefixesJson(const std::vector<Prefix>& prefixes);

/// The optional field "rate" of a peer or a security association.
Rate ReadRate(Fields& fields, std::optional<Error>& error);

}  // namespace portcullis::model
