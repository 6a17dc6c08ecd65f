// Answers of control as text for people. Each function takes the JSON that
// control/rest/openapi.yaml describes and tolerates what it does not know: a newer control must not
// break an older CLI.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "dataplane/packet/verdict.hpp"

namespace portcullis::cli {

std::string RenderStatus(const nlohmann::json& status);
std::string RenderInterfaces(const nlohmann::json& items);
std::string RenderPeers(const nlohmann::json& items);
std::string RenderPolicies(const nlohmann::json& items);
std::string RenderRequestBlocks(const nlohmann::json& items);
std::string RenderOwners(const nlohmann::json& items);
std::string RenderRegistrations(const nlohmann::json& items);
std::string RenderSas(const nlohmann::json& items);
std::string RenderRevocations(const nlohmann::json& items);

std::string RenderSessions(const nlohmann::json& items);
/// Decisions about peers, in the order in which they come.
std::string RenderDecisions(const nlohmann::json& items);
/// What is known of one reference or session, and how it stands.
std::string RenderWhy(const nlohmann::json& answer);

/// A verdict of the first line as XDP counts it, and what it means there.
std::string XdpName(Verdict verdict);
std::string XdpText(Verdict verdict);

/// A CountersReport. `before` is an earlier one, `seconds` ago: adds rates. Verdicts that are zero
/// are left out unless `all`.
std::string RenderCounters(const nlohmann::json& report, bool all,
                           const nlohmann::json* before = nullptr, double seconds = 0);

/// A Difference, one line a field; "" when there is none.
std::string RenderDifference(const nlohmann::json& difference);
bool IsDifference(const nlohmann::json& difference);
std::string RenderWarnings(const nlohmann::json& warnings);

/// PendingChanges, as a table.
std::string RenderApprovals(const nlohmann::json& items);
std::string RenderHeldRequests(const nlohmann::json& items);
/// An answer that says that a change was not made but waits for another person.
bool IsHeld(const nlohmann::json& answer);
/// After a dry run: who would have to agree; "" when nobody.
std::string RenderNeed(const nlohmann::json& answer);
std::string RenderHeld(const nlohmann::json& answer);

/// One line.
std::string RenderEvent(const nlohmann::json& event);
/// One line: a packet that the first line dropped.
std::string RenderDrop(const nlohmann::json& drop);
/// What the first line of each port made of its packets, from a Status.
std::string RenderFirstLineCounters(const nlohmann::json& status);

/// {"inbound": [stages], "outbound": [stages]} as boxes in a row, wrapped; or for Graphviz.
std::string RenderPipeline(const nlohmann::json& pipeline);
std::string RenderPipelineDot(const nlohmann::json& pipeline);

/// "10.2.0.10/32 tcp 8080" and the like.
std::string SelectorText(const nlohmann::json& selector);
std::string RateText(const nlohmann::json& rate);

}  // namespace portcullis::cli
