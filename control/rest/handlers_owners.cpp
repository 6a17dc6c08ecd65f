// To which tenant the resources of protected servers belong, for operators.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/identity/token/encoding.hpp"
#include "control/model/difference.hpp"
#include "control/rest/routes.hpp"

namespace portcullis::rest {

using model::Owner;
using model::Resource;
using nlohmann::json;

namespace {

constexpr uint64_t kMostOwnersPerPage = 1000;
constexpr size_t kLongestTenant = 63;
constexpr char kBetween = '\n';  // in none of the three

// One segment of a path for three texts, of which a server chose one.
std::string IdOf(const Resource& r) {
  const std::string text = r.interface + kBetween + r.kind + kBetween + r.id;
  return identity::EncodeBase64Url(identity::Bytes(text));
}

std::optional<Resource> ResourceOf(std::string_view id) {
  const auto text = identity::DecodeBase64Url(id);
  if (!text) return {};
  const size_t first = text->find(kBetween);
  const size_t second = first == std::string::npos ? first : text->find(kBetween, first + 1);
  if (second == std::string::npos) return {};
  return Resource{text->substr(0, first), text->substr(first + 1, second - first - 1),
                  text->substr(second + 1)};
}

json OwnerJson(const Owner& owner) {
  return {{"id", IdOf(owner.resource)},  {"interface", owner.resource.interface},
          {"kind", owner.resource.kind}, {"resource", owner.resource.id},
          {"tenant", owner.tenant},      {"since", TimeText(owner.since)}};
}

Error NotAdmitted(const char* parameter, const char* expected, const std::string& found) {
  return {ErrorKind::kInvalid, "not an admitted value", parameter, expected,
          "\"" + found.substr(0, 63) + "\""};
}

}  // namespace

Answer ListOwners(Context& context, Request& request) {
  const auto limit = Number(request, "limit", kMostOwnersPerPage, kMostOwnersPerPage);
  if (!limit) co_return Problem(kMalformed, limit.error(), request.path);
  const auto interface = Text(request, "interface");
  if (!interface) co_return Problem(kMalformed, interface.error(), request.path);
  Store::OwnersWanted wanted{*interface, {}};
  if (const auto given = request.query.find("tenant"); given != request.query.end()) {
    wanted.tenant = given->second;
    if (wanted.tenant.empty() || wanted.tenant.size() > kLongestTenant) {
      const Error wrong = NotAdmitted("tenant", "a tenant, 1 to 63 bytes", given->second);
      co_return Problem(kMalformed, wrong, request.path);
    }
  }
  Resource after;
  if (const auto given = request.query.find("after"); given != request.query.end()) {
    const auto resource = ResourceOf(given->second);
    if (!resource) {
      const Error wrong = NotAdmitted("after", "an owner's id", given->second);
      co_return Problem(kMalformed, wrong, request.path);
    }
    after = *resource;
  }
  const auto owners = context.gate.store().ReadOwners(after, wanted, *limit);
  if (!owners) co_return Problem(owners.error(), request.path);
  json items = json::array();
  for (const Owner& owner : *owners) items.push_back(OwnerJson(owner));
  json out = {{"items", std::move(items)}};
  if (owners->size() == *limit) out["next"] = IdOf(owners->back().resource);
  co_return Json(200, out);
}

Answer ForgetOwner(Context& context, Request& request) {
  const Gate::Wish wish = WishOf(request);
  const auto resource = ResourceOf(request.name);
  const auto owner = context.gate.ForgetOwner(resource.value_or(Resource{}), wish);
  if (!owner) co_return Problem(owner.error(), request.path);
  Gate::Change change{model::OneDifference("removed", "owner", request.name), {}, {}, {}, {}};
  change.generation = context.gate.generation();
  change.in_force = true;  // the dataplane knows nothing of it
  Response response = Json(200, ToJson(change, wish.dry_run));
  response.audit = {{"interface", resource->interface},
                    {"kind", resource->kind},
                    {"resource", resource->id},
                    {"tenant", owner->tenant}};
  co_return response;
}

}  // namespace portcullis::rest
