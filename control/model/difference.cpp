#include "control/model/difference.hpp"

#include <map>
#include <nlohmann/json.hpp>

#include "control/model/first_line.hpp"
#include "control/model/json.hpp"

namespace portcullis::model {

using nlohmann::json;

namespace {

json Nothing() {
  return {{"added", json::array()}, {"changed", json::array()}, {"removed", json::array()}};
}

json FieldsThatDiffer(const json& before, const json& after) {
  const json from = before.flatten();
  const json to = after.flatten();
  json fields = json::array();
  for (const auto& [pointer, value] : from.items()) {
    if (!to.contains(pointer)) {
      fields.push_back({{"field", pointer}, {"from", value}});
    } else if (to[pointer] != value) {
      fields.push_back({{"field", pointer}, {"from", value}, {"to", to[pointer]}});
    }
  }
  for (const auto& [pointer, value] : to.items()) {
    if (!from.contains(pointer)) fields.push_back({{"field", pointer}, {"to", value}});
  }
  return fields;
}

template <class T>
void Compare(const char* kind, const std::vector<T>& before, const std::vector<T>& after,
             json& out) {
  std::map<std::string, const T*> old;
  for (const auto& r : before) old.emplace(r.name, &r);
  for (const auto& r : after) {
    const auto was = old.find(r.name);
    if (was == old.end()) {
      out["added"].push_back({{"kind", kind}, {"name", r.name}});
      continue;
    }
    json fields = FieldsThatDiffer(ToJson(*was->second), ToJson(r));
    if (!fields.empty()) {
      out["changed"].push_back({{"kind", kind}, {"name", r.name}, {"fields", std::move(fields)}});
    }
    old.erase(was);
  }
  for (const auto& [name, r] : old) out["removed"].push_back({{"kind", kind}, {"name", name}});
}

void CompareFirstLine(const std::optional<FirstLine>& before, const std::optional<FirstLine>& after,
                      json& out) {
  json one = {{"kind", "first-line"}, {"name", "first-line"}};
  if (!before && after) out["added"].push_back(one);
  if (before && !after) out["removed"].push_back(one);
  if (!before || !after) return;
  one["fields"] = FirstLineFields(*before, *after);
  if (!one["fields"].empty()) out["changed"].push_back(std::move(one));
}

}  // namespace

json DifferenceOf(const Document& before, const Document& after) {
  json out = Nothing();
  Compare("interface", before.interfaces, after.interfaces, out);
  Compare("peer", before.peers, after.peers, out);
  Compare("policy", before.policies, after.policies, out);
  Compare("approval", before.approval, after.approval, out);
  Compare("request-block", before.blocks, after.blocks, out);
  CompareFirstLine(before.first_line, after.first_line, out);
  return out;
}

json OneDifference(const char* list, const char* kind, const std::string& name) {
  json out = Nothing();
  json one = {{"kind", kind}, {"name", name}};
  if (std::string_view(list) == "changed") one["fields"] = json::array();
  out[list].push_back(std::move(one));
  return out;
}

bool IsEmpty(const json& d) {
  return d["added"].empty() && d["changed"].empty() && d["removed"].empty();
}

}  // namespace portcullis::model
