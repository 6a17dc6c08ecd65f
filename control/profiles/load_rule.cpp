// One method of one path: its operation, what it creates, what its body decides.
#include <algorithm>

#include "control/profiles/body.hpp"
#include "control/profiles/reader.hpp"
#include "control/profiles/target.hpp"

namespace portcullis::profiles {
namespace {

Result<JsonPointer> Member(const std::string& text) {
  const auto pointer = JsonPointer::Parse(text);
  if (pointer && !pointer->tokens.empty()) return *pointer;
  return Invalid("", "not a JSON pointer to a member (RFC 6901)", "/member or /member/inner");
}

Result<std::string> ListedMediaType(const std::string& text) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("/+-.").find(c) != std::string_view::npos;
  };
  if (std::ranges::all_of(text, fits) && std::ranges::count(text, '/') == 1) return text;
  return Invalid("", "not a media type", "type/subtype in lower case, without parameters");
}

void Index(BodyRules& body) {
  const auto add = [&](JsonPointer member) {
    body.all.push_back(member);
    body.folded.push_back(member.Folded());
    while (!member.tokens.empty()) {
      member.tokens.pop_back();
      if (std::ranges::find(body.above, member) == body.above.end()) body.above.push_back(member);
    }
  };
  for (const auto& rule : body.states) add(rule.member);
  for (const auto& rule : body.same) add(rule.member);
  for (const auto& rule : body.fences) std::ranges::for_each(rule.members, add);
  for (const auto* members : {&body.only, &body.callers, &body.callbacks}) {
    std::ranges::for_each(*members, add);
  }
}

/// Each member has one rule, and one that may be named.
void RefuseDoubleRules(const Section& s, const BodyRules& body) {
  std::vector<std::pair<const char*, JsonPointer>> all;
  const auto add = [&](const char* key, const JsonPointer& member) {
    for (const auto& [other, known] : all) {
      if (!known.Holds(member) && !member.Holds(known)) continue;
      s.Refuse(key, "two rules about one member", "one rule for each",
               member.Text() + " beside " + known.Text() + " of " + other);
    }
    const auto holds = [&](const JsonPointer& one) { return one.Holds(member); };
    if (!body.only.empty() && std::ranges::none_of(body.only, holds)) {
      s.Refuse(key, "a rule about a member that may not be named", "a member of `only`",
               member.Text());
    }
    all.emplace_back(key, member);
  };
  for (auto state = body.states.begin(); state != body.states.end(); ++state) {
    const auto same = [&](const StateRule& other) { return other.member == state->member; };
    const auto twice = [&](const StateRule& other) {
      return same(other) && other.value == state->value;
    };
    if (std::any_of(body.states.begin(), state, twice)) {
      s.Refuse("states", "one value for two operations", "each value once", state->value);
    }
    if (std::none_of(body.states.begin(), state, same)) add("states", state->member);
  }
  for (const auto& rule : body.same) add("same", rule.member);
  for (const auto& rule : body.fences) {
    for (const auto& member : rule.members) add("fences", member);
  }
  for (const auto& member : body.callers) add("callers", member);
  for (const auto& member : body.callbacks) add("callbacks", member);
}

}  // namespace

std::string Text(const Section& s, const char* key, const char* expected) {
  if (!s.Has(key)) s.Refuse(key, "missing", expected, "nothing");
  std::string text;
  s.Read(key, text);
  return text;
}

Result<std::string> QueryName(const std::string& text) {
  Target target;
  if (!target.Read("/x?" + text) && target.queries().front() == text) return text;
  return Invalid("", "not the name of a query parameter", "unreserved characters of RFC 3986");
}

Rule Reader::ReadRule(const Section& s, const Path& path, const char* method) {
  Rule rule;
  rule.method = method;
  rule.deletes = rule.method == "DELETE" && !path.resource.empty() &&
                 path.form.EndsWithParameter() &&
                 path.resource.back() == path.form.parameters().size() - 1;
  if (!s.IsMapping(method)) {
    rule.operation = Named(s, method);
    return rule;
  }
  const Section one =
      s.Sub(method, {"operation", "replaces", "query", "media_types", "creates", "creates_of",
                     "states", "fences", "same", "only", "callers", "callbacks"});
  rule.operation = Named(one, "operation");
  rule.replaces = List(one, "replaces");
  one.ReadList("query", rule.queries, QueryName);
  one.ReadList("media_types", rule.media_types, ListedMediaType);
  ReadCreates(one, path, rule);
  ReadBody(one, path, rule);
  return rule;
}

