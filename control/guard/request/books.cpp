#include "control/guard/request/books.hpp"

#include <spdlog/spdlog.h>

#include <utility>

#include "control/guard/credentials.hpp"
#include "control/guard/session/address.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using profiles::Creates;
using profiles::Resource;

namespace {

constexpr size_t kMostAnswerBytes = 64U << 10U;  // that is read for what was created
constexpr unsigned kFirstSuccess = 200;
constexpr unsigned kFirstRedirect = 300;
constexpr unsigned kCreated = 201;

bool IsSuccess(unsigned status) {
  return status >= kFirstSuccess && status < kFirstRedirect;
}

}  // namespace

// In step with OutcomeOf() and Created().
std::optional<std::string> Books::NeedsAnswer(const Decided& request) {
  const profiles::Rule& rule = *request.reading.match.rule;
  const bool replaces = rule.creates.from == Creates::From::path && !request.only_absent;
  if (rule.creates.from != Creates::From::nothing && !replaces) return "whose it is what it makes";
  if (rule.deletes) return "that the resource is gone, and nobody's any more";
  if (request.registration != admission::UNCHANGED) return "whether the peer is registered now";
  return {};
}

// What is told of the answer; what is gone is forgotten here as well.
admission::Request Books::OutcomeOf(const Decided& request, unsigned status, uint64_t sent,
                                    uint64_t received) {
  admission::Request message;
  admission::Outcome& outcome = *message.mutable_outcome();
  outcome.set_id(request.reference);
  outcome.set_status(status);
  outcome.set_request_bytes(sent);
  outcome.set_response_bytes(received);
  if (!IsSuccess(status)) return message;
  outcome.set_registration(request.registration);
  if (!request.reading.match.rule->deletes) return message;
  outcome.set_deleted(true);
  permits_.Forget(request.interface, std::string(request.about->kind), request.about->id);
  return message;
}

asio::awaitable<Outcome<void>> Books::Begin(Decided& request, const asio::ip::tcp::endpoint& from) {
  const Reading& reading = request.reading;
  const admission::Permitted& permit = *request.proven->permit;
  admission::Operate operate;
  operate.set_id(request.reference);
  operate.set_peer(permit.peer());
  operate.set_tenant(permit.tenant());
  operate.set_interface(request.interface);
  operate.set_method(std::string(reading.method));
  operate.set_path(std::string(reading.path));  // whole: another one must not look like it
  for (const auto* operation : reading.operations) {
    operate.add_operations(operation->name);
    request.change = request.change || operation->effect == profiles::Effect::change;
  }
  if (request.about) {
    operate.set_kind(std::string(request.about->kind));
    operate.set_resource(request.about->id);
  }
  operate.set_change(request.change);
  operate.set_registered(request.registered);
  operate.set_gateway(request.gateway);
  operate.set_source(steer::ToBytes(ToAddress(from.address())));
  if (request.whole) *operate.mutable_whole() = *request.whole;
  *operate.mutable_token() = TokenMessage(request.proven->token);
  return outcomes_.Begin(std::move(operate));
}

void Books::End(const Decided& request, unsigned status, uint64_t sent, uint64_t received) {
  outcomes_.End(OutcomeOf(request, status, sent, received), request.change);
}

// By the answer; nothing also where that does not say it.
asio::awaitable<std::optional<Resource>> Books::Created(const Decided& request, Relay& relay) {
  const auto from = request.reading.match.rule->creates.from;
  if (from == Creates::From::nothing || !IsSuccess(relay.status())) co_return std::nullopt;
  if (request.only_absent && relay.status() != kCreated) {
    spdlog::error("{}: the server answers {} to {}, which was to replace nothing: it is nobody's",
                  request.interface, relay.status(), request.reference);
    co_return std::nullopt;
  }
  std::string answer;
  if (from == Creates::From::member) {
    auto body = co_await relay.Body(kMostAnswerBytes);
    if (body) answer = *std::move(body);
  }
  auto created = request.reading.match.Created(relay.location(), answer);
  if (!created) {
    spdlog::warn("{}: {} created something, but its answer does not say what: it is nobody's",
                 request.interface, request.reference);
  }
  co_return created;
}

asio::awaitable<void> Books::EndChange(const Decided& request, Relay& relay) {
  const auto created = co_await Created(request, relay);
  if (!created && request.registration == admission::UNCHANGED) {
    End(request, relay.status(), relay.request_bytes(), relay.announced());
    co_return;
  }
  auto message = OutcomeOf(request, relay.status(), relay.request_bytes(), relay.announced());
  if (created) {
    message.mutable_outcome()->set_created(created->id);
    message.mutable_outcome()->set_created_kind(std::string(created->kind));
  }
  const auto told = co_await outcomes_.TellNow(std::move(message));
  if (told) co_return;
  // The server has made it. Where control is away, it is the tenant's, or the peer registered, as
  // soon as control is back; else an operator must say whose it is.
  spdlog::error("{}: what {} created, or whom it registered, is not recorded{}: {}",
                request.interface, request.reference,
                told.error().why.reason == identity::Reason::gate_unavailable ? " yet" : "",
                told.error().why.Text());
}

}  // namespace portcullis::guard
