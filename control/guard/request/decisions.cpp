#include "control/guard/request/decisions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/beast/http/rfc7230.hpp>
#include <boost/beast/http/status.hpp>
#include <memory>
#include <new>
#include <utility>

#include "control/guard/request/answer.hpp"
#include "control/guard/session/peer_certificate.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using identity::Reason;

namespace {

constexpr size_t kMostQuestionBody = 64U << 10U;
constexpr size_t kReadAtOnce = 16U << 10U;
constexpr size_t kMostProblemField = 2048;  // nginx has 4 KiB for all of an answer's head
constexpr unsigned kOk = 200;
constexpr unsigned kUnauthorized = 401;
constexpr unsigned kForbidden = 403;
constexpr unsigned kFirstServerError = 500;

// A client's request that a gateway holds in its hands, and what the gateway is told.
class Inquiry final : public Exchange {
 public:
  Inquiry(ClientRequest request, std::string gateway)
      : has_body_(request.has_body), body_(std::move(request.body)), gateway_(std::move(gateway)) {
    head_ = std::move(request.head);
  }

  [[nodiscard]] std::string gateway() const override { return gateway_; }
  [[nodiscard]] bool unread() const override { return has_body_; }
  asio::awaitable<Step<void>> GoOn() override {
    if (!has_body_ || body_) co_return Step<void>{};
    co_return Stop(Reason::not_decidable, "the request's body, which decides, is not here");
  }
  asio::awaitable<Step<size_t>> Read(asio::mutable_buffer room, Deadline /*now*/) override {
    const size_t size = body_ ? asio::buffer_copy(room, asio::buffer(*body_)) : 0;
    if (body_) body_->erase(0, size);
    if (size == 0) has_body_ = false;
    co_return size;
  }
  void Answer(const AnswerHead& answer) override {
    status = answer.status;
    fields = answer.fields;
  }
  asio::awaitable<bool> Write(std::string_view bytes, bool /*last*/) override {
    text += bytes;
    co_return true;
  }
  void Abandon() override {}

  unsigned status = 0;
  Fields fields;
  std::string text;

 private:
  bool has_body_;
  std::optional<std::string> body_;
  std::string gateway_;
};

// nginx takes any 2xx for a yes, 401 and 403 for a no, and all else for an error of its own, which
// it answers with 500: the problem and its status go in fields, from which it can make the answer.
// Envoy can be told to let pass what its service had an error with (failure_mode_allow), which is
// any 5xx: there is none.
void Fit(DecisionProtocol protocol, Inquiry& inquiry) {
  if (inquiry.status == kOk) return;
  inquiry.fields.set("Portcullis-Status", std::to_string(inquiry.status));
  if (protocol == DecisionProtocol::ext_authz) {
    if (inquiry.status >= kFirstServerError) inquiry.status = kForbidden;
    return;
  }
  if (inquiry.status != kUnauthorized) inquiry.status = kForbidden;
  const std::string_view problem =
      std::string_view(inquiry.text).substr(0, inquiry.text.find('\n'));
  if (problem.size() <= kMostProblemField) inquiry.fields.set("Portcullis-Problem", problem);
}

// One connection of a gateway.
class GatewayConversation {
 public:
  GatewayConversation(RequestContext& context, const DecisionInterface& interface,
                      const ListenerLimits& limits, GatewayStream& stream, std::string gateway,
                      asio::ip::tcp::endpoint from)
      : context_(context),
        interface_(interface),
        limits_(limits),
        stream_(stream),
        gateway_(std::move(gateway)),
        from_(std::move(from)) {}

  asio::awaitable<void> Run() {
    for (bool goes_on = true; goes_on;) {
      auto heard = co_await Hear();
      if (heard && !*heard) co_return;  // it has gone
      goes_on = heard && !EndsAfter((*heard)->head);
      const bool head_only = heard && (*heard)->head.method == "HEAD";
      std::unique_ptr<Inquiry> inquiry;
      if (heard) {
        Question question = **std::move(heard);
        inquiry = co_await Consider(std::move(question));
      } else {
        inquiry = co_await NoClients(std::move(heard.error()));
      }
      if (!co_await Tell(*inquiry, head_only, !goes_on)) co_return;
    }
  }

