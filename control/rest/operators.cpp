#include "control/rest/operators.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <string_view>
#include <utility>

#include "control/coroutines.hpp"
#include "control/identity/token/deny_list.hpp"
#include "control/identity/token/key_fetcher.hpp"
#include "control/identity/token/verifier.hpp"

namespace portcullis::rest {

namespace asio = boost::asio;
using identity::Moment;
using identity::Reason;
using model::Revocable;

struct Operators::Refusal {
  ProblemType type;
  Error error;
  std::string challenge;  // empty: none
};

namespace {

// WWW-Authenticate (RFC 6750 3). Without `error`: the client showed nothing, and learns only what
// is wanted. `scope`, where not empty, names what would do.
std::string Challenge(std::string_view error = {}, std::string_view description = {},
                      std::string_view scope = {}) {
  std::string text = "Bearer realm=\"portcullis\"";
  const auto add = [&](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    text += ", " + std::string(name) + "=\"";
    for (const char c : value) {
      // What may stand in a description; the rest would end the quotes.
      const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
      text += plain ? c : '?';
    }
    text += '"';
  };
  add("error", error);
  add("error_description", description);
  add("scope", scope);
  return text;
}

constexpr const char* kHexDigits = "0123456789abcdef";

std::string HexDigest(std::string_view der) {
  std::string hex;
  for (const uint8_t byte : identity::DigestOf(der)) {
    hex += kHexDigits[byte >> 4U];
    hex += kHexDigits[byte & 15U];
  }
  return hex;
}

// The token of RFC 6750 2.1; the scheme is case-insensitive (RFC 9110 11.1).
std::optional<std::string_view> BearerToken(std::string_view value) {
  constexpr std::string_view kScheme = "bearer ";
  if (value.size() <= kScheme.size()) return {};
  const bool bearer =
      std::ranges::equal(value.substr(0, kScheme.size()), kScheme, [](char got, char wanted) {
        return (got >= 'A' && got <= 'Z' ? static_cast<char>(got - 'A' + 'a') : got) == wanted;
      });
  if (!bearer) return {};
  value.remove_prefix(kScheme.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  return value;
}

// The greatest that the token's scopes give.
Role RoleBy(const std::map<std::string, Role>& scopes, const std::set<std::string>& shown) {
  Role role = Role::none;
  for (const auto& scope : shown) {
    const auto found = scopes.find(scope);
    if (found != scopes.end()) role = std::max(role, found->second);
  }
  return role;
}

// Names that would give `role`, separated by spaces as RFC 6750 3 wants them.
std::string ScopesFor(const std::map<std::string, Role>& scopes, Role role) {
  std::string all;
  for (const auto& [scope, gives] : scopes) {
    if (gives >= role) all += (all.empty() ? "" : " ") + scope;
  }
  return all;
}

}  // namespace

Operators::Operators(Settings settings, Control control)
    : settings_(std::move(settings)), control_(std::move(control)) {
  for (const OperatorSettings& person : settings_.persons) {
    by_name_.emplace(person.name, &person);
    for (const auto& name : person.certificates) by_certificate_.emplace(name, &person);
    for (const auto& subject : person.subjects) by_subject_.emplace(subject, &person);
  }
}

Operators::~Operators() = default;

Result<std::unique_ptr<Operators>> Operators::Create(const asio::any_io_executor& executor,
                                                     Settings settings, Control control) {
  std::unique_ptr<Operators> all(new Operators(std::move(settings), std::move(control)));
  all->executor_ = executor;
  if (!all->settings_.tokens) return all;
  for (const auto& config : all->settings_.tokens->issuers) {
    if (auto followed = all->Follow(executor, config); !followed) {
      return tl::unexpected(followed.error());
    }
  }
  all->nothing_denied_ = std::make_unique<identity::DenyList>();
  all->verifier_ = std::make_unique<identity::TokenVerifier>(all->issuers_, *all->nothing_denied_);
  return all;
}

Result<void> Operators::Follow(const asio::any_io_executor& executor,
                               const identity::IssuerConfig& config) {
  auto issuer = std::make_shared<identity::Issuer>(config);
  auto failing = std::make_shared<bool>(false);  // said once, not with each try
  const auto tell = [tell = control_.tell, name = config.claims.issuer,
                     failing](const Result<identity::KeyFetcher::News>& news) {
    if (!news) {
      spdlog::warn("{}", news.error().Text());
      if (!std::exchange(*failing, true)) tell(news.error().Text());
      return;
    }
    for (const auto& note : news->notes) spdlog::warn("keys of {}: {}", name, note);
    for (const auto& kid : news->vanished) spdlog::warn("keys of {}: {} is gone", name, kid);
    if (std::exchange(*failing, false)) tell(fmt::format("the key set of {} is renewed", name));
  };
  auto fetcher = identity::KeyFetcher::Create(executor, issuer, tell);
  if (!fetcher) return tl::unexpected(fetcher.error());
  fetchers_.push_back(std::move(*fetcher));
  issuers_.push_back(std::move(issuer));
  return {};
}

void Operators::Start() {
  for (const auto& fetcher : fetchers_) asio::co_spawn(executor_, fetcher->Run(), Rethrow);
}

void Operators::Stop() {
  for (const auto& fetcher : fetchers_) fetcher->Stop();
}

Operators::Identified Operators::Identify(const Shown& shown, const std::string& path,
                                          const Moment& now) const {
  Identified result;
  Operator& who = result.who;
  who.common_name = shown.common_name;
  who.certificate = HexDigest(shown.certificate);
  const auto by_certificate = by_certificate_.find(shown.common_name);
  const bool known = by_certificate != by_certificate_.end();
  who.name = known ? by_certificate->second->name : shown.common_name;
  who.role = known ? by_certificate->second->role : Role::none;
  if (known) who.interfaces = by_certificate->second->interfaces;

  std::optional<Refusal> refused;
  if (control_.denied(shown.certificate_id)) {
    refused = {
        kForbidden,
        {ErrorKind::kForbidden, "the certificate is revoked", "", "", Text(shown.certificate_id)},
        ""};
  } else if (!shown.authorization.empty()) {
    refused = ByToken(shown, now, who);
  } else if (settings_.tokens && (settings_.tokens->required || !known)) {
    refused = {kUnauthorized,
               {ErrorKind::kForbidden, "an access token is needed beside the certificate",
                "Authorization", "Bearer and a token that is bound to the certificate", "none"},
               Challenge()};
  } else if (!known) {
    refused = {kForbidden,
               {ErrorKind::kForbidden, "the certificate's subject is not one of the operators", "",
                "a subject CN that the configuration lists", "\"" + shown.common_name + "\""},
               ""};
  }
  if (!refused) return result;
  who.role = Role::none;
  result.refused = Problem(refused->type, refused->error, path);
  if (!refused->challenge.empty()) {
    result.refused->headers.emplace_back("WWW-Authenticate", refused->challenge);
  }
  return result;
}

std::optional<Operators::Refusal> Operators::ByToken(const Shown& shown, const Moment& now,
                                                     Operator& who) const {
  const auto malformed = [](std::string message, std::string expected, std::string found) {
    return Refusal{kMalformed,
                   {ErrorKind::kInvalid, std::move(message), "Authorization", std::move(expected),
                    std::move(found)},
                   Challenge("invalid_request")};
  };
  if (!settings_.tokens) {
    return Refusal{kMalformed,
                   {ErrorKind::kInvalid, "access tokens are not taken here", "Authorization",
                    "none, or rest.tokens in the configuration", "one"},
                   ""};
  }
  if (shown.authorization.size() > 1) {
    return malformed("the header appears more than once", "once",
                     std::to_string(shown.authorization.size()));
  }
  const auto token = BearerToken(shown.authorization.front());
  if (!token) return malformed("not a bearer token (RFC 6750)", "Bearer and a token", "another");

  // By a clock that was set back an expired token would be good again.
  if (control_.clock_went_back()) {
    return Refusal{
        kUnavailable,
        {ErrorKind::kUnavailable,
         "the gate's clock went back: it cannot tell whether a token has expired", "", "", ""},
        ""};
  }
  const auto invalid = [](const identity::Refusal& refusal) {
    return Refusal{kUnauthorized,
                   {ErrorKind::kForbidden, refusal.Text(), "Authorization", "", ""},
                   Challenge("invalid_token", identity::Info(refusal.reason).text)};
  };
  const auto verified = verifier_->Verify(*token, TokenSettings::kInterface, now);
  if (!verified) return invalid(verified.error());
  if (auto bound = identity::CheckBinding(*verified, identity::Bytes(shown.certificate)); !bound) {
    return invalid(bound.error());
  }
  TokenUse use{verified->issuer, verified->subject, verified->jti};
  if (Denied(use, verified->kid)) return invalid({Reason::token_revoked, ""});
  if (auto refused = Speaks(use, who)) return refused;

  const auto& scopes = settings_.tokens->scopes;
  const Role role = RoleBy(scopes, verified->scopes);
  const Role most = by_name_.at(who.name)->role;
  if (role == Role::none) {
    return Refusal{kForbidden,
                   {ErrorKind::kForbidden, "the token's scope gives no role here", "scope",
                    "one of " + ScopesFor(scopes, Role::viewer), "none of them"},
                   Challenge("insufficient_scope", "the scope gives no role here",
                             ScopesFor(scopes, Role::viewer))};
  }
  who.role = std::min(role, most);
  who.token = std::move(use);
  if (role < most) {
    who.challenge = Challenge("insufficient_scope", "the scope gives a lesser role",
                              ScopesFor(scopes, Role::operator_));
  }
  return {};
}

// Whose token is it? A subject that nobody configured is not a second person beside those who are:
// the same one could then approve what he asked for.
std::optional<Operators::Refusal> Operators::Speaks(const TokenUse& token, Operator& who) const {
  const auto person = by_subject_.find({token.issuer, token.subject});
  const auto refuse = [](std::string message, std::string expected, std::string found) {
    return Refusal{kForbidden,
                   {ErrorKind::kForbidden, std::move(message), "Authorization", std::move(expected),
                    std::move(found)},
                   ""};
  };
  if (person == by_subject_.end()) {
    return refuse("the token's subject is not one of the operators",
                  "an issuer and subject that the configuration lists",
                  fmt::format("\"{}\" of {}", token.subject, token.issuer));
  }
  const std::string& name = person->second->name;
  if (by_certificate_.contains(who.common_name) && who.name != name) {
    return refuse("certificate and token are two persons'", "a token of '" + who.name + "'",
                  "one of '" + name + "'");
  }
  who.name = name;
  return {};
}

bool Operators::Denied(const TokenUse& token, const std::string& kid) const {
  using Kind = Revocable::Kind;
  return control_.denied({Kind::issuer, "", token.issuer}) ||
         control_.denied({Kind::key, token.issuer, kid}) ||
         control_.denied({Kind::token, token.issuer, token.jti});
}

Role Operators::RoleOf(const std::string& person) const {
  const auto found = by_name_.find(person);
  return found == by_name_.end() ? Role::none : found->second->role;
}

size_t Operators::CountOf(Role role) const {
  return static_cast<size_t>(std::ranges::count_if(
      settings_.persons, [&](const OperatorSettings& person) { return person.role == role; }));
}

}  // namespace portcullis::rest
