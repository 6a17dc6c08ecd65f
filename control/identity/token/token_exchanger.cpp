#include "control/identity/token/token_exchanger.hpp"

#include <algorithm>
#include <utility>

#include "control/coroutines.hpp"
#include "control/model/fields.hpp"

namespace portcullis::identity {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* kGrant = "urn:ietf:params:oauth:grant-type:token-exchange";
constexpr const char* kAccessToken = "urn:ietf:params:oauth:token-type:access_token";

tl::unexpected<Refusal> Unavailable(std::string detail) {
  return tl::unexpected(Refusal{Reason::gate_unavailable, "token exchange: " + std::move(detail)});
}

// RFC 8693 2.2.2: a subject token that does not do is an invalid_request; many servers say
// invalid_grant, the word of RFC 6749 5.2 for it. All other errors are the gate's own, or no
// answer.
bool IsAboutTheToken(const std::string& error) {
  return error == "invalid_request" || error == "invalid_grant" || error == "invalid_target";
}

}  // namespace

Result<std::shared_ptr<TokenExchanger>> TokenExchanger::Create(asio::any_io_executor executor,
                                                               TokenExchangeConfig config,
                                                               const std::string& where) {
  if (config.audience.empty() && config.resource.empty()) {
    return Invalid(where + ".audience", "for whom are the tokens?", "audience, resource, or both",
                   "neither");
  }
  auto endpoint = OauthEndpoint::Create(executor, config.endpoint, where);
  if (!endpoint) return tl::unexpected(endpoint.error());
  return std::shared_ptr<TokenExchanger>(
      new TokenExchanger(std::move(executor), std::move(config), *std::move(endpoint)));
}

asio::awaitable<TokenExchanger::Answer> TokenExchanger::Exchange(Subject subject) {
  if (subject.epoch != epoch_) {
    known_.clear();
    pending_.clear();  // who waits there, gets what was asked for
    epoch_ = subject.epoch;
  }
  const Sha256 id = DigestOf(subject.token);
  if (const auto known = known_.find(id);
      known != known_.end() && Clock::now() < known->second.until) {
    co_return known->second.answer;
  }
  if (const auto found = pending_.find(id); found != pending_.end()) {
    const std::shared_ptr<Pending> pending = found->second;
    co_await pending->over.async_wait(kAwait);
    co_return pending->answer;
  }
  const auto pending = std::make_shared<Pending>(executor_);
  pending->over.expires_at(Clock::time_point::max());
  pending_.emplace(id, pending);
  // However it ends, nobody waits for it any longer.
  const std::shared_ptr<void> ending(nullptr, [this, id, pending](void*) {
    const auto found = pending_.find(id);
    if (found != pending_.end() && found->second == pending) pending_.erase(found);
    pending->over.cancel();
  });
  Known known = co_await Ask(subject);
  Wipe(subject.token);
  pending->answer = known.answer;
  if (subject.epoch == epoch_) Remember(id, std::move(known));
  co_return pending->answer;
}

// RFC 8693 2.1. There is no actor token: the gate says who it is by authenticating itself.
std::string TokenExchanger::Form(const std::string& token) const {
  std::string form = "grant_type=" + EncodeForForm(kGrant);
  const auto add = [&](const char* name, std::string_view value) {
    if (!value.empty()) form += fmt::format("&{}={}", name, EncodeForForm(value));
  };
  add("audience", config_.audience);
  add("resource", config_.resource);
  add("scope", config_.scope);
  add("requested_token_type", kAccessToken);
  add("subject_token_type", kAccessToken);
  add("subject_token", token);
  return form;
}

asio::awaitable<TokenExchanger::Known> TokenExchanger::Ask(const Subject& subject) {
  std::string form = Form(subject.token);
  auto said = co_await endpoint_.Ask(std::move(form));
  Known known{Unavailable(said ? std::string() : said.error().Text()), {}};
  if (!said) co_return known;
  if (said->ok()) {
    auto got = ReadTokenAnswer(said->body, "Bearer");
    Wipe(said->body);
    known = Use(got, subject);
    if (got) Wipe(got->token);
    co_return known;
  }
  known.until = Clock::now() + config_.refused_for;
  const std::string error = ReadTokenError(said->body);
  if (IsAboutTheToken(error)) {
    Refusal refusal{Reason::exchange_denied, "the authorisation server says " + error};
    known.answer = tl::unexpected(std::move(refusal));
  } else {
    known.answer =
        Unavailable("the authorisation server refuses the gate itself: " + model::Describe(error));
  }
  co_return known;
}

// Without expires_in nobody knows how long the token lasts: it serves those who wait for it.
TokenExchanger::Known TokenExchanger::Use(const Result<TokenAnswer>& got,
                                          const Subject& subject) const {
  const auto now = Clock::now();
  if (!got) return {Unavailable(got.error().Text()), now + config_.refused_for};
  if (got->issued_type != kAccessToken) {
    return {Unavailable(fmt::format("issued_token_type: expected {}; found {}", kAccessToken,
                                    model::Describe(got->issued_type))),
            now + config_.refused_for};
  }
  const auto left = subject.expiry - std::chrono::system_clock::now();
  const auto life =
      std::min<Clock::duration>(left, got->expires_in.value_or(std::chrono::seconds(0)));
  return {std::make_shared<const Secret>(Bytes(got->token)), now + life - config_.margin};
}

void TokenExchanger::Remember(const Sha256& id, Known known) {
  const auto now = Clock::now();
  if (known.until <= now) return;
  if (known_.size() >= config_.most) {
    std::erase_if(known_, [&](const auto& entry) { return entry.second.until <= now; });
  }
  if (known_.size() >= config_.most) {
    known_.erase(
        std::ranges::min_element(known_, {}, [](const auto& entry) { return entry.second.until; }));
  }
  known_.insert_or_assign(id, std::move(known));
}

}  // namespace portcullis::identity
