// Security associations: keys go in and never come out.
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "control/model/sa.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using nlohmann::json;

namespace {

constexpr uint32_t kMostPerPage = 1000;

Response NoSuchSa(const Request& request) {
  return Problem({ErrorKind::kNotFound,
                  fmt::format("there is no security association '{}'", request.name), "", "", ""},
                 request.path);
}

// One page of what the dataplane has, without keys. Null while it is away.
boost::asio::awaitable<std::optional<steer::ListSasReply>> LivePage(Gate& gate, std::string after,
                                                                    uint32_t limit) {
  if (!gate.link().ready()) co_return std::nullopt;
  steer::Request request;
  request.mutable_list_sas()->set_after(std::move(after));
  request.mutable_list_sas()->set_limit(limit);
  auto answer = co_await gate.link().Call(std::move(request));
  if (!answer) co_return std::nullopt;
  co_return std::move(*answer->mutable_list_sas());
}

// The greatest id below `id`, so that a page of one after it is `id` itself. '~' comes after every
// character of a name.
std::string JustBefore(const std::string& id) {
  std::string before = id;
  before.back() = static_cast<char>(before.back() - 1);
  return before + "~";
}

Answer Install(Context& context, Request& request, std::string replaces) {
  Gate& gate = context.gate;
  if (!gate.lab()) {
    Wipe(request.body);
    co_return Problem({ErrorKind::kForbidden,
                       "keys installed by hand are for laboratories: they are neither "
                       "authenticated nor renewed",
                       "", "\"lab: true\" in the configuration", "\"lab: false\""},
                      request.path);
  }
  auto body = model::ParseJson(request.body);
  Wipe(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  auto sa = model::ParseSa(*body, gate.lab());
  if (!sa) co_return Problem(sa.error(), request.path);
  const std::string id = sa->spec.id();
  const Gate::Wish wish = WishOf(request);
  const bool replacing = !replaces.empty();
  const auto change = co_await gate.InstallSa(std::move(*sa), std::move(replaces), wish);
  if (!change) co_return Problem(change.error(), request.path);
  json out = ToJson(*change, wish.dry_run);
  if (wish.dry_run) co_return Json(200, out);
  out.erase("generation");  // of the policy, which has not changed
  out["id"] = id;
  out["fingerprint"] = change->fingerprint;
  Response response = Json(replacing ? 200 : 201, out);
  if (!replacing) response.headers.emplace_back("Location", "/v1/sas/" + id);
  co_return response;
}

}  // namespace

Answer ListSas(Context& context, Request& request) {
  const auto limit_given = Number(request, "limit", kMostPerPage, kMostPerPage);
  if (!limit_given) co_return Problem(kMalformed, limit_given.error(), request.path);
  const auto limit = static_cast<uint32_t>(*limit_given);
  const auto after_given = Text(request, "after");
  if (!after_given) co_return Problem(kMalformed, after_given.error(), request.path);
  const std::string& after = *after_given;
  json items = json::array();
  bool more = false;
  const auto live = co_await LivePage(context.gate, after, limit);
  if (live) {
    for (const auto& state : live->sas()) {
      items.push_back(model::ToJson(state.spec(), state.fingerprint(), &state));
    }
    more = live->more();
  } else {
    const auto& all = context.gate.sas();
    auto at = all.upper_bound(after);
    for (; at != all.end() && items.size() < limit; ++at) {
      items.push_back(model::ToJson(at->second.spec, at->second.fingerprint, nullptr));
    }
    more = at != all.end();
  }
  json out = {{"items", std::move(items)}};
  if (more && !out["items"].empty()) out["next"] = out["items"].back()["id"];
  co_return Json(200, out);
}

Answer GetSa(Context& context, Request& request) {
  if (!model::IsName(request.name)) co_return NoSuchSa(request);
  const auto live = co_await LivePage(context.gate, JustBefore(request.name), 1);
  if (live && live->sas_size() == 1 && live->sas(0).spec().id() == request.name) {
    const auto& state = live->sas(0);
    co_return Json(200, model::ToJson(state.spec(), state.fingerprint(), &state));
  }
  const auto held = context.gate.sas().find(request.name);
  if (held == context.gate.sas().end()) co_return NoSuchSa(request);
  co_return Json(200, model::ToJson(held->second.spec, held->second.fingerprint, nullptr));
}

Answer CreateSa(Context& context, Request& request) {
  return Install(context, request, "");
}

Answer ReplaceSa(Context& context, Request& request) {
  return Install(context, request, request.name);
}

Answer DeleteSa(Context& context, Request& request) {
  const Gate::Wish wish = WishOf(request);
  const auto change = co_await context.gate.RemoveSa(request.name, wish);
  if (!change) co_return Problem(change.error(), request.path);
  co_return Json(200, ToJson(*change, wish.dry_run));
}

}  // namespace portcullis::rest
