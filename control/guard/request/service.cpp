#include "control/guard/request/service.hpp"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "control/guard/request/answer.hpp"
#include "control/guard/request/http1.hpp"
#include "control/guard/request/http2.hpp"
#include "control/guard/request/relay.hpp"
#include "control/guard/session/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using identity::Reason;

namespace {

constexpr size_t kMostReadAway = 64U << 10U;  // of a request that only asks for a nonce

// RFC 6750 2.1. Nothing: the server gets no token.
std::string AuthorizationFor(const Decided& decided) {
  if (!decided.token) return {};
  const auto token = decided.token->bytes();
  return "Bearer " + std::string(token.begin(), token.end());
}

// One connection.
class Conversation {
 public:
  Conversation(RequestContext& context, const RequestInterface& interface,
               const ListenerLimits& limits, Connection& connection)
      : context_(context),
        interface_(interface),
        limits_(limits),
        connection_(connection),
        decider_(context, interface, limits, connection) {}

  asio::awaitable<void> Run() {
    std::optional<CarriedConnections::Place> place;
    if (connection_.decrypted) {
      admission::Stay stay;
      *stay.mutable_identity() = decider_.credentials().IdentityMessage();
      stay.set_interface(interface_.name);
      place.emplace(context_.carried, std::move(stay),
                    [this] { connection_.stream.next_layer().close(); });
    }
    const Serve serve = [this](Exchange& exchange, std::optional<Stopped> fault) {
      return Answer(exchange, std::move(fault));
    };
    if (!ChoseHttp2(connection_.stream.native_handle())) {
      co_await ServeHttp1(connection_.stream, limits_, serve);
      co_return;
    }
    Http2Connection connection(connection_.stream, limits_, serve,
                               [this](const identity::Refusal& why) { Note(why, {}); });
    co_await connection.Run();
  }

 private:
  // From head to answer, or to a refusal.
  asio::awaitable<void> Answer(Exchange& exchange, std::optional<Stopped> fault) {
    if (fault) {
      co_await Refuse(exchange, *std::move(fault));
      co_return;
    }
    CredentialCheck& credentials = decider_.credentials();
    const std::string_view authorization(exchange.head().fields[http::field::authorization]);
    if (credentials.ByProof(authorization)) {
      const bool first = credentials.NeedsNonce(authorization);
      exchange.Offer(credentials.NewNonce());
      if (first) {
        co_await AskForNonce(exchange);
        co_return;
      }
    }
    auto decided = co_await decider_.Decide(exchange);
    if (!decided) {
      co_await Refuse(exchange, std::move(decided.error()));
      co_return;
    }
    Books& books = decider_.books();
    Relay relay(*decided->server, exchange, std::move(decided->body),
                [this, &decided = *decided] { return decider_.Still(decided); });
    Onward onward{decided->server->authority(),
                  ClientText(*decided->proven->permit, decided->reference), decided->only_absent};
    onward.authorization = AuthorizationFor(*decided);
    if (auto answered = co_await relay.Ask(std::move(onward)); !answered) {
      books.End(*decided, 0, relay.request_bytes(), 0);
      answered.error().reference = decided->reference;
      co_await Refuse(exchange, std::move(answered.error()));
      co_return;
    }
    // A client that is slow to take the answer delays no record of a change; and what was created
    // is its tenant's before the client hears of it, so that nobody is refused what it was given.
    if (decided->change) co_await books.EndChange(*decided, relay);
    co_await relay.Stream();
    if (!decided->change) {
      books.End(*decided, relay.status(), relay.request_bytes(), relay.response_bytes());
    }
  }

  // RFC 9449 8: the first request cannot have a nonce of this connection. That is no refusal yet,
  // and the connection goes on: what it was given is good nowhere else.
  asio::awaitable<void> AskForNonce(Exchange& exchange) {
    if (exchange.unread()) {
      const auto away = co_await ReadAll(exchange, kMostReadAway, limits_.request_time);
      static_cast<void>(away);
    }
    Fields fields;
    fields.set(http::field::www_authenticate, "DPoP error=\"use_dpop_nonce\"");
    std::string body = ProblemText(kInvalidToken, "", nullptr);
    co_await AnswerProblem(exchange, kInvalidToken.status, std::move(fields), std::move(body));
  }

  std::string Note(const identity::Refusal& why, const std::string& reference) {
    return context_.shared.refusals.Note(
        why,
        {connection_.from, interface_.name, decider_.credentials().IdentityMessage(), reference});
  }

  asio::awaitable<void> Refuse(Exchange& exchange, Stopped stopped) {
    const CredentialCheck& credentials = decider_.credentials();
    const std::string_view authorization(exchange.head().fields[http::field::authorization]);
    std::string challenge = credentials.Challenge(stopped.why.reason, authorization);
    std::string reference = Note(stopped.why, stopped.reference);
    co_await AnswerRefusal(exchange, std::move(stopped), std::move(reference),
                           std::move(challenge));
  }

  RequestContext& context_;
  const RequestInterface& interface_;
  const ListenerLimits& limits_;
  Connection& connection_;
  Decider decider_;
};

}  // namespace

ConnectionHandler ServeRequests(RequestContext& context,
                                std::shared_ptr<RequestInterface> interface,
                                ListenerLimits limits) {
  // The listener keeps the lambda, and with it what it captured, for as long as it has connections.
  return [&context, interface = std::move(interface),
          limits](Connection& connection) -> asio::awaitable<void> {
    Conversation conversation(context, *interface, limits, connection);
    co_await conversation.Run();
  };
}

}  // namespace portcullis::guard
