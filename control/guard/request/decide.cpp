#include "control/guard/request/decide.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/admission/reference.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using identity::Reason;
using profiles::Fault;

namespace {

constexpr size_t kMostToApprove = 32U << 10U;  // as control takes (admission.proto, Whole)
constexpr size_t kMostTarget = 8192;
constexpr int kMostTries = 5;

// A string of RFC 8941 3.3.3; what it cannot hold becomes a question mark.
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c >= ' ' && c <= '~' ? c : '?';
  }
  return quoted + '"';
}

bool NeedsApproval(const admission::Permitted& permit, const Reading& reading) {
  return std::ranges::any_of(reading.operations, [&](const profiles::Operation* operation) {
    return std::ranges::find(permit.approval(), operation->name) != permit.approval().end();
  });
}

}  // namespace

std::string ClientText(const admission::Permitted& permit, const std::string& reference) {
  return fmt::format("peer={}, tenant={}, role={}, request={}", Quoted(permit.peer()),
                     Quoted(permit.tenant()), Quoted(permit.role()), Quoted(reference));
}

asio::awaitable<Step<Decided>> Decider::Decide(Exchange& exchange) {
  const RequestHead& request = exchange.head();
  auto proven = co_await Prove(request);
  if (!proven) co_return tl::unexpected(std::move(proven.error()));
  Decided decided;
  decided.interface = interface_.name;
  decided.proven = *std::move(proven);
  decided.profile = interface_.profile;  // a reload may change both
  decided.server = interface_.server;
  Reading& reading = decided.reading;
  reading.method = request.method;
  reading.path = PathOf(request.target);
  // An operator's word against a weakness goes before everything that looks closer.
  if (auto open = CheckBlocks(*decided.proven->permit, reading.method, reading.path); !open) {
    co_return Stop(std::move(open.error()));
  }
  auto match = decided.profile->Find(request.method, request.target, interface_.root);
  if (!match) co_return StopFor(match.error());
  reading.match = *match;
  auto read = co_await Read(exchange, decided);
  if (!read) co_return tl::unexpected(std::move(read.error()));
  decided.about = reading.match.About();
  auto judged = co_await JudgeNow(exchange, decided);
  // A body may have been long in coming, and policy have changed since it began: by that of now it
  // is judged, and not lost for a change that is none for it.
  for (int tries = 0; judged && !StillPermitted(*decided.proven); ++tries) {
    if (tries == kMostTries) {
      co_return Stop(Reason::gate_unavailable, "what is permitted changes while it is judged");
    }
    auto renewed = co_await Renew(decided);
    if (!renewed) co_return Stop(std::move(renewed.error()));
    judged = co_await JudgeNow(exchange, decided);
  }
  if (!judged) co_return tl::unexpected(std::move(judged.error()));
  decided.gateway = exchange.gateway();
  if (const auto missed = Books::NeedsAnswer(decided); missed && !decided.gateway.empty()) {
    co_return Stop(Reason::not_decidable, "only the server's answer tells " + *missed);
  }
  decided.reference = admission::NewReference();
  auto begun = co_await books_.Begin(decided, client_.from);
  if (!begun) co_return Stop(std::move(begun.error()));
  co_return decided;
}

// Whose it is, what that makes of it, and whether all of it is permitted.
asio::awaitable<Step<void>> Decider::JudgeNow(Exchange& exchange, Decided& decided) {
  auto owner = co_await OwnerOf(decided);
  if (!owner) co_return Stop(std::move(owner.error()));
  decided.owner = *std::move(owner);
  const admission::Permitted& permit = *decided.proven->permit;
  Reading& reading = decided.reading;
  reading.operations = decided.asked;
  const profiles::Rule& rule = *reading.match.rule;
  const bool owned = decided.owner && !decided.owner->empty();
  decided.only_absent = rule.creates.from == profiles::Creates::From::path && !owned;
  if (!rule.replaces.empty() && owned) {
    std::erase(reading.operations, rule.operation);
    for (const auto* operation : rule.replaces) reading.operations.push_back(operation);
  }
  Registration(decided);
  if (auto may = Judge(permit, reading, decided.owner); !may)
    co_return Stop(std::move(may.error()));
  if (!decided.whole && NeedsApproval(permit, reading)) {
    auto whole = co_await ReadWhole(exchange, decided);
    if (!whole) co_return whole;
  }
  auto exchanged = co_await ExchangeToken(exchange.head(), decided);
  co_return exchanged;
}

