#include "control/guard/request/service.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

#include "control/admission/reference.hpp"
#include "control/admission/refusal_message.hpp"
#include "control/guard/request/intake.hpp"
#include "control/guard/request/judge.hpp"
#include "control/guard/request/relay.hpp"
#include "control/guard/session/address.hpp"
#include "control/guard/session/messages.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using identity::Reason;
using identity::Refusal;
using profiles::Fault;
using Clock = std::chrono::steady_clock;
namespace {

constexpr size_t kMostAnswerBytes = 64U << 10U;  // that is read for what was created
constexpr size_t kMostPathInRecords = 1024;
constexpr unsigned kFirstSuccess = 200;
constexpr unsigned kFirstRedirect = 300;
constexpr unsigned kCreated = 201;

bool MayHaveBody(http::verb method) {
  return method != http::verb::get && method != http::verb::head && method != http::verb::delete_;
}

bool IsSuccess(unsigned status) {
  return status >= kFirstSuccess && status < kFirstRedirect;
}

// A string of RFC 8941 3.3.3; what it cannot hold becomes a question mark.
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c >= ' ' && c <= '~' ? c : '?';
  }
  return quoted + '"';
}

std::string ClientText(const admission::Permitted& permit, const std::string& reference) {
  return fmt::format("peer={}, tenant={}, role={}, request={}", Quoted(permit.peer()),
                     Quoted(permit.tenant()), Quoted(permit.role()), Quoted(reference));
}

// One connection.
class Conversation {
 public:
  Conversation(RequestContext& context, RequestInterface& interface, const ListenerLimits& limits,
               Connection& connection)
      : context_(context),
        interface_(interface),
        limits_(limits),
        connection_(connection),
        credentials_(context.shared, connection, "") {}

  asio::awaitable<void> Run() {
    while (!done_) co_await ServeOne();
  }

 private:
  // What a connection's token was last found to be worth.
  struct Proven {
    identity::Sha256 digest;  // of the header's value
    identity::AccessToken token;
    Permits::Permit permit;
    Clock::time_point until;
  };
  // A request that may go on.
  struct Decided {
    std::string reference;
    std::shared_ptr<const profiles::Profile> profile;  // that `match` is of
    std::shared_ptr<Upstream> server;
    profiles::Match match;
    Permits::Permit permit;
    std::optional<profiles::Resource> about;
    bool change = false;
    bool only_absent = false;  // it makes something, and may not replace anything by that
  };

  asio::awaitable<void> ServeOne() {
    RequestParser parser;
    auto there = co_await intake_.Head(parser);
    if (!there) {
      co_await Refuse(std::move(there.error()), true);
      co_return;
    }
    done_ = !*there || !parser.get().keep_alive();
    if (!*there) co_return;
    Incoming incoming{connection_.stream, buffer_, parser, parser.get(), {}};
    auto decided = co_await Decide(incoming);
    if (!decided) {
      const bool unread = !parser.is_done();
      co_await Refuse(std::move(decided.error()), unread);
      co_return;
    }
    co_await Forward(std::move(*decided), std::move(incoming));
  }

  // ---- deciding

