#include "control/profiles/profile.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/profiles/target.hpp"

namespace portcullis::profiles {
namespace {

/// The segments behind `root`, which is one or several whole segments.
std::optional<std::span<const std::string_view>> Behind(const Target& target,
                                                        std::string_view root) {
  const auto segments = target.segments();
  if (root.empty()) return segments;
  const std::string_view path = target.path();
  if (!path.starts_with(root) || path.size() <= root.size() || path[root.size()] != '/') return {};
  return segments.subspan(static_cast<size_t>(std::ranges::count(root, '/')));
}

bool Listed(const Target& target, const std::vector<std::string>& queries) {
  return std::ranges::all_of(target.queries(), [&](std::string_view query) {
    return std::ranges::find(queries, query) != queries.end();
  });
}

std::string Joined(const Match& match, const std::vector<size_t>& parameters) {
  std::string id;
  for (const size_t p : parameters) id += Decoded(match.values[p]) + "/";
  return id;
}

/// The last segment of a URI or of a path, when it could be a segment of a path that is served.
std::optional<std::string> LastSegment(std::string_view location) {
  if (const size_t scheme = location.find("://"); scheme != std::string_view::npos) {
    const size_t path = location.find('/', scheme + 3);
    if (path == std::string_view::npos) return {};
    location.remove_prefix(path);
  }
  Target target;
  if (target.Read(location) || !target.queries().empty()) return {};
  return Decoded(target.segments().back());
}

/// A string of the answer, when it could be a segment: no slash, nothing that Target refuses.
std::optional<std::string> Member(const JsonPointer& member, std::string_view answer) {
  const auto parsed = model::ParseJson(answer);
  const nlohmann::json* value = parsed ? member.In(*parsed) : nullptr;
  if (value == nullptr || !value->is_string()) return {};
  const auto& text = value->get_ref<const std::string&>();
  constexpr std::string_view kNever = "/\\?#%;";
  const bool fits =
      !text.empty() && text != "." && text != ".." &&
      std::ranges::all_of(text, [&](unsigned char c) {
        return c >= ' ' && c != 0x7F && kNever.find(static_cast<char>(c)) == std::string_view::npos;
      });
  if (!fits) return {};
  return text;
}

}  // namespace

bool IsRoot(std::string_view text) {
  Target target;
  return text.empty() || (!target.Read(text) && target.path() == text);
}

std::string_view Match::Value(std::string_view parameter) const {
  const auto index = path->form.IndexOf(parameter);
  return index ? values[*index] : std::string_view();
}

std::optional<std::string> Match::Caller() const {
  if (!path->caller) return {};
  return Decoded(values[*path->caller]);
}

std::optional<Resource> Match::About() const {
  if (path->resource.empty()) return {};
  std::string id = Joined(*this, path->resource);
  id.pop_back();
  return Resource{path->api->name, std::move(id)};
}

std::optional<Resource> Match::Created(std::string_view location, std::string_view answer) const {
  std::optional<std::string> last;
  switch (rule->creates.from) {
    case Creates::From::nothing:
      return {};
    case Creates::From::path:
      return About();
    case Creates::From::location:
      last = LastSegment(location);
      break;
    case Creates::From::member:
      last = Member(rule->creates.member, answer);
      break;
  }
  if (!last) return {};
  const Creates& creates = rule->creates;
  const bool within = creates.of == path->api;
  return Resource{creates.of->name, (within ? Joined(*this, path->container) : "") + *last};
}

tl::expected<Match, Fault> Profile::Find(std::string_view method, std::string_view text,
                                         std::string_view root) const {
  Target target;
  if (const auto fault = target.Read(text)) return tl::unexpected(*fault);
  const auto segments = Behind(target, root);
  if (!segments) return tl::unexpected(Fault::outside_root);
  Match match;
  Fault fault = Fault::path_unlisted;
  // A path that a more concrete template has is its, whatever the method (as servers route, OpenAPI
  // 3.1 4.8.8.2): /alarms/alarmCount is no alarm.
  size_t weight = std::numeric_limits<size_t>::max();
  for (const Path& path : paths) {
    if (path.form.Weight() > weight) break;
    if (!path.form.Match(*segments, match.values)) continue;
    const auto rule = std::ranges::find(path.rules, method, &Rule::method);
    if (rule == path.rules.end()) {
      weight = std::min(weight, path.form.Weight());
      fault = Fault::method_unlisted;
      continue;
    }
    match.path = &path;
    match.rule = &*rule;
    if (!Listed(target, rule->queries)) return tl::unexpected(Fault::query_unlisted);
    return match;
  }
  return tl::unexpected(fault);
}

tl::expected<const Egress*, Fault> Profile::FindEgress(std::string_view method,
                                                       std::string_view text,
                                                       std::string_view root) const {
  Target target;
  if (const auto fault = target.Read(text)) return tl::unexpected(*fault);
  const auto segments = Behind(target, root);
  if (!segments) return tl::unexpected(Fault::outside_root);
  PathTemplate::Values values;
  Fault fault = Fault::path_unlisted;
  for (const Egress& one : egress) {
    if (!one.path || !one.path->Match(*segments, values)) continue;
    fault = Fault::method_unlisted;
    if (one.method != method) continue;
    if (!Listed(target, one.queries)) return tl::unexpected(Fault::query_unlisted);
    return &one;
  }
  return tl::unexpected(fault);
}

const Operation* Profile::FindOperation(std::string_view operation) const {
  const auto found = std::ranges::find(operations, operation, &Operation::name);
  return found == operations.end() ? nullptr : &*found;
}

}  // namespace portcullis::profiles