// The books name who it was that asked; what somebody must let pass now did not have to then.
asio::awaitable<bool> Decider::Still(Decided& decided) {
  if (StillPermitted(*decided.proven)) co_return true;
  const auto begun = decided.proven;
  const auto renewed = co_await Renew(decided);
  if (!renewed) co_return false;
  const admission::Permitted& was = *begun->permit;
  const admission::Permitted& is = *decided.proven->permit;
  co_return is.peer() == was.peer() && is.tenant() == was.tenant() && is.role() == was.role() &&
      (decided.whole || !NeedsApproval(is, decided.reading)) &&
      Judge(is, decided.reading, decided.owner).has_value();
}

asio::awaitable<Outcome<void>> Decider::Renew(Decided& decided) {
  auto proven = co_await Permit(decided.proven->token);
  if (!proven) co_return tl::unexpected(std::move(proven.error()));
  decided.proven = *std::move(proven);
  co_return Outcome<void>{};
}

// What the request means for the peer's registration, and whether it needs one. Control knows who
// is registered, and is asked about each request.
void Decider::Registration(Decided& decided) {
  const profiles::Profile& profile = *decided.profile;
  if (profile.opens == nullptr) return;
  const profiles::Operations& operations = decided.reading.operations;
  const auto is = [&](const profiles::Operation* one) {
    return std::ranges::find(operations, one) != operations.end();
  };
  decided.registered = !is(profile.opens) || operations.size() > 1;
  if (is(profile.opens)) decided.registration = admission::OPENED;
  if (is(profile.closes)) decided.registration = admission::CLOSED;
}

// Token and permit, unless the connection has shown this token before and nothing has changed.
asio::awaitable<Step<std::shared_ptr<const Proven>>> Decider::Prove(const RequestHead& request) {
  for (const char* once : {"Authorization", "DPoP"}) {
    if (request.fields.count(once) < 2) continue;
    co_return StopFor(Error{ErrorKind::kInvalid, "a header appears twice", once, "once", "more"});
  }
  const std::string_view authorization(request.fields[http::field::authorization]);
  const auto digest = identity::DigestOf(authorization);
  // An opaque token's issuer is asked again: only it knows whether the token still counts. Of one
  // that is good for one request, control knows; and a proof is made for each request.
  if (!credentials_.ByProof(authorization) && proven_ && digest_ == digest &&
      !proven_->token.kid.empty() && !proven_->permit->one_time() && StillPermitted(*proven_)) {
    co_return proven_;
  }
  proven_.reset();
  Credentials shown{std::string(authorization), std::string(request.fields["DPoP"]), request.method,
                    std::string(PathOf(request.target))};
  std::string name = interface_.name;
  auto token = co_await credentials_.Authorise(std::move(shown), std::move(name));
  if (!token) co_return Stop(std::move(token.error()));
  auto proven = co_await Permit(*std::move(token));
  if (!proven) co_return Stop(std::move(proven.error()));
  proven_ = *proven;
  digest_ = digest;
  co_return proven_;
}

asio::awaitable<Outcome<std::shared_ptr<const Proven>>> Decider::Permit(
    identity::AccessToken token) {
  admission::Identity identity = credentials_.IdentityMessage();
  admission::Token message = TokenMessage(token);
  std::string name = interface_.name;
  auto permit =
      co_await context_.permits.Of(std::move(identity), std::move(message), std::move(name));
  if (!permit) co_return tl::unexpected(std::move(permit.error()));
  // It may have been revoked while control was asked.
  if (auto valid = credentials_.StillValid(token); !valid) co_return Deny(std::move(valid.error()));
  co_return std::make_shared<const Proven>(
      Proven{std::move(token), std::move(permit->permit), permit->until});
}

