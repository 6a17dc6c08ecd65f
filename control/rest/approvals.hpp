// Changes that wait for another person: asked for by one, made when another has agreed to exactly
// this one. They are in the store, so that they survive a restart, and everything that becomes of
// them is in the audit log.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "control/model/approval.hpp"
#include "control/model/fields.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

/// Puts down what `answer` holds, with `body` as it came: 202.
Response Hold(Context& context, const Request& request, std::string body, const Response& answer);

/// Forgets what nobody agreed to in time. To be called each second.
void ExpireApprovals(Gate& gate, AuditLog& audit, std::chrono::system_clock::time_point now);

/// Recorded and told as control's own doing, then forgotten. False: it could not be, and stays.
bool Drop(Gate& gate, AuditLog& audit, const model::PendingChange& change, const char* action,
          const std::string& why);

/// kNotFound: it was approved, rejected or has expired, or there never was one.
Result<model::PendingChange> FindChange(Context& context, const std::string& id);

/// Why this person may not approve that change, if so.
Result<void> MayApprove(const Context& context, const Operator& who,
                        const model::PendingChange& change, const std::string& digest);

/// The text of a body that has no other field. The error names the field.
Result<std::string> OnlyText(const nlohmann::json& body, const char* field, size_t longest,
                             model::Fields::Presence presence);

/// The request as it came, to be made for whoever asked.
Request RequestOf(const model::PendingChange& change);

/// Without its body.
nlohmann::json ToJson(const model::PendingChange& change, uint64_t generation);
/// Tells the record of `response` which change it was about.
void Note(const model::PendingChange& change, Response& response);

}  // namespace portcullis::rest
