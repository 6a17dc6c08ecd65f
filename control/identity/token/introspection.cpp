#include "control/identity/token/introspection.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>
#include <nlohmann/json.hpp>

#include "base/secret.hpp"
#include "control/identity/private_file.hpp"
#include "control/identity/token/issuer.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {
constexpr size_t kLongestToken = 8192;
constexpr size_t kLongestAnswer = 64U << 10U;

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

// RFC 6750 2.1: what a bearer token is made of.
bool IsToken(std::string_view text) {
  return !text.empty() && text.size() <= kLongestToken &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("-._~+/=").find(c) != std::string_view::npos;
         });
}

// RFC 6749 2.3.1: both parts encoded as in a form, then as RFC 7617 says.
Result<Secret> Basic(const IntrospectionConfig& config, const std::string& where) {
  if (config.client_id.empty()) return Secret();
  const auto file = ReadPrivateFile(config.client_secret, where + ".client_secret");
  if (!file) return tl::unexpected(file.error());
  std::string secret(file->bytes().begin(), file->bytes().end());
  while (secret.ends_with('\n') || secret.ends_with('\r')) secret.pop_back();
  std::string pair = boost::urls::encode(config.client_id, boost::urls::unreserved_chars) + ":" +
                     boost::urls::encode(secret, boost::urls::unreserved_chars);
  const bool none = secret.empty();
  Wipe(secret);
  if (none) {
    return Invalid(where + ".client_secret", "not a secret: " + config.client_secret,
                   "at least one character", "none");
  }
  std::string header = "Basic ";
  std::string encoded(4 * ((pair.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                     reinterpret_cast<const unsigned char*>(pair.data()),
                                     static_cast<int>(pair.size()));
  header.append(encoded, 0, static_cast<size_t>(length));
  Wipe(pair);
  Wipe(encoded);
  Secret out{Bytes(header)};
  Wipe(header);
  return out;
}
}  // namespace

Result<Introspector> Introspector::Create(asio::any_io_executor executor,
                                          IntrospectionConfig config, const DenyList& denied,
                                          const std::string& where) {
  if (auto good = Check(config.claims, where); !good) return tl::unexpected(good.error());
  if (config.timeout <= milliseconds(0) || config.at_once_most == 0) {
    return Invalid(where, "timeout or at_once_most is out of range", "more than 0");
  }
  auto client = HttpsClient::Create(config.url, config.tls, where);
  if (!client) return tl::unexpected(client.error());
  auto authorization = Basic(config, where);
  if (!authorization) return tl::unexpected(authorization.error());
  return Introspector(std::move(executor), std::move(config), denied, std::move(*client),
                      std::move(*authorization));
}

asio::awaitable<Introspector::Answer> Introspector::Verify(std::string token,
                                                           std::string interface) {
  const std::string name = TokenName(token);
  auto answer = Answer(Refuse(Reason::token_malformed, "expected the characters of RFC 6750 2.1"));
  if (IsToken(token)) answer = co_await Ask(token, interface, DigestOf(token));
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
  if (before.steady < silent_until_ || under_way_ >= config_.at_once_most) {
    co_return Refuse(Reason::token_key_unknown, "its issuer does not answer now; not asked again");
  }
  HttpsClient::Question question;
  question.form = "token_type_hint=access_token&token=" +
                  boost::urls::encode(token, boost::urls::unreserved_chars);
  if (!authorization_.empty()) {
    const auto header = authorization_.bytes();
    question.headers.emplace_back("Authorization", std::string(header.begin(), header.end()));
  }
  question.most_bytes = kLongestAnswer;
  question.timeout = config_.timeout;
  ++under_way_;
  const auto text = co_await client_.Ask(executor_, std::move(question));
  --under_way_;
  const Moment after = Moment::Now();
  if (!text) {
    silent_until_ = after.steady + config_.pause_after_failure;
    co_return Refuse(Reason::token_key_unknown, "asking its issuer: " + text.error().Text());
  }
  auto answer = Read(*text, interface, TokenName(token));
  if (answer) Remember(id, *answer, after);
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