 private:
  using Heard = std::optional<Question>;  // nothing: no more comes

  static bool EndsAfter(const RequestHead& head) {
    return http::token_list(head.fields[http::field::connection]).exists("close");
  }

  // Until there are as many bytes; false: no more come.
  asio::awaitable<bool> ReadMore(Exchange::Deadline deadline) {
    std::array<char, kReadAtOnce> piece{};
    const auto got = co_await stream_.ReadSome(asio::buffer(piece), deadline);
    pending_.append(piece.data(), got.bytes);
    co_return !got.error && got.bytes != 0;
  }

  asio::awaitable<Step<Heard>> Hear() {
    const bool begun = !pending_.empty();
    auto deadline = Exchange::Clock::now() + (begun ? limits_.request_time : kIdleTime);
    size_t length = HeadLength(pending_);
    while (length == 0) {
      if (pending_.size() > kMostHeadBytes) co_return TooLarge("the head", kMostHeadBytes);
      const bool first = pending_.empty();
      if (!co_await ReadMore(deadline)) co_return Heard{};
      if (first) deadline = Exchange::Clock::now() + limits_.request_time;
      length = HeadLength(pending_);
    }
    auto head = ParseHead(std::string_view(pending_).substr(0, length));
    if (!head) co_return tl::unexpected(std::move(head.error()));
    const size_t size = head->body.bytes.value_or(0);
    if (head->body.chunked || size > kMostQuestionBody) {
      co_return TooLarge("a body of unknown length, or its length,", kMostQuestionBody);
    }
    while (pending_.size() < length + size) {
      if (!co_await ReadMore(deadline)) co_return Heard{};
    }
    Question question{*std::move(head), pending_.substr(length, size)};
    pending_.erase(0, length + size);
    co_return Heard{std::move(question)};
  }

  // What is no client's request that could be decided.
  asio::awaitable<std::unique_ptr<Inquiry>> NoClients(Stopped stopped) {
    auto inquiry = std::make_unique<Inquiry>(ClientRequest{}, gateway_);
    co_await Refuse(*inquiry, std::move(stopped), from_, nullptr);
    co_return inquiry;
  }

  // What is asked, decided.
  asio::awaitable<std::unique_ptr<Inquiry>> Consider(Question question) {
    auto request = ReadQuestion(interface_.protocol, std::move(question));
    // A reload may have taken it off the list since it came.
    if (request && !interface_.gateways.contains(gateway_)) {
      request = Stop(Reason::policy_denied, "it may not ask here");
    }
    if (!request) {
      auto refused = co_await NoClients(std::move(request.error()));
      co_return refused;
    }
    const Party client{Shown(*request), request->from};
    const auto verified = Verify(*request, client);
    auto inquiry = std::make_unique<Inquiry>(*std::move(request), gateway_);
    if (verified) {
      co_await Decide(*inquiry, client);
    } else {
      Stopped stopped{verified.error()};
      co_await Refuse(*inquiry, std::move(stopped), client.from, nullptr);
    }
    co_return inquiry;
  }

  static Authenticated Shown(const ClientRequest& request) {
    Authenticated who;
    who.mode = Mode::certificate;
    if (request.certificate) who.certificate = identity::Share(request.certificate.get());
    return who;
  }

  // As within a handshake of the guard's own; that the client has the key, its gateway says.
  [[nodiscard]] tl::expected<void, identity::Refusal> Verify(const ClientRequest& request,
                                                             const Party& client) const {
    X509* leaf = client.who.certificate.get();
    if (leaf == nullptr) return tl::unexpected(identity::Refusal{Reason::cert_missing, ""});
    return interface_.verify(leaf, Chain(request).get());
  }

