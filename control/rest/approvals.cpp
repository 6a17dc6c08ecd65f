#include "control/rest/approvals.hpp"

#include <charconv>
#include <nlohmann/json.hpp>

#include "control/registry/audit/log.hpp"
#include "control/rest/operators.hpp"

namespace portcullis::rest {

using model::PendingChange;
using nlohmann::json;
using std::chrono::seconds;

namespace {

constexpr unsigned kAccepted = 202;

std::string PathOf(const PendingChange& change) {
  return fmt::format("/v1/approvals/{}", change.id);
}

}  // namespace

json ToJson(const PendingChange& change, uint64_t generation) {
  return {{"id", change.id},
          {"method", change.method},
          {"path", change.path},
          {"digest", change.digest},
          {"base_generation", change.base_generation},
          {"stale", change.base_generation != generation},
          {"rules", change.rules},
          {"requested_by", change.requested_by},
          {"requested", TimeText(change.requested)},
          {"expires", TimeText(change.expires)}};
}

void Note(const PendingChange& change, Response& response) {
  response.audit.insert(response.audit.end(), {{"requested_by", change.requested_by},
                                               {"change_method", change.method},
                                               {"change_path", change.path},
                                               {"change_digest", change.digest}});
}

Response Hold(Context& context, const Request& request, std::string body, const Response& answer) {
  const auto now = std::chrono::floor<seconds>(std::chrono::system_clock::now());
  const Held& held = *answer.held;
  PendingChange change;
  change.method = request.method;
  change.path = request.path;
  change.digest = model::ChangeDigest(change.method, change.path, body);
  change.body = std::move(body);
  change.base_generation = held.base_generation;
  change.rules = held.rules;
  change.requested_by = request.who.name;
  change.requested = now;
  change.expires = now + seconds(held.expires_seconds);
  const auto id = context.gate.store().AddPending(change);
  if (!id) return Problem(id.error(), request.path);
  change.id = *id;
  context.gate.events().Tell(
      "approval",
      fmt::format("change {} waits for another person: {} {}", *id, change.method, change.path),
      request.who.name);
  const json what = json::parse(answer.body);
  Response response = Json(kAccepted, {{"pending", ToJson(change, change.base_generation)},
                                       {"would", what["changes"]},
                                       {"warnings", what["warnings"]}});
  response.headers.emplace_back("Location", PathOf(change));
  response.held = held;
  response.audit = {{"approval", std::to_string(*id)}, {"change_digest", change.digest}};
  return response;
}

void ExpireApprovals(Gate& gate, AuditLog& audit, std::chrono::system_clock::time_point now) {
  // By a clock that is wrong nothing ends; nor is anything approved by it.
  if (gate.clock() != TimeVerdict::ok) return;
  const auto ended = gate.store().ExpiredPending(now);
  if (!ended) return;  // /readyz tells of a store that cannot be read
  for (const PendingChange& change : *ended) {
    if (!Drop(gate, audit, change, "expire", "has expired: nobody approved it in time")) return;
  }
}

bool Drop(Gate& gate, AuditLog& audit, const PendingChange& change, const char* action,
          const std::string& why) {
  const audit::Entry entry{"control",
                           action,
                           PathOf(change),
                           audit::kDone,
                           change.digest,
                           {{"requested_by", change.requested_by},
                            {"change_method", change.method},
                            {"change_path", change.path}}};
  // Unrecorded it stays until it can be recorded; an expired one is not approved all the same.
  if (!audit.Append(entry) || !gate.store().RemovePending(change.id)) return false;
  gate.events().Tell("approval", fmt::format("change {} {}", change.id, why), change.requested_by);
  return true;
}

Result<PendingChange> FindChange(Context& context, const std::string& id) {
  uint64_t number = 0;
  const auto [end, failed] = std::from_chars(id.data(), id.data() + id.size(), number);
  const bool is_number = failed == std::errc() && end == id.data() + id.size();
  auto found = is_number ? context.gate.store().FindPending(number)
                         : Result<std::optional<PendingChange>>(std::nullopt);
  if (!found) return tl::unexpected(found.error());
  if (!*found) {
    return Fail(ErrorKind::kNotFound,
                fmt::format("no change '{}' waits for approval (any more)", id.substr(0, 63)));
  }
  return std::move(**found);
}

Result<void> MayApprove(const Context& context, const Operator& who, const PendingChange& change,
                        const std::string& digest) {
  const auto refuse = [](ErrorKind kind, std::string message, std::string expected = {},
                         std::string found = {}) {
    return tl::unexpected(
        Error{kind, std::move(message), {}, std::move(expected), std::move(found)});
  };
  if (who.name == change.requested_by) {
    return refuse(ErrorKind::kForbidden, "a change is approved by another person than asked for it",
                  "somebody else", "'" + who.name + "', whatever the credential");
  }
  if (digest != change.digest) {
    return tl::unexpected(Error{ErrorKind::kConflict, "this is not the digest of the change",
                                "/digest", change.digest, digest.substr(0, 64)});
  }
  if (context.gate.clock() != TimeVerdict::ok) {
    return refuse(ErrorKind::kUnavailable, fmt::format("nobody knows whether it has expired: {}",
                                                       Info(context.gate.clock()).text));
  }
  if (std::chrono::system_clock::now() >= change.expires) {
    return refuse(ErrorKind::kConflict, "the change has expired: ask anew",
                  "approval before " + TimeText(change.expires));
  }
  if (change.base_generation != context.gate.generation()) {
    return refuse(ErrorKind::kConflict, "the policy has changed since this was asked for: ask anew",
                  fmt::format("generation {}", change.base_generation),
                  fmt::format("generation {}", context.gate.generation()));
  }
  if (context.operators.RoleOf(change.requested_by) != Role::operator_) {
    return refuse(
        ErrorKind::kForbidden,
        fmt::format("'{}', who asked for it, may no longer change anything", change.requested_by));
  }
  return {};
}

Result<std::string> OnlyText(const json& body, const char* field, size_t longest,
                             model::Fields::Presence presence) {
  std::optional<Error> error;
  model::Fields fields(body, "", error);
  std::string text = fields.Text(field, longest, presence);
  fields.RefuseOthers();
  if (error) return tl::unexpected(*error);
  return text;
}

Request RequestOf(const PendingChange& change) {
  Request request;
  request.method = change.method;
  request.path = change.path;
  if (!change.body.empty()) request.content_type = "application/json";
  request.body = change.body;
  request.who.name = change.requested_by;
  request.who.common_name = change.requested_by;
  request.who.role = Role::operator_;
  return request;
}

}  // namespace portcullis::rest
