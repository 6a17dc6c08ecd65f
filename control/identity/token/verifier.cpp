#include "control/identity/token/verifier.hpp"

#include "control/identity/token/compact_jws.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

using model::Describe;

namespace {
tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}
}  // namespace

TokenVerifier::TokenVerifier(std::vector<std::shared_ptr<const Issuer>> issuers,
                             const DenyList& denied)
    : denied_(denied) {
  for (auto& issuer : issuers) {
    std::string name = issuer->config().claims.issuer;
    issuers_.emplace(std::move(name), std::move(issuer));
  }
}

tl::expected<AccessToken, Refusal> TokenVerifier::Verify(std::string_view token,
                                                         std::string_view interface,
                                                         const Moment& now) const {
  auto verified = Check(token, interface, now);
  if (!verified) {
    Refusal& refusal = verified.error();
    refusal.detail = fmt::format("token {}: {}", TokenName(token), refusal.detail);
  }
  return verified;
}

tl::expected<AccessToken, Refusal> TokenVerifier::Check(std::string_view token,
                                                        std::string_view interface,
                                                        const Moment& now) const {
  const auto jws = ParseCompact(token, kLongestToken);
  if (!jws) return Refuse(Reason::token_malformed, jws.error().Text());
  // RFC 9068 4, RFC 8725 3.11: an ID token of the same issuer is no access token.
  const std::string_view typ = jws->Header("typ");
  if (typ != "at+jwt" && typ != "application/at+jwt") {
    return Refuse(Reason::token_malformed,
                  "header/typ: expected at+jwt; found " + Describe(std::string(typ)));
  }

  // Still unverified: who says to have signed this, and with which of its keys?
  const auto iss = jws->payload.find("iss");
  if (iss == jws->payload.end() || !iss->is_string()) {
    return Refuse(Reason::token_claims_fail, "payload/iss: expected a text");
  }
  const auto found = issuers_.find(iss->get_ref<const std::string&>());
  if (found == issuers_.end()) {
    return Refuse(Reason::token_issuer_unknown,
                  "payload/iss: expected a configured issuer; found " + Describe(*iss));
  }
  const Issuer& issuer = *found->second;
  const std::string kid(jws->Header("kid"));
  if (denied_.Denies({Denial::What::issuer, found->first, {}}) ||
      denied_.Denies({Denial::What::key, found->first, kid})) {
    return Refuse(Reason::token_revoked, "its issuer or its key was revoked");
  }
  if (kid.empty()) return Refuse(Reason::token_key_unknown, "header/kid: the token names no key");
  const auto keys = issuer.Keys(now);
  const SigningKey* key = keys ? keys->Find(kid) : nullptr;
  if (key == nullptr) {
    issuer.WantKeys();
    return Refuse(Reason::token_key_unknown,
                  keys ? "header/kid: not in the issuer's key set: " + Describe(kid)
                       : "the issuer's key set could not be had, or is too old");
  }
  // RFC 8725 3.1: the key decides the algorithm; the token may only agree.
  if (jws->Header("alg") != Name(key->algorithm)) {
    return Refuse(Reason::token_sig_fail,
                  fmt::format("header/alg: expected {}, the key's; found {}", Name(key->algorithm),
                              Describe(std::string(jws->Header("alg")))));
  }
  if (!key->key.Verifies(key->algorithm, jws->signing_input, jws->signature)) {
    return Refuse(Reason::token_sig_fail, "the signature is wrong");
  }

  auto verified =
      ReadClaims(jws->payload, TokenForm::jwt, issuer.config().claims, interface, {}, denied_, now);
  if (verified) verified->kid = kid;
  return verified;
}

bool TokenVerifier::KnowsKeyOf(const AccessToken& token, const Moment& now) const {
  const auto issuer = issuers_.find(token.issuer);
  if (issuer == issuers_.end()) return false;
  const auto keys = issuer->second->Keys(now);
  return keys != nullptr && keys->Find(token.kid) != nullptr;
}

}  // namespace portcullis::identity
