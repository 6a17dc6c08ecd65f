#include "control/config_operators.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include "control/identity/token/issuer_section.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis {

namespace {

using rest::OperatorSettings;
using rest::Role;
using rest::TokenSettings;
using rest::TokenSubject;

constexpr auto kRoles = {std::pair{"viewer", Role::viewer}, std::pair{"operator", Role::operator_}};

std::string Required(const Section& s, const char* key, const char* expected) {
  if (!s.Has(key)) s.Refuse(key, "missing", expected, "nothing");
  std::string text;
  s.Read(key, text);
  return text;
}

Role RequiredRole(const Section& s) {
  if (!s.Has("role")) s.Refuse("role", "missing", "viewer or operator", "nothing");
  Role role = Role::none;
  s.Read("role", role, kRoles);
  return role;
}

// A person's role, or a protected server's.
void ReadRole(const Section& s, OperatorSettings& who) {
  std::string role;
  s.Read("role", role);
  if (role != RoleText(Role::server)) {
    who.role = RequiredRole(s);
    if (s.Has("interfaces")) {
      s.Refuse("interfaces", "only a server has them", "no such list, or role server");
    }
    return;
  }
  who.role = Role::server;
  std::vector<std::string> interfaces;
  s.ReadList("interfaces", interfaces,
             [](const std::string& text) -> Result<std::string> { return text; });
  if (interfaces.empty()) {
    s.Refuse("interfaces", "missing", "the interfaces at which it says who is registered",
             "nothing");
  }
  who.interfaces.insert(interfaces.begin(), interfaces.end());
}

// RFC 6749 3.3.
bool IsScope(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c <= '~' && c != '"' && c != '\\';
  });
}

TokenSettings ReadTokens(const Section& tokens, const std::filesystem::path& folder) {
  TokenSettings settings;
  tokens.Read("required", settings.required);
  const std::string audience =
      Required(tokens, "audience", "what aud will be, and nowhere else is");
  settings.issuers = identity::ReadIssuers(tokens, folder, {{TokenSettings::kInterface, audience}});
  for (const Section& one : tokens.Items("scopes", {"scope", "role"})) {
    const std::string scope = Required(one, "scope", "a scope that gives the role");
    if (!IsScope(scope)) {
      one.Refuse("scope", "not one scope (RFC 6749 3.3)",
                 "printable ASCII without space, quote and backslash");
    }
    if (!settings.scopes.emplace(scope, RequiredRole(one)).second) {
      one.Refuse("scope", "the same scope twice", "each once");
    }
  }
  if (settings.scopes.empty()) {
    tokens.Refuse("scopes", "missing: no token would give a role", "a list of {scope, role}",
                  "nothing");
  }
  return settings;
}

// Two persons with one credential would be one who approves what he asked for.
struct Taken {
  std::set<std::string> names;
  std::set<std::string> certificates;
  std::set<TokenSubject> subjects;
};

OperatorSettings ReadOperator(const Section& one, const std::optional<TokenSettings>& tokens,
                              Taken& taken) {
  OperatorSettings person;
  person.name = Required(one, "name", "a person's name");
  if (!taken.names.insert(person.name).second) {
    one.Refuse("name", "the same operator twice", "each name once");
  }
  ReadRole(one, person);
  person.certificates = {person.name};
  one.ReadList("certificates", person.certificates,
               [](const std::string& text) -> Result<std::string> { return text; });
  for (const auto& name : person.certificates) {
    if (!taken.certificates.insert(name).second) {
      one.Refuse(one.Has("certificates") ? "certificates" : "name",
                 "a certificate that is another operator's already", "each subject CN once",
                 "\"" + name + "\"");
    }
  }
  for (const Section& subject : one.Items("subjects", {"issuer", "subject"})) {
    TokenSubject who{Required(subject, "issuer", "one of rest.tokens.issuers"),
                     Required(subject, "subject", "what sub will be")};
    const auto issues = [&](const auto& issuer) { return issuer.claims.issuer == who.issuer; };
    if (!tokens || std::ranges::none_of(tokens->issuers, issues)) {
      subject.Refuse("issuer", "not an issuer of operators' tokens", "one of rest.tokens.issuers");
    }
    if (!taken.subjects.insert(who).second) {
      subject.Refuse("subject", "a subject that is an operator's already", "each once");
    }
    person.subjects.push_back(std::move(who));
  }
  if (person.certificates.empty() && person.subjects.empty()) {
    one.Refuse("certificates", "nobody could be this operator", "a certificate or a subject",
               "neither");
  }
  return person;
}

rest::Operators::Settings Read(const std::string& path) {
  const YAML::Node rest = YAML::LoadFile(path)["rest"];
  const auto folder = std::filesystem::absolute(path).parent_path();
  rest::Operators::Settings settings;
  if (rest["tokens"]) {
    const Section tokens(rest["tokens"], path, "rest.tokens",
                         {"required", "audience", "issuers", "scopes"});
    settings.tokens = ReadTokens(tokens, folder);
  }
  Taken taken;
  const YAML::Node operators = rest["operators"];
  for (size_t i = 0; i < operators.size(); ++i) {
    const Section one(operators[i], path, fmt::format("rest.operators[{}]", i),
                      {"name", "role", "certificates", "subjects", "interfaces"});
    settings.persons.push_back(ReadOperator(one, settings.tokens, taken));
  }
  return settings;
}

}  // namespace

Result<rest::Operators::Settings> ReadOperators(const std::string& path) {
  try {
    return Read(path);
  } catch (const WrongField& wrong) {
    return tl::unexpected(wrong.error);
  }
}

}  // namespace portcullis
