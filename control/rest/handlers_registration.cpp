// A protected server says that a peer is registered with it, or no longer: by itself, about packets
// (policies[].registration_ports), or through the guard, which sees its answers.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using model::Fields;

namespace {

struct Wish {
  std::string interface;
  std::chrono::seconds duration{};  // 0: no longer
};

Result<Wish> Read(const std::string& text) {
  constexpr uint64_t kMost = 7UL * 86400;
  constexpr uint64_t kDefault = 3600;
  const auto body = model::ParseJson(text);
  if (!body) return tl::unexpected(body.error());
  std::optional<Error> error;
  Fields fields(*body, "", error);
  Wish wish;
  wish.interface = fields.Name("interface");
  fields.Find("registered", Fields::Presence::required);
  const bool registered = fields.Flag("registered", false);
  const auto seconds = fields.Number("seconds", 1, kMost, kDefault);
  fields.RefuseOthers();
  if (error) return tl::unexpected(*error);
  if (registered) wish.duration = std::chrono::seconds(seconds);
  return wish;
}

// One segment of a path for both names, in which there is no '~'.
constexpr char kTilde = '~';

}  // namespace

Answer ListRegistrations(Context& context, Request& request) {
  const auto interface = Text(request, "interface");
  if (!interface) co_return Problem(kMalformed, interface.error(), request.path);
  nlohmann::json items = nlohmann::json::array();
  for (const auto& [who, since] : context.gate.registrations()) {
    if (!interface->empty() && who.first != *interface) continue;
    items.push_back({{"id", who.first + kTilde + who.second},
                     {"interface", who.first},
                     {"peer", who.second},
                     {"since", TimeText(since)}});
  }
  const nlohmann::json out = {{"items", std::move(items)}};
  co_return Json(200, out);
}

Answer EndRegistration(Context& context, Request& request) {
  const Gate::Wish wish = WishOf(request);
  const auto between = std::min(request.name.find(kTilde), request.name.size());
  const std::string interface = request.name.substr(0, between);
  const std::string peer = request.name.substr(std::min(between + 1, request.name.size()));
  const auto change = context.gate.EndRegistration(interface, peer, wish);
  if (!change) co_return Problem(change.error(), request.path);
  if (!wish.dry_run) co_await context.sessions.FollowRegistrations();
  Response response = Json(200, ToJson(*change, wish.dry_run));
  response.audit = {{"interface", interface}, {"peer", peer}};
  co_return response;
}

Answer RegisterPeer(Context& context, Request& request) {
  auto wish = Read(request.body);
  if (!wish) co_return Problem(wish.error(), request.path);
  const Operator& who = request.who;
  if (who.role == Role::server && !who.interfaces.contains(wish->interface)) {
    co_return Problem(
        kForbidden,
        {ErrorKind::kForbidden, fmt::format("'{}' does not serve this interface", who.name),
         "/interface", "an interface of its own", "\"" + wish->interface + "\""},
        request.path);
  }
  const auto seconds = wish->duration.count();
  // Whatever the guard has heard of it before, this is the server's latest word.
  const bool ends = seconds == 0 && context.gate.IsRegistered(wish->interface, request.name);
  if (ends) {
    const auto ended = context.gate.SetRegistered(wish->interface, request.name, false);
    if (!ended) co_return Problem(ended.error(), request.path);
  }
  const auto done =
      co_await context.sessions.Register(request.name, std::move(wish->interface), wish->duration);
  const bool no_session = !done && done.error().kind == ErrorKind::kNotFound;
  if (!done && !(ends && no_session)) co_return Problem(done.error(), request.path);
  nlohmann::json answer = {{"registered", seconds > 0}, {"seconds", seconds}};
  co_return Json(200, answer);
}

}  // namespace portcullis::rest
