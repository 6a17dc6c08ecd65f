// Every route of the REST interface, in one list. openapi.yaml describes exactly these; a test
// compares the two.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "control/admission/guard_state.hpp"
#include "control/admission/journal.hpp"
#include "control/admission/operations.hpp"
#include "control/admission/sessions.hpp"
#include "control/core/gate.hpp"
#include "control/link/drops.hpp"
#include "control/rest/http.hpp"

namespace portcullis {
class AuditLog;
class Syslog;
}  // namespace portcullis

namespace portcullis::rest {

class Audited;
class Operators;

/// What handlers work on.
struct Context {
  Gate& gate;
  AuditLog& audit;
  admission::Sessions& sessions;
  const Operators& operators;
  admission::Journal& journal;
  const Alarms& alarms;
  Drops& drops;
  const admission::GuardState* guard = nullptr;       // null: none is configured
  const Syslog* syslog = nullptr;                     // null: none is configured
  const admission::Operations* operations = nullptr;  // null: no guard is configured
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  std::set<uint64_t> being_made{};  // approved changes: too late to reject them
};

using Answer = boost::asio::awaitable<Response>;
using Handler = Answer (*)(Context&, Request&);

struct Route {
  const char* method;
  const char* path;  // a {segment} stands for a name
  Role role;         // the least that is needed
  Handler handler;
};

std::span<const Route> Routes();

/// Finds the route and calls its handler, or says why not: 404, 405 with Allow, 403 by role, 400
/// for a query parameter, 415 and 400 for a body. A change is begun in the audit log first; 503
/// when that cannot be written. One that is held is put down to wait for another person: 202.
Answer Dispatch(Context& context, Request& request, Audited& audited);

// handlers_policy.cpp
Answer ListInterfaces(Context&, Request&);
Answer CreateInterface(Context&, Request&);
Answer GetInterface(Context&, Request&);
Answer PutInterface(Context&, Request&);
Answer DeleteInterface(Context&, Request&);
Answer ListPeers(Context&, Request&);
Answer CreatePeer(Context&, Request&);
Answer GetPeer(Context&, Request&);
Answer PutPeer(Context&, Request&);
Answer DeletePeer(Context&, Request&);
Answer ListPolicies(Context&, Request&);
Answer CreatePolicy(Context&, Request&);
Answer GetPolicy(Context&, Request&);
Answer PutPolicy(Context&, Request&);
Answer DeletePolicy(Context&, Request&);
Answer ListRequestBlocks(Context&, Request&);
Answer CreateRequestBlock(Context&, Request&);
Answer GetRequestBlock(Context&, Request&);
Answer PutRequestBlock(Context&, Request&);
Answer DeleteRequestBlock(Context&, Request&);
Answer GetFirstLine(Context&, Request&);
Answer PutFirstLine(Context&, Request&);
Answer DeleteFirstLine(Context&, Request&);
Answer GetPolicyDocument(Context&, Request&);
Answer PutPolicyDocument(Context&, Request&);
// handlers_registration.cpp
Answer ListRegistrations(Context&, Request&);
Answer EndRegistration(Context&, Request&);
Answer RegisterPeer(Context&, Request&);
// handlers_revocations.cpp
Answer RevokePeer(Context&, Request&);
Answer ListRevocations(Context&, Request&);
Answer Revoke(Context&, Request&);
// handlers_sas.cpp
Answer ListSas(Context&, Request&);
Answer CreateSa(Context&, Request&);
Answer GetSa(Context&, Request&);
Answer ReplaceSa(Context&, Request&);
Answer DeleteSa(Context&, Request&);
// handlers_sessions.cpp
Answer ListSessions(Context&, Request&);
Answer EndSession(Context&, Request&);
Answer ListDecisions(Context&, Request&);
Answer GetDecision(Context&, Request&);
// handlers_approvals.cpp
Answer ListApprovals(Context&, Request&);
Answer GetApproval(Context&, Request&);
Answer ApproveChange(Context&, Request&);
Answer RejectChange(Context&, Request&);
// handlers_held.cpp
Answer ListHeldRequests(Context&, Request&);
Answer GetHeldRequest(Context&, Request&);
Answer ApproveHeldRequest(Context&, Request&);
Answer DenyHeldRequest(Context&, Request&);
// handlers_keys.cpp
Answer ListKeys(Context&, Request&);
Answer ForgetKey(Context&, Request&);
// handlers_owners.cpp
Answer ListOwners(Context&, Request&);
Answer ForgetOwner(Context&, Request&);
// handlers_audit.cpp
Answer ListAudit(Context&, Request&);
Answer GetAuditCheckpoint(Context&, Request&);
// handlers_observe.cpp
Answer GetStatus(Context&, Request&);
Answer GetCounters(Context&, Request&);
Answer GetPipeline(Context&, Request&);
Answer StreamEvents(Context&, Request&);
Answer StreamDrops(Context&, Request&);
Answer ConfirmTime(Context&, Request&);
Answer GetHealth(Context&, Request&);
Answer GetReadiness(Context&, Request&);
Answer GetOpenapi(Context&, Request&);
// metrics.cpp
Answer GetMetrics(Context&, Request&);

// ---- for handlers

/// "true" or "false"; absent: `fallback`. The value was checked by Dispatch.
bool Flag(const Request& request, const char* parameter, bool fallback);
/// A parameter from 1 to `most`; absent: `fallback`. The error names the parameter.
Result<uint64_t> Number(const Request& request, const char* parameter, uint64_t fallback,
                        uint64_t most);
/// A text; absent: empty. The error names the parameter.
Result<std::string> Text(const Request& request, const char* parameter);
Gate::Wish WishOf(const Request& request);
/// The answer to a change: its difference as `would` or `changes`.
nlohmann::json ToJson(const Gate::Change& change, bool dry_run);
/// That, with this status; or that it is held.
Response AnswerTo(const Gate::Change& change, bool dry_run, unsigned status = 200);

}  // namespace portcullis::rest
