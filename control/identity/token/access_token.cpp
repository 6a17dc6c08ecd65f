#include "control/identity/token/access_token.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"

namespace portcullis::identity {

using model::Describe;
using nlohmann::json;
using Presence = model::Fields::Presence;
using std::chrono::seconds;

namespace {

constexpr size_t kLongestName = 256;  // sub, client_id, jti, acr
constexpr size_t kLongestScope = 4096;

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

std::chrono::system_clock::time_point At(uint64_t second) {
  return std::chrono::system_clock::time_point(seconds(second));
}

// RFC 6749 3.3: printable ASCII without '"' and '\', one space between two.
std::optional<std::set<std::string>> ParseScope(std::string_view text) {
  std::set<std::string> scopes;
  while (true) {
    const std::string_view scope = text.substr(0, text.find(' '));
    const bool sound = !scope.empty() && std::all_of(scope.begin(), scope.end(), [](char c) {
      return c > ' ' && c < '\x7f' && c != '"' && c != '\\';
    });
    if (!sound) return {};
    scopes.emplace(scope);
    if (scope.size() == text.size()) return scopes;
    text.remove_prefix(scope.size() + 1);
  }
}

bool Names(const json& aud, const std::string& audience) {
  return aud.is_array() ? std::find(aud.begin(), aud.end(), audience) != aud.end()
                        : aud == audience;
}

tl::expected<Binding, Refusal> ReadBinding(const json* cnf) {
  Binding binding;
  for (const auto& [name, key] :
       {std::pair("x5t#S256", &binding.certificate), std::pair("jkt", &binding.proof_key)}) {
    const auto value = cnf == nullptr ? json() : cnf->value(name, json());
    if (value.is_null()) continue;
    if (value.is_string()) *key = DecodeSha256(value.get_ref<const std::string&>());
    if (*key) continue;
    return Refuse(Reason::token_binding_fail,
                  fmt::format("cnf/{}: expected a SHA-256 value in base64url", name));
  }
  if (binding.certificate || binding.proof_key) return binding;
  return Refuse(Reason::token_binding_fail,
                "cnf: expected x5t#S256 (RFC 8705) or jkt (RFC 9449); found neither");
}

tl::expected<void, Refusal> CheckExpiry(std::chrono::system_clock::time_point expiry,
                                        const ClaimRules& rules, const Moment& now) {
  if (now.wall < expiry + rules.leeway) return {};
  return Refuse(Reason::token_expired,
                fmt::format("expired {} s ago; {} s of leeway are allowed",
                            std::chrono::duration_cast<seconds>(now.wall - expiry).count(),
                            rules.leeway.count()));
}

}  // namespace

tl::expected<AccessToken, Refusal> ReadClaims(const json& claims, TokenForm form,
                                              const ClaimRules& rules, std::string_view interface,
                                              const std::string& name, const DenyList& denied,
                                              const Moment& now) {
  // RFC 9068 2.2. RFC 7662 leaves sub, iat and jti to the server; a client that acts for itself is
  // its own subject.
  const bool jwt = form == TokenForm::jwt;
  const Presence in_jwt = jwt ? Presence::required : Presence::optional;
  std::optional<Error> error;
  model::Fields fields(claims, "", error);
  AccessToken token;
  token.issuer = fields.Text("iss", kLongestName);
  token.client_id = fields.Text("client_id", kLongestName);
  token.subject = fields.Text("sub", kLongestName, in_jwt);
  token.jti = fields.Text("jti", kLongestName, in_jwt);
  const uint64_t expiry = fields.Number("exp", 1, kLastSecond);
  const auto optional_time = std::optional<uint64_t>(0);
  const uint64_t issued = fields.Number("iat", 0, kLastSecond, jwt ? std::nullopt : optional_time);
  const uint64_t not_before = fields.Number("nbf", 0, kLastSecond, optional_time);
  const uint64_t auth_time = fields.Number("auth_time", 0, kLastSecond, optional_time);
  token.acr = fields.Text("acr", kLongestName, Presence::optional);
  const json* aud = fields.Find("aud", Presence::required);
  const std::string scope = fields.Text("scope", kLongestScope, Presence::optional);
  const json* cnf = fields.Object("cnf", Presence::optional);
  for (const auto& claim : rules.required_claims) fields.Find(claim.c_str(), Presence::required);
  if (error) return Refuse(Reason::token_claims_fail, error->Text());

  if (token.issuer != rules.issuer) {
    return Refuse(Reason::token_issuer_unknown,
                  "/iss: expected " + rules.issuer + "; found " + Describe(token.issuer));
  }
  if (token.subject.empty()) token.subject = token.client_id;
  if (token.jti.empty()) token.jti = name;
  token.expiry = At(expiry);
  if (auth_time != 0) token.auth_time = At(auth_time);
  if (auto good = CheckExpiry(token.expiry, rules, now); !good) {
    return tl::unexpected(good.error());
  }
  if (At(std::max(issued, not_before)) > now.wall + rules.leeway) {
    return Refuse(Reason::token_not_yet_valid,
                  fmt::format("iat or nbf is more than {} s ahead", rules.leeway.count()));
  }
  const auto audience = rules.audiences.find(interface);
  if (audience == rules.audiences.end() || !Names(*aud, audience->second)) {
    return Refuse(Reason::token_aud_fail,
                  audience == rules.audiences.end()
                      ? fmt::format("this issuer has no audience for interface {}", interface)
                      : "/aud: expected " + audience->second + "; found " + Describe(*aud));
  }
  token.audience = audience->second;
  if (scope.empty()) return Refuse(Reason::token_scope_fail, "/scope: the token has none");
  auto scopes = ParseScope(scope);
  if (!scopes) {
    return Refuse(Reason::token_claims_fail,
                  "/scope: expected names with one space between two (RFC 6749 3.3)");
  }
  token.scopes = std::move(*scopes);
  const auto binding = ReadBinding(cnf);
  if (!binding) return tl::unexpected(binding.error());
  token.binding = *binding;
  if (denied.Denies({Denial::What::token, token.issuer, token.jti})) {
    return Refuse(Reason::token_revoked, "its jti " + Describe(token.jti) + " was revoked");
  }
  return token;
}

tl::expected<void, Refusal> CheckAgain(const AccessToken& token, const ClaimRules& rules,
                                       std::string_view interface, const DenyList& denied,
                                       const Moment& now) {
  if (denied.Denies({Denial::What::issuer, token.issuer, {}}) ||
      denied.Denies({Denial::What::key, token.issuer, token.kid}) ||
      denied.Denies({Denial::What::token, token.issuer, token.jti})) {
    return Refuse(Reason::token_revoked, "it, its key or its issuer was revoked meanwhile");
  }
  const auto audience = rules.audiences.find(interface);
  if (audience == rules.audiences.end() || token.audience != audience->second) {
    return Refuse(Reason::token_aud_fail, "it was accepted for another interface");
  }
  return CheckExpiry(token.expiry, rules, now);
}

tl::expected<void, Refusal> CheckBinding(const AccessToken& token, std::span<const uint8_t> der,
                                         bool proved) {
  const auto& [certificate, proof_key] = token.binding;
  if (!certificate && !proof_key) return Refuse(Reason::token_binding_fail, "bound to nothing");
  if (proof_key && !proved) {
    return Refuse(Reason::token_binding_fail,
                  "the token is bound to a proof key (jkt), and there is no proof");
  }
  if (!certificate) return {};
  const Sha256 shown = DigestOf({reinterpret_cast<const char*>(der.data()), der.size()});
  if (!der.empty() && EqualInConstantTime(shown, *certificate)) return {};
  return Refuse(Reason::token_binding_fail,
                "the token is bound to another certificate (x5t#S256) than the client's");
}

}  // namespace portcullis::identity
