#include "control/identity/token/introspection.hpp"

#include <nlohmann/json.hpp>

#include "base/secret.hpp"
#include "control/identity/token/issuer.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

namespace asio = boost::asio;

namespace {
tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}
}  // namespace

Result<Introspector> Introspector::Create(asio::any_io_executor executor,
                                          IntrospectionConfig config, const DenyList& denied,
                                          const std::string& where) {
  if (auto good = Check(config.claims, where); !good) return tl::unexpected(good.error());
  auto endpoint = OauthEndpoint::Create(std::move(executor), config.endpoint, where);
  if (!endpoint) return tl::unexpected(endpoint.error());
  return Introspector(std::move(config), denied, *std::move(endpoint));
}

asio::awaitable<Introspector::Answer> Introspector::Verify(std::string token,
                                                           std::string interface) {
  const std::string name = TokenName(token);
  auto answer = Answer(Refuse(Reason::token_malformed, "expected the characters of RFC 6750 2.1"));
  if (IsBearerToken(token)) answer = co_await Ask(token, interface, DigestOf(token));
  Wipe(token);
  if (!answer) {
    Refusal& refusal = answer.error();
    refusal.detail = fmt::format("token {}: {}", name, refusal.detail);
  }
  co_return answer;
}

asio::awaitable<Introspector::Answer> Introspector::Ask(const std::string& token,
                                                        const std::string& interface,
                                                        const Sha256& id) {
  const Moment before = Moment::Now();
  if (const auto known = cache_.find(id);
      known != cache_.end() && before.steady < known->second.until) {
    const auto still = CheckAgain(known->second.token, config_.claims, interface, denied_, before);
    if (!still) co_return tl::unexpected(still.error());
    co_return known->second.token;
  }
  std::string form = "token_type_hint=access_token&token=" + EncodeForForm(token);
  const auto said = co_await endpoint_.Ask(std::move(form));
  if (!said || !said->ok()) {
    const Error why = said ? endpoint_.WrongStatus(*said).value() : said.error();
    co_return Refuse(Reason::token_key_unknown, "asking its issuer: " + why.Text());
  }
  auto answer = Read(said->body, interface, TokenName(token));
  if (answer) Remember(id, *answer, Moment::Now());
  co_return answer;
}

Introspector::Answer Introspector::Read(const std::string& text, const std::string& interface,
                                        const std::string& name) const {
  const auto unusable = [](const std::string& why) {
    return Refuse(Reason::token_key_unknown, "its issuer's answer cannot be used: " + why);
  };
  const auto claims = model::ParseJson(text);
  if (!claims) return unusable(claims.error().Text());
  const auto active = claims->is_object() ? claims->find("active") : claims->end();
  if (!claims->is_object() || active == claims->end() || !active->is_boolean()) {
    return unusable("expected an object with 'active' (RFC 7662 2.2)");
  }
  if (!active->get<bool>()) {
    return Refuse(Reason::token_revoked, "its issuer says that it is not active");
  }
  const Moment now = Moment::Now();
  auto answer =
      ReadClaims(*claims, TokenForm::introspected, config_.claims, interface, name, denied_, now);
  if (answer) {
    const auto still = CheckAgain(*answer, config_.claims, interface, denied_, now);
    if (!still) return tl::unexpected(still.error());
  }
  return answer;
}

void Introspector::Remember(const Sha256& id, const AccessToken& token, const Moment& now) {
  if (cache_.size() >= config_.cache_most) {
    std::erase_if(cache_, [&](const auto& entry) { return entry.second.until <= now.steady; });
  }
  if (cache_.size() < config_.cache_most || cache_.contains(id)) {
    cache_.insert_or_assign(id, Known{token, now.steady + config_.cache_for});
  }
}

}  // namespace portcullis::identity
