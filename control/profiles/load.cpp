// The file, its APIs and paths; reader.hpp says what is where.
#include "control/profiles/load.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "control/model/fields.hpp"
#include "control/profiles/reader.hpp"

namespace portcullis::profiles {
namespace {

constexpr size_t kMostBody = 1U << 20U;

std::string Name(const Section& s, const char* key) {
  const char* const expected = "1 to 63 of a-z, 0-9, '.', '_', '-'";
  std::string name = Text(s, key, expected);
  if (!model::IsName(name)) s.Refuse(key, "not a name", expected);
  return name;
}

/// word or word:word, as policies and scopes of tokens name it.
Result<std::string> OperationName(const std::string& text) {
  const auto is_word = [](std::string_view word) {
    return !word.empty() && word[0] >= 'a' && word[0] <= 'z' &&
           std::ranges::all_of(word, [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
           });
  };
  const size_t colon = text.find(':');
  const bool fits =
      is_word(std::string_view(text).substr(0, colon)) &&
      (colon == std::string::npos || is_word(std::string_view(text).substr(colon + 1)));
  if (fits && text.size() <= 63) return text;
  return Invalid("", "not an operation's name", "words of a-z, 0-9, -, such as context:read");
}

}  // namespace

const Operation* Reader::Known(const Section& s, const char* key, const std::string& name) {
  const Operation* operation = profile_.FindOperation(name);
  if (operation == nullptr) {
    s.Refuse(key, "an operation that is not declared", "one of `operations`", "\"" + name + "\"");
  }
  used_.insert(operation);
  return operation;
}

Operations Reader::List(const Section& s, const char* key) {
  std::vector<std::string> names;
  s.ReadList(key, names, OperationName);
  Operations all;
  for (const std::string& name : names) all.push_back(Known(s, key, name));
  return all;
}

void Reader::ReadOperations(const Section& root) {
  if (!root.Has("operations")) root.Refuse("operations", "missing", "read, change", "nothing");
  const Section s = root.Sub("operations", {"read", "change"});
  const auto read = [&](const char* key, Effect effect) {
    std::vector<std::string> names;
    s.ReadList(key, names, OperationName);
    for (const std::string& name : names) {
      if (profile_.FindOperation(name) != nullptr) {
        s.Refuse(key, "declared twice", "each operation once", "\"" + name + "\"");
      }
      profile_.operations.push_back({name, effect});
    }
  };
  read("read", Effect::read);
  read("change", Effect::change);
}

Profile Reader::Read(const Section& root) {
  profile_.name = Name(root, "name");
  profile_.title = Text(root, "title", "what people call the interface");
  profile_.source = Text(root, "source", "the standard that it is from");
  root.Read("body_limit", profile_.body_limit, 1, kMostBody);
  ReadOperations(root);
  const auto apis = root.Items("apis", {"name", "title", "base", "caller", "resource", "paths"});
  if (apis.empty()) root.Refuse("apis", "missing", "the APIs of the interface", "nothing");
  profile_.apis.reserve(apis.size());  // paths point to them
  for (const Section& api : apis) ReadApi(api);
  std::ranges::stable_sort(profile_.paths, {}, [](const Path& path) { return path.form.Weight(); });
  for (const Section& one :
       root.Items("egress", {"operation", "method", "path", "query", "callbacks_of"})) {
    ReadEgress(one);
  }
  if (root.Has("registration")) {
    const Section s = root.Sub("registration", {"opens", "closes"});
    profile_.opens = Named(s, "opens");
    profile_.closes = Named(s, "closes");
    for (const Operation* one : {profile_.opens, profile_.closes}) {
      if (one->effect == Effect::change) continue;
      s.Refuse(one == profile_.opens ? "opens" : "closes", "only reads", "an operation of `change`",
               "\"" + one->name + "\"");
    }
  }
  for (const Operation& operation : profile_.operations) {
    if (used_.contains(&operation)) continue;
    root.Refuse("operations", "declared, but nothing asks for it", "operations that paths name",
                "\"" + operation.name + "\"");
  }
  return std::move(profile_);
}

void Reader::ReadApi(const Section& s) {
  Api api;
  api.name = Name(s, "name");
  if (std::ranges::find(profile_.apis, api.name, &Api::name) != profile_.apis.end()) {
    s.Refuse("name", "two APIs of one name", "a name for each");
  }
  s.Read("title", api.title);
  s.Read("base", api.base);
  s.Read("caller", api.caller);
  s.ReadList("resource", api.resource,
             [](const std::string& text) -> Result<std::string> { return text; });
  profile_.apis.push_back(std::move(api));
  const Api& kept = profile_.apis.back();
  const auto paths = s.Items("paths", {"path", "GET", "POST", "PUT", "PATCH", "DELETE"});
  if (paths.empty()) s.Refuse("paths", "missing", "the paths of the API", "nothing");
  const size_t before = profile_.paths.size();
  for (const Section& path : paths) ReadPath(path, kept);
  const bool about =
      std::any_of(profile_.paths.begin() + static_cast<std::ptrdiff_t>(before),
                  profile_.paths.end(), [](const Path& path) { return !path.resource.empty(); });
  if (!kept.resource.empty() && !about) {
    s.Refuse("resource", "no path has these parameters", "names of parameters",
             fmt::format("{}", fmt::join(kept.resource, ", ")));
  }
}

void Reader::ReadPath(const Section& s, const Api& api) {
  Path path;
  path.api = &api;
  const std::string own = Text(s, "path", "a template such as /subscriptions/{subscriptionId}");
  s.ReadParsed("path", path.form,
               [&](const std::string&) { return PathTemplate::Parse(api.base + own); });
  if (!api.caller.empty()) {
    path.caller = path.form.IndexOf(api.caller);
    if (!path.caller) {
      s.Refuse("path", "the caller is not in it", "the parameter {" + api.caller + "}");
    }
  }
  BindResource(s, path);
  for (const char* method : kMethods) {
    if (s.Has(method)) path.rules.push_back(ReadRule(s, path, method));
  }
  if (path.rules.empty()) {
    s.Refuse("path", "no method", fmt::format("one of {}", fmt::join(kMethods, ", ")));
  }
  RefuseAmbiguous(s, path);
  profile_.paths.push_back(std::move(path));
}

void Reader::BindResource(const Section& s, Path& path) const {
  const auto& names = path.api->resource;
  if (names.empty()) return;
  std::vector<size_t> found;
  for (const std::string& name : names) {
    if (const auto index = path.form.IndexOf(name)) found.push_back(*index);
  }
  const bool own = path.form.IndexOf(names.back()).has_value();
  if (own && found.size() != names.size()) {
    s.Refuse("path", "a resource without all of what names it",
             fmt::format("the parameters {}", fmt::join(names, ", ")));
  }
  if (own) path.resource = found;
  if (own) found.pop_back();
  path.container = found;
}

void Reader::RefuseAmbiguous(const Section& s, const Path& path) const {
  for (const Path& other : profile_.paths) {
    if (!path.form.Overlaps(other.form)) continue;
    for (const Rule& rule : path.rules) {
      if (std::ranges::find(other.rules, rule.method, &Rule::method) == other.rules.end()) continue;
      s.Refuse("path", "some paths fit two templates with " + rule.method,
               "one template for each method and path",
               "\"" + path.form.text() + "\" beside \"" + other.form.text() + "\"");
    }
  }
}

void Reader::ReadEgress(const Section& s) {
  Egress egress;
  egress.operation = Named(s, "operation");
  egress.method = Text(s, "method", "POST");
  if (std::ranges::find(kMethods, egress.method) == kMethods.end()) {
    s.Refuse("method", "not a method", fmt::format("one of {}", fmt::join(kMethods, ", ")));
  }
  if (s.Has("path") == s.Has("callbacks_of")) {
    s.Refuse("path", "where it goes", "either `path` or `callbacks_of`",
             s.Has("path") ? "both" : "neither");
  }
  if (s.Has("path")) {
    PathTemplate form;
    s.ReadParsed("path", form, PathTemplate::Parse);
    for (const Egress& other : profile_.egress) {
      if (other.method != egress.method || !other.path || !form.Overlaps(*other.path)) continue;
      s.Refuse("path", "some paths fit two templates with " + egress.method,
               "one template for each method and path");
    }
    egress.path = std::move(form);
    s.ReadList("query", egress.queries, QueryName);
  } else if (s.Has("query")) {
    s.Refuse("query", "a callback has its own query", "a query beside `path`");
  }
  s.ReadList("callbacks_of", egress.apis, [&](const std::string& name) -> Result<const Api*> {
    const auto api = std::ranges::find(profile_.apis, name, &Api::name);
    const auto collects = [&](const Path& path) {
      return path.api->name == name && std::ranges::any_of(path.rules, [](const Rule& rule) {
               return !rule.body.callbacks.empty();
             });
    };
    if (api != profile_.apis.end() && std::ranges::any_of(profile_.paths, collects)) return &*api;
    return Invalid("", "no API of that name takes callbacks", "an API with `callbacks`");
  });
  profile_.egress.push_back(std::move(egress));
}

Result<Profile> ParseProfile(const std::string& yaml, const std::string& file) {
  try {
    const auto documents = YAML::LoadAll(yaml);
    if (documents.size() != 1) {
      return Invalid(file, "not one YAML document", "one", std::to_string(documents.size()));
    }
    const Section root(
        documents[0], file, "",
        {"name", "title", "source", "body_limit", "operations", "registration", "apis", "egress"});
    return Reader().Read(root);
  } catch (const WrongField& wrong) {
    return tl::unexpected(wrong.error);
  } catch (const YAML::Exception& e) {
    return Invalid(fmt::format("{}:{}", file, e.mark.line + 1), e.msg, "YAML");
  }
}

Result<Profile> LoadProfile(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  if (!(text << in.rdbuf())) return Invalid(file, "the profile cannot be read", "a YAML file");
  auto profile = ParseProfile(text.str(), file);
  if (profile && profile->name != file.stem()) {
    return Invalid(file, "the file is not named as the profile", profile->name + ".yaml",
                   file.filename());
  }
  return profile;
}

Result<std::map<std::string, Profile, std::less<>>> LoadProfiles(
    const std::filesystem::path& folder) {
  std::map<std::string, Profile, std::less<>> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".yaml") continue;
    auto profile = LoadProfile(entry.path());
    if (!profile) return tl::unexpected(profile.error());
    all.emplace(profile->name, std::move(*profile));
  }
  if (error) return Invalid(folder, "the folder of profiles cannot be read", {}, error.message());
  return all;
}

}  // namespace portcullis::profiles
