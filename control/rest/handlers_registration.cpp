// A protected server says that a peer is registered with it, or no longer. Only then is open what
// policy opens after registration (policies[].registration_ports).
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

}  // namespace

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
  const auto done =
      co_await context.sessions.Register(request.name, std::move(wish->interface), wish->duration);
  if (!done) co_return Problem(done.error(), request.path);
  nlohmann::json answer = {{"registered", seconds > 0}, {"seconds", seconds}};
  co_return Json(200, answer);
}

}  // namespace portcullis::rest