bool Decider::StillPermitted(const Proven& proven) const {
  return std::chrono::steady_clock::now() < proven.until &&
         context_.permits.Current(*proven.permit) &&
         credentials_.StillValid(proven.token).has_value();
}

asio::awaitable<Step<void>> Decider::Read(Exchange& exchange, Decided& decided) {
  const RequestHead& request = exchange.head();
  Reading& reading = decided.reading;
  const profiles::Rule& rule = *reading.match.rule;
  decided.asked = {rule.operation};
  const std::string_view type(request.fields[http::field::content_type]);
  const bool has_body = exchange.unread();
  if (auto none = CheckHasNoNeedlessBody(exchange); !none) {
    co_return tl::unexpected(std::move(none.error()));
  }
  if (has_body && !profiles::Accepts(rule, type)) co_return StopFor(Fault::body_media_type);
  if (!reading.match.NeedsBody()) co_return Step<void>{};
  if (request.fields.count(http::field::content_encoding) > 0) {
    co_return StopFor(Fault::body_media_type);  // nobody looks into what is compressed
  }
  auto body = co_await ReadAll(exchange, decided.profile->body_limit, limits_.request_time);
  if (!body) co_return tl::unexpected(std::move(body.error()));
  auto classified = profiles::Classify(*decided.profile, reading.match, type, *body);
  if (!classified) co_return StopFor(std::move(classified.error().error));
  decided.asked = std::move(classified->operations);
  reading.callers = std::move(classified->callers);
  reading.callbacks = std::move(classified->callbacks);
  decided.body = *std::move(body);
  co_return Step<void>{};
}

// What somebody is to approve, he must be able to look at; and what goes on is what he has seen.
asio::awaitable<Step<void>> Decider::ReadWhole(Exchange& exchange, Decided& decided) {
  const RequestHead& request = exchange.head();
  if (request.fields.count(http::field::content_encoding) > 0) {
    co_return StopFor(Fault::body_media_type);
  }
  if (!decided.body && exchange.unread()) {
    const size_t most = std::min(decided.profile->body_limit, kMostToApprove);
    auto body = co_await ReadAll(exchange, most, limits_.request_time);
    if (!body) co_return tl::unexpected(std::move(body.error()));
    decided.body = *std::move(body);
  }
  admission::Whole& whole = decided.whole.emplace();
  whole.set_target(request.target);
  whole.set_content_type(std::string(request.fields[http::field::content_type]));
  if (decided.body) whole.set_body(*decided.body);
  if (whole.body().size() > kMostToApprove || request.target.size() > kMostTarget) {
    co_return TooLarge("what another person must approve", kMostToApprove);
  }
  co_return Step<void>{};
}

// What the client showed is bound to its key; the server gets one of the gate's own, if any.
asio::awaitable<Step<void>> Decider::ExchangeToken(const RequestHead& request, Decided& decided) {
  // Kept alive here: a reload puts another in its place.
  const std::shared_ptr<identity::TokenExchanger> exchanger = interface_.exchanger;
  if (!exchanger) co_return Step<void>{};
  std::string token(TokenOf(request.fields[http::field::authorization]));
  const auto expiry = decided.proven->token.expiry;
  identity::TokenExchanger::Subject subject{std::move(token), expiry, context_.permits.changes()};
  auto answer = co_await exchanger->Exchange(std::move(subject));
  if (!answer) co_return Stop(std::move(answer.error()));
  decided.token = *std::move(answer);
  co_return Step<void>{};
}

asio::awaitable<Outcome<std::optional<std::string>>> Decider::OwnerOf(const Decided& decided) {
  std::optional<std::string> owner;
  if (!decided.about) co_return owner;
  std::string kind(decided.about->kind);
  auto found =
      co_await context_.permits.OwnerOf(decided.interface, std::move(kind), decided.about->id);
  if (!found) co_return tl::unexpected(std::move(found.error()));
  owner = *std::move(found);
  co_return owner;
}

}  // namespace portcullis::guard
