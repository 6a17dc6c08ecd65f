// Changes that wait for another person: what they are, and what he says to them.
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/rest/approvals.hpp"
#include "control/rest/audited.hpp"

namespace portcullis::rest {

using model::PendingChange;
using nlohmann::json;

namespace {

constexpr size_t kDigestLength = 64;

Response Answered(const Error& error, const Request& request, const PendingChange& change) {
  Response response = Problem(error, request.path);
  Note(change, response);
  return response;
}

// While it lives, nobody can approve or reject this change.
class Making {
 public:
  Making(std::set<uint64_t>& all, uint64_t id) : all_(all), id_(id) { all_.insert(id_); }
  ~Making() { all_.erase(id_); }
  Making(const Making&) = delete;
  Making& operator=(const Making&) = delete;

 private:
  std::set<uint64_t>& all_;
  uint64_t id_;
};

Error TooLate(const PendingChange& change) {
  return {ErrorKind::kConflict, fmt::format("change {} is being made", change.id), {}, {}, {}};
}

// Made in the name of whoever asked, and recorded as his, with who agreed.
Answer Make(Context& context, const PendingChange& change, const std::string& by) {
  Request request = RequestOf(change);
  request.approved = Approved{change.id, change.base_generation, by};
  Audited audited(context, request);
  Response response = co_await Dispatch(context, request, audited);
  audited.End(response);
  co_return response;
}

}  // namespace

Answer ListApprovals(Context& context, Request& request) {
  const auto all = context.gate.store().ReadPending();
  if (!all) co_return Problem(all.error(), request.path);
  json items = json::array();
  for (const PendingChange& change : *all) {
    items.push_back(ToJson(change, context.gate.generation()));
  }
  json body = {{"items", std::move(items)}};
  co_return Json(200, body);
}

Answer GetApproval(Context& context, Request& request) {
  const auto change = FindChange(context, request.name);
  if (!change) co_return Problem(change.error(), request.path);
  Request look = RequestOf(*change);
  look.query["dryRun"] = "true";
  Audited unrecorded(context, look);
  const Response seen = co_await Dispatch(context, look, unrecorded);
  json body = {{"pending", ToJson(*change, context.gate.generation())}, {"body", change->body}};
  const json what = json::parse(seen.body);
  if (seen.status < kFirstError) {
    body["would"] = what["would"];
    body["warnings"] = what["warnings"];
  } else {
    body["problem"] = what["detail"];
  }
  co_return Json(200, body);
}

Answer ApproveChange(Context& context, Request& request) {
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  const auto digest = OnlyText(*body, "digest", kDigestLength, model::Fields::Presence::required);
  if (!digest) co_return Problem(digest.error(), request.path);
  const auto change = FindChange(context, request.name);
  if (!change) co_return Problem(change.error(), request.path);
  if (const auto may = MayApprove(context, request.who, *change, *digest); !may) {
    co_return Answered(may.error(), request, *change);
  }
  if (context.being_made.contains(change->id)) {
    co_return Answered(TooLate(*change), request, *change);
  }
  const Making making(context.being_made, change->id);
  Response response = co_await Make(context, *change, request.who.name);
  Note(*change, response);
  json answer = json::parse(response.body);
  if (response.status >= kFirstError) {  // it may be tried again, until it expires
    answer["instance"] = request.path;
    response.body = answer.dump() + "\n";
    co_return response;
  }
  // Even if it stays: its base is gone, or making it again changes nothing.
  static_cast<void>(context.gate.store().RemovePending(change->id));
  context.gate.events().Tell("approval",
                             fmt::format("change {}, which '{}' asked for, is approved and made",
                                         change->id, change->requested_by),
                             request.who.name);
  Response made = Json(200, answer);
  made.audit = std::move(response.audit);
  co_return made;
}

Answer RejectChange(Context& context, Request& request) {
  constexpr size_t kLongestReason = 255;
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  const auto reason = OnlyText(*body, "reason", kLongestReason, model::Fields::Presence::optional);
  if (!reason) co_return Problem(reason.error(), request.path);
  const auto change = FindChange(context, request.name);
  if (!change) co_return Problem(change.error(), request.path);
  if (context.being_made.contains(change->id)) {
    co_return Answered(TooLate(*change), request, *change);
  }
  const auto removed = context.gate.store().RemovePending(change->id);
  if (!removed) co_return Answered(removed.error(), request, *change);
  const bool own = request.who.name == change->requested_by;
  context.gate.events().Tell(
      "approval",
      fmt::format("change {}, which '{}' asked for, is {}{}", change->id, change->requested_by,
                  own ? "withdrawn" : "rejected", reason->empty() ? "" : ": " + *reason),
      request.who.name);
  Response response = Json(200, ToJson(*change, context.gate.generation()));
  Note(*change, response);
  if (!reason->empty()) response.audit.emplace_back("reason", *reason);
  co_return response;
}

}  // namespace portcullis::rest
