// What is revoked. A revocation is stored, put in force in the dataplane, and the sessions that
// rest on it end, before the answer comes: 200. While the dataplane is away that cannot be said:
// 202, an alarm, and it follows when it is back.
#include <ctime>
#include <nlohmann/json.hpp>

#include "control/identity/certificate.hpp"
#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "control/registry/audit/log.hpp"
#include "control/rest/approvals.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using model::Denial;
using model::Fields;
using model::Revocable;
using nlohmann::json;
using Presence = Fields::Presence;

namespace {

std::optional<Denial::Time> TimeOf(const std::string& text) {
  std::tm utc{};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  if (end == nullptr || *end != '\0') return {};
  return std::chrono::system_clock::from_time_t(timegm(&utc));
}

json Shown(const Denial& denial) {
  json out = {{"kind", TextOf(model::kRevocables, denial.what.kind)},
              {"id", denial.what.id},
              {"by", denial.who},
              {"since", TimeText(denial.since)}};
  if (!denial.what.issuer.empty()) out["issuer"] = denial.what.issuer;
  if (!denial.reason.empty()) out["reason"] = denial.reason;
  if (denial.until) out["until"] = TimeText(*denial.until);
  return out;
}

struct Wanted {
  Denial denial;
  bool revoked = true;
};

void ReadThing(Fields& fields, Revocable& what) {
  constexpr size_t kLongest = 1024;
  what.kind = fields.Choice("kind", model::kRevocables);
  what.id = fields.Text("id", kLongest);
  if (HasIssuer(what.kind)) what.issuer = fields.Text("issuer", kLongest);
  if (what.kind != Revocable::Kind::certificate) return;
  // As the guard names it, however it was typed.
  auto id = identity::CertificateId::Parse(what.issuer, what.id);
  if (id) {
    what.issuer = std::move(id->issuer);
    what.id = std::move(id->serial);
  } else {
    fields.Refuse("id", id.error().message, id.error().expected, id.error().found);
  }
}

Result<Wanted> Read(const json& body) {
  constexpr size_t kLongestReason = 255;
  std::optional<Error> error;
  Fields fields(body, "", error);
  Wanted wanted;
  ReadThing(fields, wanted.denial.what);
  wanted.denial.reason = fields.Text("reason", kLongestReason, Presence::optional);
  wanted.revoked = fields.Flag("revoked", true);
  const std::string until =
      fields.Text("until", sizeof("2026-01-01T00:00:00Z") - 1, Presence::optional);
  if (!until.empty()) {
    wanted.denial.until = TimeOf(until);
    if (!wanted.denial.until || *wanted.denial.until <= std::chrono::system_clock::now()) {
      fields.Refuse("until", "not a time in the future", "when it expires, as 2027-01-31T12:00:00Z",
                    "\"" + until + "\"");
    }
  }
  fields.RefuseOthers();
  if (error) return tl::unexpected(*error);
  return wanted;
}

// What a waiting change would let in again, if it is of that kind.
std::optional<Revocable> ReadmittedBy(const model::PendingChange& change) {
  constexpr std::string_view kBefore = "/v1/peers/";
  constexpr std::string_view kAfter = "/revoke";
  const std::string_view path = change.path;
  if (path.starts_with(kBefore) && path.ends_with(kAfter)) {
    const size_t length = path.size() - kBefore.size() - kAfter.size();
    return Revocable{Revocable::Kind::peer, "", std::string(path.substr(kBefore.size(), length))};
  }
  if (path != "/v1/revocations") return {};
  const auto body = model::ParseJson(change.body);
  const auto wanted = body ? Read(*body) : tl::unexpected(body.error());
  if (!wanted) return {};
  return wanted->denial.what;
}

// Who asked to let it in again did not know what its revocation, again, is for.
void DropReadmissions(Context& context, const Revocable& what) {
  const auto waiting = context.gate.store().ReadPending();
  if (!waiting) return;
  for (const auto& change : *waiting) {
    if (ReadmittedBy(change) != what) continue;
    Drop(context.gate, context.audit, change, "supersede",
         fmt::format("is dropped: {} was revoked again", Text(what)));
  }
}

Answer Enforce(Context& context, const Request& request, Wanted wanted) {
  const Gate::Wish wish = WishOf(request);
  const Revocable what = wanted.denial.what;
  Result<Gate::Change> change;
  if (wanted.revoked) {
    change = co_await context.gate.Revoke(std::move(wanted.denial), wish);
  } else {
    change = co_await context.gate.Readmit(what, wish);
  }
  if (!change) co_return Problem(change.error(), request.path);
  if (wish.dry_run || change->held) co_return AnswerTo(*change, wish.dry_run);
  if (wanted.revoked) {
    DropReadmissions(context, what);
    const bool ended = co_await context.sessions.Enforce();
    change->in_force = change->in_force && ended;
    if (!change->in_force) {
      context.gate.events().Tell(
          "alarm",
          fmt::format("the revocation of {} is not in force: the dataplane is away", Text(what)),
          wish.operator_name);
    }
  }
  co_return Json(change->in_force ? 200 : 202, ToJson(*change, false));
}

}  // namespace

Answer ListRevocations(Context& context, Request&) {
  json items = json::array();
  for (const auto& [what, denial] : context.gate.denials().now()) items.push_back(Shown(denial));
  co_return Json(200, {{"items", std::move(items)}});
}

Answer Revoke(Context& context, Request& request) {
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  auto wanted = Read(*body);
  if (!wanted) co_return Problem(wanted.error(), request.path);
  co_return co_await Enforce(context, request, std::move(*wanted));
}

Answer RevokePeer(Context& context, Request& request) {
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  std::optional<Error> error;
  Fields fields(*body, "", error);
  fields.Find("revoked", Presence::required);
  Wanted wanted;
  wanted.denial.what = {Revocable::Kind::peer, "", request.name};
  wanted.revoked = fields.Flag("revoked", true);
  fields.RefuseOthers();
  if (error) co_return Problem(*error, request.path);
  co_return co_await Enforce(context, request, std::move(wanted));
}

}  // namespace portcullis::rest