void Reader::ReadCreates(const Section& s, const Path& path, Rule& rule) const {
  if (!s.Has("creates")) {
    if (!rule.replaces.empty()) s.Refuse("replaces", "nothing is created", "creates: path");
    if (s.Has("creates_of")) s.Refuse("creates_of", "nothing is created", "creates: location");
    return;
  }
  const std::string from = Text(s, "creates", "path, location, or a member of the answer");
  rule.creates.of = path.api;
  if (from == "path") {
    if (path.resource.empty()) s.Refuse("creates", "the path names no resource", "`resource`");
    if (s.Has("creates_of")) s.Refuse("creates_of", "the path says whose it is", "nothing");
    rule.creates.from = Creates::From::path;
    return;
  }
  // A resource of another API: what a task starts is found by its id alone.
  s.ReadParsed("creates_of", rule.creates.of, [&](const std::string& name) -> Result<const Api*> {
    const auto api = std::ranges::find(profile_.apis, name, &Api::name);
    if (api != profile_.apis.end() && api->resource.size() == 1) return &*api;
    return Invalid("", "no such API", "one above, whose `resource` is one parameter");
  });
  const auto& names = path.api->resource;
  const bool collection =
      !names.empty() && path.resource.empty() && path.container.size() + 1 == names.size();
  if (!s.Has("creates_of") && !collection) {
    s.Refuse("creates", "not the collection of the API's resources",
             "a path with all parameters of `resource` but the last");
  }
  if (!rule.replaces.empty()) s.Refuse("replaces", "a new id replaces nothing", "creates: path");
  rule.creates.from = from == "location" ? Creates::From::location : Creates::From::member;
  if (from != "location") s.ReadParsed("creates", rule.creates.member, Member);
}

void Reader::ReadBody(const Section& s, const Path& path, Rule& rule) {
  BodyRules& body = rule.body;
  for (const Section& one : s.Items("states", {"member", "value", "operation"})) {
    StateRule state;
    Text(one, "member", "a JSON pointer");
    one.ReadParsed("member", state.member, Member);
    state.value = Text(one, "value", "the value that asks for the operation");
    state.operation = Named(one, "operation");
    body.states.push_back(std::move(state));
  }
  for (const Section& one : s.Items("fences", {"members", "operation"})) {
    FenceRule fence;
    one.ReadList("members", fence.members, Member);
    if (fence.members.empty()) one.Refuse("members", "missing", "JSON pointers", "nothing");
    fence.operation = Named(one, "operation");
    body.fences.push_back(std::move(fence));
  }
  for (const Section& one : s.Items("same", {"member", "parameter", "text"})) {
    SameRule same;
    Text(one, "member", "a JSON pointer");
    one.ReadParsed("member", same.member, Member);
    if (one.Has("parameter") == one.Has("text")) {
      one.Refuse("parameter", "what the member must be", "either `parameter` or `text`",
                 one.Has("text") ? "both" : "neither");
    }
    one.Read("text", same.text);
    if (one.Has("parameter")) {
      same.parameter = path.form.IndexOf(Text(one, "parameter", "a parameter of the path"));
      if (!same.parameter) one.Refuse("parameter", "not in the path", "a parameter of the path");
    }
    body.same.push_back(std::move(same));
  }
  s.ReadList("only", body.only, Member);
  s.ReadList("callers", body.callers, Member);
  s.ReadList("callbacks", body.callbacks, Member);
  if (body.empty()) return;
  RefuseDoubleRules(s, body);
  Index(body);
  if (rule.method == "GET" || rule.method == "DELETE") {
    s.Refuse("operation", "its body cannot decide: it has none", "POST, PUT or PATCH", rule.method);
  }
  if (rule.media_types.empty() && rule.method == "PATCH") {
    s.Refuse("media_types", "missing, though the body decides", "the forms of the patch",
             "nothing");
  }
  if (rule.media_types.empty()) rule.media_types = {"application/json"};
  if (!body.callers.empty() && std::ranges::any_of(rule.media_types, IsJsonPatch)) {
    s.Refuse("callers", "a JSON Patch need not say who sends it", "bodies that are documents");
  }
  const bool patched = rule.method != "PATCH" && std::ranges::any_of(rule.media_types, IsJsonPatch);
  if (patched || !std::ranges::all_of(rule.media_types, IsJson)) {
    s.Refuse("media_types", "the body decides, and is not read in this form",
             "application/json or +json; patches for PATCH");
  }
}

}  // namespace portcullis::profiles
