#include "control/rest/routes.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "control/rest/approvals.hpp"
#include "control/rest/audited.hpp"
#include "control/rest/operators.hpp"

namespace portcullis::rest {

namespace {

constexpr Role kViewer = Role::viewer;
constexpr Role kOperator = Role::operator_;
constexpr Role kServer = Role::server;

constexpr auto kRoutes = std::to_array<Route>({
    {"GET", "/v1/interfaces", kViewer, ListInterfaces},
    {"POST", "/v1/interfaces", kOperator, CreateInterface},
    {"GET", "/v1/interfaces/{name}", kViewer, GetInterface},
    {"PUT", "/v1/interfaces/{name}", kOperator, PutInterface},
    {"DELETE", "/v1/interfaces/{name}", kOperator, DeleteInterface},

    {"GET", "/v1/peers", kViewer, ListPeers},
    {"POST", "/v1/peers", kOperator, CreatePeer},
    {"GET", "/v1/peers/{name}", kViewer, GetPeer},
    {"PUT", "/v1/peers/{name}", kOperator, PutPeer},
    {"DELETE", "/v1/peers/{name}", kOperator, DeletePeer},
    {"POST", "/v1/peers/{name}/revoke", kOperator, RevokePeer},
    {"POST", "/v1/peers/{name}/registration", kServer, RegisterPeer},

    {"GET", "/v1/revocations", kViewer, ListRevocations},
    {"POST", "/v1/revocations", kOperator, Revoke},

    {"GET", "/v1/policies", kViewer, ListPolicies},
    {"POST", "/v1/policies", kOperator, CreatePolicy},
    {"GET", "/v1/policies/{name}", kViewer, GetPolicy},
    {"PUT", "/v1/policies/{name}", kOperator, PutPolicy},
    {"DELETE", "/v1/policies/{name}", kOperator, DeletePolicy},

    {"GET", "/v1/request-blocks", kViewer, ListRequestBlocks},
    {"POST", "/v1/request-blocks", kOperator, CreateRequestBlock},
    {"GET", "/v1/request-blocks/{name}", kViewer, GetRequestBlock},
    {"PUT", "/v1/request-blocks/{name}", kOperator, PutRequestBlock},
    {"DELETE", "/v1/request-blocks/{name}", kOperator, DeleteRequestBlock},

    {"GET", "/v1/first-line", kViewer, GetFirstLine},
    {"PUT", "/v1/first-line", kOperator, PutFirstLine},
    {"DELETE", "/v1/first-line", kOperator, DeleteFirstLine},

    {"GET", "/v1/policy", kViewer, GetPolicyDocument},
    {"PUT", "/v1/policy", kOperator, PutPolicyDocument},

    {"GET", "/v1/approvals", kViewer, ListApprovals},
    {"GET", "/v1/approvals/{id}", kViewer, GetApproval},
    {"POST", "/v1/approvals/{id}/approve", kOperator, ApproveChange},
    {"POST", "/v1/approvals/{id}/reject", kOperator, RejectChange},

    {"GET", "/v1/held-requests", kViewer, ListHeldRequests},
    {"GET", "/v1/held-requests/{id}", kOperator, GetHeldRequest},
    {"POST", "/v1/held-requests/{id}/approve", kOperator, ApproveHeldRequest},
    {"POST", "/v1/held-requests/{id}/deny", kOperator, DenyHeldRequest},

    {"GET", "/v1/sas", kViewer, ListSas},
    {"POST", "/v1/sas", kOperator, CreateSa},
    {"GET", "/v1/sas/{id}", kViewer, GetSa},
    {"PUT", "/v1/sas/{id}", kOperator, ReplaceSa},
    {"DELETE", "/v1/sas/{id}", kOperator, DeleteSa},

    {"GET", "/v1/keys", kViewer, ListKeys},
    {"DELETE", "/v1/keys/{id}", kOperator, ForgetKey},

    {"GET", "/v1/registrations", kViewer, ListRegistrations},
    {"DELETE", "/v1/registrations/{id}", kOperator, EndRegistration},
    {"GET", "/v1/owners", kViewer, ListOwners},
    {"DELETE", "/v1/owners/{id}", kOperator, ForgetOwner},

    {"GET", "/v1/sessions", kViewer, ListSessions},
    {"DELETE", "/v1/sessions/{id}", kOperator, EndSession},
    {"GET", "/v1/decisions", kViewer, ListDecisions},
    {"GET", "/v1/decisions/{id}", kViewer, GetDecision},

    {"GET", "/v1/audit", kOperator, ListAudit},
    {"GET", "/v1/audit/checkpoint", kOperator, GetAuditCheckpoint},

    {"GET", "/v1/status", kViewer, GetStatus},
    {"GET", "/v1/counters", kViewer, GetCounters},
    {"GET", "/v1/pipeline", kViewer, GetPipeline},
    {"GET", "/v1/events", kViewer, StreamEvents},
    {"GET", "/v1/drops", kViewer, StreamDrops},
    {"POST", "/v1/time/confirm", kOperator, ConfirmTime},
    {"GET", "/v1/openapi.yaml", kViewer, GetOpenapi},

    {"GET", "/metrics", kViewer, GetMetrics},
    {"GET", "/healthz", kViewer, GetHealth},
    {"GET", "/readyz", kViewer, GetReadiness},
});

// Compares segment by segment; what stands for {…} is in `name`.
bool Matches(std::string_view pattern, std::string_view path, std::string& name) {
  name.clear();
  while (!pattern.empty() && !path.empty()) {
    const auto wanted = pattern.substr(0, pattern.find('/', 1));
    const auto got = path.substr(0, path.find('/', 1));
    pattern.remove_prefix(wanted.size());
    path.remove_prefix(got.size());
    if (wanted.starts_with("/{")) {
      if (got.size() < 2) return false;
      name = got.substr(1);
    } else if (wanted != got) {
      return false;
    }
  }
  return pattern.empty() && path.empty();
}

bool Changes(const Route& route) {
  return std::string_view(route.method) != "GET";
}

// Which query parameters a route takes is decided by what it is.
bool Takes(const Route& route, const std::string& parameter) {
  const std::string_view path = route.path;
  if (path.starts_with("/v1/approvals") || path.starts_with("/v1/held-requests") ||
      path.ends_with("/registration")) {
    return false;
  }
  if (Changes(route)) return parameter == "dryRun";
  if (path == "/v1/audit") return parameter == "from" || parameter == "count";
  if (path == "/v1/sas" || path == "/v1/keys") return parameter == "after" || parameter == "limit";
  if (path == "/v1/owners") {
    return parameter == "after" || parameter == "limit" || parameter == "interface" ||
           parameter == "tenant";
  }
  if (path == "/v1/counters") return parameter == "by";
  if (path == "/v1/events") return parameter == "follow";
  if (path == "/v1/drops") return parameter == "oneIn";
  if (path == "/v1/decisions") {
    return parameter == "limit" || parameter == "peer" || parameter == "reason";
  }
  return false;
}

std::optional<Response> CheckQuery(const Route& route, const Request& request) {
  for (const auto& [parameter, value] : request.query) {
    Error error{ErrorKind::kInvalid, "", parameter, "", "\"" + value.substr(0, 63) + "\""};
    if (!Takes(route, parameter)) {
      error.message = "unknown query parameter";
      error.expected = "only what openapi.yaml lists";
      return Problem(kMalformed, error, request.path);
    }
    if ((parameter == "dryRun" || parameter == "follow") && value != "true" && value != "false") {
      error.message = "not true or false";
      error.expected = "true or false";
      return Problem(kMalformed, error, request.path);
    }
  }
  return {};
}

bool IsJson(std::string content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  std::transform(content_type.begin(), content_type.end(), content_type.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  while (!content_type.empty() && content_type.back() == ' ') content_type.pop_back();
  return content_type == "application/json";
}

}  // namespace

std::span<const Route> Routes() {
  return kRoutes;
}

Answer Dispatch(Context& context, Request& request, Audited& audited) {
  std::string allow;
  const Route* found = nullptr;
  for (const Route& route : kRoutes) {
    std::string name;
    if (!Matches(route.path, request.path, name)) continue;
    allow += (allow.empty() ? "" : ", ") + std::string(route.method);
    if (request.method == route.method) {
      found = &route;
      request.name = name;
    }
  }
  if (allow.empty()) {
    co_return Problem(
        kNotFound,
        {ErrorKind::kNotFound, "there is no such path", "", "a path of /v1/openapi.yaml", ""},
        request.path);
  }
  if (found == nullptr) {
    Response response = Problem(kMethodNotAllowed,
                                {ErrorKind::kInvalid, "this path does not have the method", "",
                                 allow, request.method.substr(0, 16)},
                                request.path);
    response.headers.emplace_back("Allow", allow);
    co_return response;
  }
  if (!Admits(found->role, request.who.role)) {
    Response response =
        Problem(kForbidden,
                {ErrorKind::kForbidden, fmt::format("'{}' may not do this", request.who.name), "",
                 fmt::format("role {}", RoleText(found->role)),
                 fmt::format("role {}", RoleText(request.who.role))},
                request.path);
    if (!request.who.challenge.empty()) {
      response.headers.emplace_back("WWW-Authenticate", request.who.challenge);
    }
    co_return response;
  }
  if (auto wrong = CheckQuery(*found, request)) co_return std::move(*wrong);
  const bool has_body = request.method == "POST" || request.method == "PUT";
  if (has_body && !IsJson(request.content_type)) {
    co_return Problem(
        kMediaType,
        {ErrorKind::kInvalid, "the body must be JSON", "Content-Type", "application/json",
         request.content_type.empty() ? "none" : request.content_type.substr(0, 63)},
        request.path);
  }
  if (Changes(*found) && !Flag(request, "dryRun", false)) {
    if (const auto begun = audited.Begin(); !begun) {
      context.gate.events().Tell("audit_failed", begun.error().Text(), request.who.name);
      co_return Problem(begun.error(), request.path);
    }
  }
  // What may have to wait is kept as it came; a body with a key never waits.
  const bool keys = std::string_view(found->path).starts_with("/v1/sas");
  std::string body = keys ? std::string() : request.body;
  Response response = co_await found->handler(context, request);
  if (response.held) co_return Hold(context, request, std::move(body), response);
  co_return response;
}

bool Flag(const Request& request, const char* parameter, bool fallback) {
  const auto found = request.query.find(parameter);
  return found == request.query.end() ? fallback : found->second == "true";
}

Result<uint64_t> Number(const Request& request, const char* parameter, uint64_t fallback,
                        uint64_t most) {
  const auto given = request.query.find(parameter);
  if (given == request.query.end()) return fallback;
  const std::string& text = given->second;
  uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size() || number < 1 || number > most) {
    return Invalid(parameter, "not an admitted value", fmt::format("a number from 1 to {}", most),
                   "\"" + text.substr(0, 63) + "\"");
  }
  return number;
}

Result<std::string> Text(const Request& request, const char* parameter) {
  const auto given = request.query.find(parameter);
  if (given == request.query.end()) return std::string();
  if (!model::IsName(given->second)) {
    return Invalid(parameter, "not an admitted value", "a name",
                   "\"" + given->second.substr(0, 63) + "\"");
  }
  return given->second;
}

Gate::Wish WishOf(const Request& request) {
  Gate::Wish wish{request.who.name, Flag(request, "dryRun", false)};
  if (request.approved) wish.approved_on = request.approved->base_generation;
  return wish;
}

nlohmann::json ToJson(const Gate::Change& change, bool dry_run) {
  nlohmann::json out = {{"warnings", model::ToJson(change.warnings)}};
  out[dry_run ? "would" : "changes"] = change.difference;
  if (dry_run && change.cover) out["needs_approval"] = change.cover->rules;
  if (!dry_run) {
    out["generation"] = change.generation;
    out["in_force"] = change.in_force;
  }
  return out;
}

Response AnswerTo(const Gate::Change& change, bool dry_run, unsigned status) {
  Response response = Json(status, ToJson(change, dry_run));
  if (change.held) {
    response.held = {change.cover->rules, change.cover->expires_seconds, change.generation};
  }
  return response;
}

}  // namespace portcullis::rest