  // What the client sent beside its own, and what the operator says that clients need not send.
  [[nodiscard]] identity::ChainPtr Chain(const ClientRequest& request) const {
    identity::ChainPtr all(sk_X509_new_null());
    if (!all) throw std::bad_alloc();
    const auto add = [&](X509* one) {
      if (X509_add_cert(all.get(), one, X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP) != 1) {
        throw std::bad_alloc();
      }
    };
    for (const auto& one : interface_.authorities->intermediates()) add(one.get());
    for (int i = 0; request.chain && i < sk_X509_num(request.chain.get()); ++i) {
      add(sk_X509_value(request.chain.get(), i));
    }
    return all;
  }

  asio::awaitable<void> Decide(Inquiry& inquiry, const Party& client) {
    Decider decider(context_, interface_.asked, limits_, client);
    auto decided = co_await decider.Decide(inquiry);
    if (!decided) {
      co_await Refuse(inquiry, std::move(decided.error()), client.from, &decider.credentials());
      co_return;
    }
    inquiry.status = kOk;
    inquiry.fields.set(kClientField, ClientText(*decided->proven->permit, decided->reference));
    inquiry.fields.set(http::field::cache_control, "no-store");
  }

  // `who`: null, where nobody has proved who he is.
  asio::awaitable<void> Refuse(Inquiry& inquiry, Stopped stopped, asio::ip::tcp::endpoint from,
                               const CredentialCheck* who) {
    stopped.why.detail += fmt::format(" (asked by {})", gateway_);
    Refusals::About about{from, interface_.asked.name};
    if (who != nullptr) about.identity = who->IdentityMessage();
    about.reference = stopped.reference;
    std::string challenge = who == nullptr ? "" : who->Challenge(stopped.why.reason, "");
    std::string reference = context_.shared.refusals.Note(stopped.why, about);
    co_await AnswerRefusal(inquiry, std::move(stopped), std::move(reference), std::move(challenge));
  }

  asio::awaitable<bool> Tell(Inquiry& inquiry, bool head_only, bool last) {
    Fit(interface_.protocol, inquiry);
    const auto reason = http::obsolete_reason(static_cast<http::status>(inquiry.status));
    std::string text = AnswerHeadText(
        {inquiry.status, reason, inquiry.fields, {inquiry.text.size(), false}, true}, last);
    if (!head_only) text += inquiry.text;
    const auto error = co_await stream_.Write(text, Exchange::Clock::now() + kPieceTime);
    co_return !error;
  }

  RequestContext& context_;
  const DecisionInterface& interface_;
  const ListenerLimits& limits_;
  GatewayStream& stream_;
  std::string gateway_;
  asio::ip::tcp::endpoint from_;  // the gateway
  std::string pending_;           // came, and was not looked at yet
};

}  // namespace

GatewayHandler ServeGateways(RequestContext& context, std::shared_ptr<DecisionInterface> interface,
                             ListenerLimits limits) {
  // Who listens keeps the lambda, and with it what it captured, for as long as it has connections.
  return [&context, interface = std::move(interface), limits](
             GatewayStream& stream, std::string gateway,
             asio::ip::tcp::endpoint from) -> asio::awaitable<void> {
    GatewayConversation conversation(context, *interface, limits, stream, std::move(gateway),
                                     std::move(from));
    co_await conversation.Run();
  };
}

ConnectionHandler ServeGatewaysByTls(RequestContext& context,
                                     const std::shared_ptr<DecisionInterface>& interface,
                                     ListenerLimits limits) {
  return [serve = ServeGateways(context, interface, limits),
          interface](Connection& connection) -> asio::awaitable<void> {
    TlsGatewayStream stream(connection.stream);
    std::string gateway;
    for (const auto& name : VerifiedIdentity(connection.who.certificate.get())->names) {
      if (interface->gateways.contains(name.text)) gateway = name.text;
    }
    co_await serve(stream, std::move(gateway), connection.from);
  };
}

}  // namespace portcullis::guard
