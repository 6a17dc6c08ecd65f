// Which peer each public key belongs to, for operators.
#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "control/events/events.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using nlohmann::json;

namespace {

bool IsKeyId(std::string_view text) {
  constexpr size_t kShortest = 43;  // SHA-256 in base64url
  constexpr size_t kLongest = 64;   // and in hex
  return text.size() >= kShortest && text.size() <= kLongest &&
         std::ranges::all_of(
             text, [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_'; });
}

}  // namespace

Answer ListKeys(Context& context, Request& request) {
  constexpr uint64_t kMostPerPage = 1000;
  const auto limit = Number(request, "limit", kMostPerPage, kMostPerPage);
  if (!limit) co_return Problem(kMalformed, limit.error(), request.path);
  std::string after;
  if (const auto given = request.query.find("after"); given != request.query.end()) {
    after = given->second;
    if (!IsKeyId(after)) {
      co_return Problem(kMalformed,
                        {ErrorKind::kInvalid, "not an admitted value", "after", "a key's id",
                         "\"" + after.substr(0, 63) + "\""},
                        request.path);
    }
  }
  const auto keys = context.gate.SeenKeys(after, *limit);
  if (!keys) co_return Problem(keys.error(), request.path);
  json items = json::array();
  for (const auto& key : *keys) {
    items.push_back({{"id", key.id},
                     {"peer", key.peer},
                     {"identity", key.identity},
                     {"since", TimeText(key.since)}});
  }
  json out = {{"items", std::move(items)}};
  if (keys->size() == *limit) out["next"] = keys->back().id;
  co_return Json(200, out);
}

Answer ForgetKey(Context& context, Request& request) {
  const Gate::Wish wish = WishOf(request);
  const auto change = context.gate.ForgetSeenKey(request.name, wish);
  if (!change) co_return Problem(change.error(), request.path);
  co_return Json(200, ToJson(*change, wish.dry_run));
}

}  // namespace portcullis::rest
