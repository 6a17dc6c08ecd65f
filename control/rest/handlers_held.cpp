// Requests of peers that policy lets an operator approve first: what they are, and what he says.
#include <nlohmann/json.hpp>

#include "control/registry/audit/log.hpp"
#include "control/rest/approvals.hpp"
#include "control/rest/held_requests.hpp"

namespace portcullis::rest {

using model::HeldRequest;
using nlohmann::json;
using State = HeldRequest::State;
using std::chrono::seconds;

namespace {

constexpr size_t kRequestDigestLength = 64;
constexpr size_t kLongestReason = 255;

json ToJson(const HeldRequest& r) {
  json out = {{"id", r.id},
              {"peer", r.peer},
              {"interface", r.interface},
              {"operations", r.operations},
              {"method", r.method},
              {"target", r.target},
              {"body_bytes", r.body.size()},
              {"digest", r.digest},
              {"state", TextOf(model::kHeldStates, r.state)},
              {"held", TimeText(r.held)},
              {"expires", TimeText(r.expires)}};
  if (!r.tenant.empty()) out["tenant"] = r.tenant;
  if (!r.content_type.empty()) out["content_type"] = r.content_type;
  if (!r.decided_by.empty()) out["decided_by"] = r.decided_by;
  if (!r.reason.empty()) out["reason"] = r.reason;
  return out;
}

// For the record of an answer, whichever it is.
Response Noted(Response response, const HeldRequest& r) {
  response.audit.insert(response.audit.end(), {{"peer", r.peer},
                                               {"request_method", r.method},
                                               {"request_target", r.target.substr(0, 1024)},
                                               {"request_digest", r.digest}});
  return response;
}

Result<HeldRequest> Find(Context& context, const std::string& id) {
  auto found = context.gate.store().FindHeld(id);
  if (!found) return tl::unexpected(found.error());
  if (!*found) {
    return Fail(ErrorKind::kNotFound,
                fmt::format("no request '{}' is held (any more)", id.substr(0, 63)));
  }
  return std::move(**found);
}

tl::unexpected<Error> Refuse(ErrorKind kind, std::string message, std::string expected = {},
                             std::string found = {}) {
  return tl::unexpected(Error{kind, std::move(message), {}, std::move(expected), std::move(found)});
}

// A person who is the peer as well would approve his own.
bool IsPeer(const Context& context, const Operator& who, const HeldRequest& r) {
  if (who.name == r.peer || who.common_name == r.peer) return true;
  for (const model::Peer& peer : context.gate.document().peers) {
    if (peer.name != r.peer) continue;
    return who.name == peer.identity || who.common_name == peer.identity;
  }
  return false;
}

Result<void> MayApprove(const Context& context, const Operator& who, const HeldRequest& r,
                        const std::string& digest) {
  if (IsPeer(context, who, r)) {
    return Refuse(ErrorKind::kForbidden, "a request is approved by somebody else than its peer",
                  "an operator", "'" + who.name + "'");
  }
  if (digest != r.digest) {
    return tl::unexpected(Error{ErrorKind::kConflict, "this is not the digest of the request",
                                "/digest", r.digest, digest.substr(0, kRequestDigestLength)});
  }
  if (r.state == State::approved) {
    return Refuse(ErrorKind::kConflict, fmt::format("'{}' has approved it", r.decided_by));
  }
  if (context.gate.clock() != TimeVerdict::ok) {
    return Refuse(ErrorKind::kUnavailable, fmt::format("nobody knows whether it has expired: {}",
                                                       Info(context.gate.clock()).text));
  }
  if (std::chrono::system_clock::now() >= r.expires) {
    return Refuse(ErrorKind::kConflict, "it has expired: its peer sends it anew",
                  "approval before " + TimeText(r.expires));
  }
  return {};
}

Response Decide(Context& context, const Request& request, HeldRequest r, State state,
                std::string reason) {
  r.state = state;
  r.decided_by = request.who.name;
  r.reason = std::move(reason);
  r.expires = std::chrono::floor<seconds>(std::chrono::system_clock::now()) + seconds(r.seconds);
  const auto decided = context.gate.store().DecideHeld(r);
  if (!decided) return Noted(Problem(decided.error(), request.path), r);
  if (!*decided) {  // it was made this moment
    const Error gone{ErrorKind::kNotFound, "it is not held any more", {}, {}, {}};
    return Noted(Problem(gone, request.path), r);
  }
  context.gate.events().Tell(
      "held_request",
      fmt::format("request {} of peer '{}' is {}{}", r.id, r.peer,
                  TextOf(model::kHeldStates, state), r.reason.empty() ? "" : ": " + r.reason),
      request.who.name);
  Response response = Noted(Json(200, ToJson(r)), r);
  if (!r.reason.empty()) response.audit.emplace_back("reason", r.reason);
  return response;
}

}  // namespace

Answer ListHeldRequests(Context& context, Request& request) {
  const auto all = context.gate.store().ReadHeld();
  if (!all) co_return Problem(all.error(), request.path);
  json items = json::array();
  for (const HeldRequest& r : *all) items.push_back(ToJson(r));
  json body = {{"items", std::move(items)}};
  co_return Json(200, body);
}

Answer GetHeldRequest(Context& context, Request& request) {
  const auto r = Find(context, request.name);
  if (!r) co_return Problem(r.error(), request.path);
  json body = {{"request", ToJson(*r)}, {"body", r->body}};
  co_return Json(200, body);
}

Answer ApproveHeldRequest(Context& context, Request& request) {
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  const auto digest =
      OnlyText(*body, "digest", kRequestDigestLength, model::Fields::Presence::required);
  if (!digest) co_return Problem(digest.error(), request.path);
  const auto r = Find(context, request.name);
  if (!r) co_return Problem(r.error(), request.path);
  if (const auto may = MayApprove(context, request.who, *r, *digest); !may) {
    co_return Noted(Problem(may.error(), request.path), *r);
  }
  co_return Decide(context, request, *r, State::approved, {});
}

Answer DenyHeldRequest(Context& context, Request& request) {
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  const auto reason = OnlyText(*body, "reason", kLongestReason, model::Fields::Presence::optional);
  if (!reason) co_return Problem(reason.error(), request.path);
  const auto r = Find(context, request.name);
  if (!r) co_return Problem(r.error(), request.path);
  co_return Decide(context, request, *r, State::denied, *reason);
}

void ExpireHeldRequests(Gate& gate, AuditLog& audit, std::chrono::system_clock::time_point now) {
  // By a clock that is wrong nothing ends; nor does anything pass by it.
  if (gate.clock() != TimeVerdict::ok) return;
  const auto ended = gate.store().ExpiredHeld(now);
  if (!ended) return;  // /readyz tells of a store that cannot be read
  for (const HeldRequest& r : *ended) {
    const std::string state(TextOf(model::kHeldStates, r.state));
    const audit::Entry entry{"control",    "expire", "/v1/held-requests/" + r.id,
                             audit::kDone, r.digest, {{"peer", r.peer}, {"state", state}}};
    // Unrecorded it stays until it can be recorded; nothing passes by it all the same.
    if (!audit.Append(entry) || !gate.store().RemoveHeld(r.id)) return;
    gate.events().Tell("held_request",
                       fmt::format("request {} of peer '{}', {}, has expired", r.id, r.peer, state),
                       {}, r.peer);
  }
}

}  // namespace portcullis::rest
