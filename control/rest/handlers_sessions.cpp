// Who came, who is in, and what became of them. A viewer may see it: it says no more than the
// events, which he sees as well, and nothing secret is in a decision.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/model/difference.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using admission::Decision;
using admission::Decisions;
using nlohmann::json;

namespace {

json ToJson(const admission::SessionState& s) {
  return {{"id", s.id},
          {"peer", s.peer},
          {"interface", s.interface},
          {"generation", s.generation},
          {"confirmed", s.confirmed},
          {"expires_in", s.left.count()},
          {"registered_for", s.registered.count()}};
}

json ToJson(const std::vector<const Decision*>& decisions) {
  json items = json::array();
  for (const Decision* d : decisions) items.push_back(admission::ToJson(*d));
  return items;
}

}  // namespace

Answer ListSessions(Context& context, Request&) {
  json items = json::array();
  for (const admission::SessionState& s : context.sessions.List()) items.push_back(ToJson(s));
  json body = {{"items", std::move(items)}};
  co_return Json(200, body);
}

Answer EndSession(Context& context, Request& request) {
  const Gate::Wish wish = WishOf(request);
  Gate::Change change{model::OneDifference("removed", "session", request.name), {}, {}, {}, {}};
  if (!context.sessions.Knows(request.name)) {
    co_return Problem(
        {ErrorKind::kNotFound, fmt::format("there is no session '{}'", request.name.substr(0, 63)),
         "", "", ""},
        request.path);
  }
  if (!wish.dry_run) {
    const auto gone = co_await context.sessions.EndByOperator(request.name, wish.operator_name);
    if (!gone) co_return Problem(gone.error(), request.path);
    change.in_force = *gone;
  }
  change.generation = context.gate.generation();
  co_return Json(200, rest::ToJson(change, wish.dry_run));
}

Answer ListDecisions(Context& context, Request& request) {
  constexpr uint64_t kMostPerPage = 1000;
  constexpr uint64_t kUsual = 100;
  const auto limit = Number(request, "limit", kUsual, kMostPerPage);
  if (!limit) co_return Problem(kMalformed, limit.error(), request.path);
  const auto peer = Text(request, "peer");
  if (!peer) co_return Problem(kMalformed, peer.error(), request.path);
  const auto reason = Text(request, "reason");
  if (!reason) co_return Problem(kMalformed, reason.error(), request.path);
  const Decisions::Filter filter{*peer, *reason};
  json body = {{"items", ToJson(context.journal.decisions().Newest(filter, *limit))}};
  co_return Json(200, body);
}

Answer GetDecision(Context& context, Request& request) {
  json body = {{"id", request.name},
               {"items", ToJson(context.journal.decisions().Of(request.name))}};
  const auto sessions = context.sessions.List();
  const auto live = std::ranges::find(sessions, request.name, &admission::SessionState::id);
  if (live != sessions.end()) body["session"] = ToJson(*live);
  if (body["items"].empty() && live == sessions.end()) {
    co_return Problem(
        {ErrorKind::kNotFound, fmt::format("nothing is known of '{}'", request.name.substr(0, 63)),
         "",
         fmt::format("a reference or a session of the {} latest since control's start",
                     Decisions::kKept),
         ""},
        request.path);
  }
  co_return Json(200, body);
}

}  // namespace portcullis::rest