  asio::awaitable<Step<Decided>> Decide(Incoming& incoming) {
    const auto& request = incoming.parser.get();
    auto proven = co_await Prove(request);
    if (!proven) co_return tl::unexpected(std::move(proven.error()));
    Decided decided;
    decided.permit = *std::move(proven);
    decided.profile = interface_.profile;  // a reload may change both
    decided.server = interface_.server;
    const std::string_view target(request.target());
    const std::string_view path = target.substr(0, target.find('?'));
    const std::string_view method(request.method_string());
    // An operator's word against a weakness goes before everything that looks closer.
    if (auto open = CheckBlocks(*decided.permit, method, path); !open) {
      co_return Stop(std::move(open.error()));
    }
    auto match = decided.profile->Find(method, target, interface_.root);
    if (!match) co_return StopFor(match.error());
    decided.match = *match;
    auto reading = co_await Read(incoming, *decided.profile, method, path, decided.match);
    if (!reading) co_return tl::unexpected(std::move(reading.error()));
    decided.about = decided.match.About();
    auto owner = co_await OwnerOf(decided.about);
    if (!owner) co_return Stop(std::move(owner.error()));
    const profiles::Rule& rule = *decided.match.rule;
    const bool owned = *owner && !(*owner)->empty();
    decided.only_absent = rule.creates.from == profiles::Creates::From::path && !owned;
    if (!rule.replaces.empty() && owned) {
      std::erase(reading->operations, rule.operation);
      for (const auto* operation : rule.replaces) reading->operations.push_back(operation);
    }
    if (auto may = Judge(*decided.permit, *reading, *owner); !may) {
      co_return Stop(std::move(may.error()));
    }
    if (!StillPermitted()) {  // a body may have been long in coming
      co_return Stop(Reason::policy_denied, "permitted no longer");
    }
    decided.reference = admission::NewReference();
    auto accounted = co_await Account(decided, *reading);
    if (!accounted) {
      // Where control did not answer, it may have begun it.
      if (accounted.error().reference.empty()) Tell(decided, 0, 0, 0);
      co_return Stop(std::move(accounted.error()));
    }
    co_return decided;
  }

  // Token and permit, unless the connection has shown this token before and nothing has changed.
  template <class Message>
  asio::awaitable<Step<Permits::Permit>> Prove(const Message& request) {
    for (const char* once : {"Authorization", "DPoP"}) {
      if (request.count(once) < 2) continue;
      co_return StopFor(Error{ErrorKind::kInvalid, "a header appears twice", once, "once", "more"});
    }
    const std::string_view authorization(request[http::field::authorization]);
    const auto digest = identity::DigestOf(authorization);
    // An opaque token's issuer is asked again: only it knows whether the token still counts.
    if (proven_ && proven_->digest == digest && !proven_->token.kid.empty() && StillPermitted()) {
      co_return proven_->permit;
    }
    proven_.reset();
    Credentials shown{std::string(authorization), std::string(request["DPoP"]),
                      std::string(request.method_string()), std::string(request.target())};
    std::string name = interface_.name;
    auto token = co_await credentials_.Authorise(std::move(shown), name);
    if (!token) co_return Stop(std::move(token.error()));
    admission::Identity identity = credentials_.IdentityMessage();
    admission::Token message = TokenMessage(*token);
    auto permit =
        co_await context_.permits.Of(std::move(identity), std::move(message), std::move(name));
    if (!permit) co_return Stop(std::move(permit.error()));
    // It may have been revoked while control was asked.
    if (auto valid = credentials_.StillValid(*token); !valid)
      co_return Stop(std::move(valid.error()));
    proven_ = Proven{digest, *std::move(token), permit->permit, permit->until};
    co_return permit->permit;
  }

  // What was proved, nothing has taken back since.
  [[nodiscard]] bool StillPermitted() const {
    return proven_ && Clock::now() < proven_->until && context_.permits.Current(*proven_->permit) &&
           credentials_.StillValid(proven_->token).has_value();
  }

  asio::awaitable<Step<Reading>> Read(Incoming& incoming, const profiles::Profile& profile,
                                      std::string_view method, std::string_view path,
                                      const profiles::Match& match) {
    Reading reading{method, path, match, {match.rule->operation}, {}};
    const std::string_view type(incoming.fields[http::field::content_type]);
    const bool has_body = !incoming.parser.is_done();
    if (has_body && !MayHaveBody(incoming.parser.get().method())) {
      // Some servers read it, some take it for the next request (RFC 9110 9.3.1).
      co_return StopFor(Error{ErrorKind::kInvalid,
                              "a body where the method has none",
                              {},
                              "no body",
                              std::string(method) + " with one"});
    }
    if (has_body && !profiles::Accepts(*match.rule, type))
      co_return StopFor(Fault::body_media_type);
    if (!match.NeedsBody()) co_return reading;
    if (incoming.fields.count(http::field::content_encoding) > 0) {
      co_return StopFor(Fault::body_media_type);  // nobody looks into what is compressed
    }
    auto body = co_await intake_.Body(incoming.parser, profile.body_limit);
    if (!body) co_return tl::unexpected(std::move(body.error()));
    auto classified = profiles::Classify(profile, match, type, *body);
    if (!classified) co_return StopFor(std::move(classified.error().error));
    reading.operations = std::move(classified->operations);
    reading.callers = std::move(classified->callers);
    incoming.body = *std::move(body);
    co_return reading;
  }

  asio::awaitable<Outcome<std::optional<std::string>>> OwnerOf(
      std::optional<profiles::Resource> about) {
    std::optional<std::string> owner;
    if (!about) co_return owner;
    std::string name = interface_.name;
    std::string kind(about->kind);
    auto found = co_await context_.permits.OwnerOf(std::move(name), std::move(kind), about->id);
    if (!found) co_return tl::unexpected(std::move(found.error()));
    owner = *std::move(found);
    co_return owner;
  }

  // ---- keeping books

  asio::awaitable<Outcome<void>> Account(Decided& decided, const Reading& reading) {
    admission::Request message;
    admission::Operate& operate = *message.mutable_operate();
    operate.set_id(decided.reference);
    operate.set_peer(decided.permit->peer());
    operate.set_tenant(decided.permit->tenant());
    operate.set_interface(interface_.name);
    operate.set_method(std::string(reading.method));
    operate.set_path(std::string(reading.path.substr(0, kMostPathInRecords)));
    for (const auto* operation : reading.operations) {
      operate.add_operations(operation->name);
      decided.change = decided.change || operation->effect == profiles::Effect::change;
    }
    if (decided.about) {
      operate.set_kind(std::string(decided.about->kind));
      operate.set_resource(decided.about->id);
    }
    operate.set_change(decided.change);
    operate.set_source(steer::ToBytes(ToAddress(connection_.from.address())));
    *operate.mutable_token() = TokenMessage(proven_->token);
    auto response = co_await context_.shared.control.Call(std::move(message));
    if (!response) {
      co_return tl::unexpected(Denied{{Reason::gate_unavailable, response.error().Text()}});
    }
    if (response->has_refusal()) {
      co_return tl::unexpected(
          Denied{admission::FromMessage(response->refusal()), response->refusal().reference()});
    }
    co_return Outcome<void>{};
  }

  static admission::Request OutcomeOf(const Decided& decided, unsigned status, uint64_t sent,
                                      uint64_t received) {
    admission::Request message;
    admission::Outcome& outcome = *message.mutable_outcome();
    outcome.set_id(decided.reference);
    outcome.set_status(status);
    outcome.set_request_bytes(sent);
    outcome.set_response_bytes(received);
    outcome.set_deleted(decided.match.rule->deletes && IsSuccess(status));
    return message;
  }

  // Control records it; when it is away, it notices by itself that the outcome is missing.
  void Tell(const Decided& decided, unsigned status, uint64_t sent, uint64_t received) {
    auto message = OutcomeOf(decided, status, sent, received);
    if (message.outcome().deleted()) {
      context_.permits.Forget(interface_.name, std::string(decided.about->kind), decided.about->id);
    }
    if (!context_.shared.control.Tell(std::move(message))) {
      spdlog::warn("{}: the outcome of {} cannot be told: {}", interface_.name, decided.reference,
                   status);
    }
  }

  // ---- forwarding

  asio::awaitable<void> Forward(Decided decided, Incoming incoming) {
    if (!incoming.body) {
      auto going = co_await intake_.GoOn(incoming.parser);
      if (!going) {
        Tell(decided, 0, 0, 0);
        co_await Refuse(std::move(going.error()), true);
        co_return;
      }
    }
    Relay relay(*decided.server, std::move(incoming), [this] { return StillPermitted(); });
    Onward onward{decided.server->authority(), ClientText(*decided.permit, decided.reference),
                  decided.only_absent};
    auto sent = co_await relay.Send(std::move(onward));
    if (sent) sent = co_await relay.ReadAnswer();
    if (!sent) {
      Tell(decided, 0, relay.request_bytes(), 0);
      Stopped stopped = Broken(sent.error());
      stopped.reference = decided.reference;
      co_await Refuse(std::move(stopped), true);
      co_return;
    }
    // A client that is slow to take the answer delays no record of a change.
    const bool told = decided.change;
    const bool created = told && co_await Learn(decided, relay);
    if (told && !created) Tell(decided, relay.status(), relay.request_bytes(), relay.announced());
    if (!co_await relay.Stream(done_)) done_ = true;
    if (!told) Tell(decided, relay.status(), relay.request_bytes(), relay.response_bytes());
  }

  static Stopped Broken(const Error& error) {
    switch (error.kind) {
      case ErrorKind::kInvalid:
        return StopFor(error).value();
      case ErrorKind::kForbidden:
        return Stop(Reason::policy_denied, error.Text()).value();
      default:
        return Stop(Reason::server_unavailable, error.Text()).value();
    }
  }

  // What was created is its tenant's before the client hears of it, so that nobody is refused what
  // it has just been given. True: control was told the outcome.
  asio::awaitable<bool> Learn(const Decided& decided, Relay& relay) {
    const auto from = decided.match.rule->creates.from;
    if (from == profiles::Creates::From::nothing || !IsSuccess(relay.status())) co_return false;
    if (decided.only_absent && relay.status() != kCreated) {
      spdlog::error("{}: the server answers {} to {}, which was to replace nothing: it is nobody's",
                    interface_.name, relay.status(), decided.reference);
      co_return false;
    }
    std::string answer;
    if (from == profiles::Creates::From::member) {
      auto body = co_await relay.Body(kMostAnswerBytes);
      if (body) answer = *std::move(body);
    }
    const auto created = decided.match.Created(relay.location(), answer);
    if (!created) {
      spdlog::warn("{}: {} created something, but its answer does not say what: it is nobody's",
                   interface_.name, decided.reference);
      co_return false;
    }
    auto message = OutcomeOf(decided, relay.status(), relay.request_bytes(), relay.announced());
    message.mutable_outcome()->set_created(created->id);
    message.mutable_outcome()->set_created_kind(std::string(created->kind));
    const auto response = co_await context_.shared.control.Call(std::move(message));
    if (response && !response->has_refusal()) co_return true;
    // The server has made it; whose it is, an operator must say now.
    spdlog::error("{}: what {} created is not recorded as its tenant's: {}", interface_.name,
                  decided.reference,
                  response ? response->refusal().detail() : response.error().Text());
    co_return true;
  }

  // ---- refusing

  std::string Note(const Refusal& why, const std::string& reference) {
    return context_.shared.refusals.Note(
        why, {connection_.from, interface_.name, credentials_.IdentityMessage(), reference});
  }

  // `unread`: where the next request would begin is not known.
  asio::awaitable<void> Refuse(Stopped stopped, bool unread) {
    if (unread) done_ = true;
    const Refusal& why = stopped.why;
    const ProblemClass& kind = ClassOf(why.reason);
    web::Response answer(static_cast<http::status>(kind.status), web::kHttp11);
    answer.set(http::field::content_type, "application/problem+json");
    answer.set(http::field::cache_control, "no-store");
    if (kind.status == kInvalidToken.status || kind.slug == kInsufficientScope.slug) {
      answer.set(http::field::www_authenticate, credentials_.Challenge(why.reason));
    }
    if (why.reason == Reason::gate_unavailable || why.reason == Reason::quota_exceeded) {
      answer.set(http::field::retry_after, "1");
    }
    const std::string reference = Note(why, stopped.reference);
    answer.body() = ProblemText(kind, reference, stopped.form ? &*stopped.form : nullptr);
    answer.keep_alive(!done_);
    answer.prepare_payload();
    connection_.stream.next_layer().expires_after(limits_.request_time);
    const std::string text = web::ToText(answer);
    if (co_await web::Write(connection_.stream, text)) done_ = true;
    if (unread) co_await intake_.Drain();
  }

  RequestContext& context_;
  RequestInterface& interface_;
  const ListenerLimits& limits_;
  Connection& connection_;
  CredentialCheck credentials_;
  web::Buffer buffer_;
  Intake intake_{connection_.stream, buffer_, limits_};
  std::optional<Proven> proven_;
  bool done_ = false;
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
