#include "control/guard/session/service.hpp"

#include <spdlog/spdlog.h>

#include <boost/beast/core/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <optional>
#include <utility>

namespace portcullis::guard {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using identity::Reason;
using identity::Refusal;

namespace {

constexpr uint32_t kMostHeaderBytes = 24U << 10U;  // a token and a proof, of 8 KiB each at most
constexpr uint64_t kMostBodyBytes = 8U << 10U;
constexpr int kMostRequests = 8;  // a few attempts, a nonce, a confirmation
constexpr std::chrono::seconds kDrainTime{2};
constexpr std::string_view kSessions = "/session/v1/sessions";
constexpr std::string_view kConfirm = "/confirm";

using RequestParser = http::request_parser<http::string_body>;
using Message = web::Request;
using web::Response;

enum class Route : uint8_t { none, sessions, session, confirm };

struct Target {
  Route route = Route::none;
  std::string id;
};

// An id is control's: its form is not ours to know, but that it is one.
bool IsId(std::string_view text) {
  constexpr size_t kLongest = 64;
  return !text.empty() && text.size() <= kLongest &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
             std::string_view::npos;
}

Target TargetOf(std::string_view text) {
  if (!text.starts_with(kSessions)) return {};
  text.remove_prefix(kSessions.size());
  if (text.empty()) return {Route::sessions, {}};
  if (!text.starts_with('/')) return {};
  text.remove_prefix(1);
  const bool confirm = text.ends_with(kConfirm);
  if (confirm) text.remove_suffix(kConfirm.size());
  if (!IsId(text)) return {};
  return {confirm ? Route::confirm : Route::session, std::string(text)};
}

http::verb MethodOf(Route route) {
  return route == Route::session ? http::verb::delete_ : http::verb::post;
}

// One connection.
class Conversation {
 public:
  Conversation(SessionContext& context, const ServiceSettings& settings, Connection& connection)
      : context_(context),
        settings_(settings),
        connection_(connection),
        desk_(context, connection, settings.url) {}

  asio::awaitable<void> Run() {
    for (int served = 0; served < kMostRequests && !done_; ++served) co_await ServeOne();
  }

 private:
  asio::awaitable<void> ServeOne() {
    auto& tcp = connection_.stream.next_layer();
    tcp.may_read(settings_.limits.request_bytes);
    if (confirm_by_) {
      tcp.expires_at(*confirm_by_);
    } else {
      tcp.expires_after(settings_.limits.request_time);
    }
    RequestParser parser;
    parser.header_limit(kMostHeaderBytes);
    parser.body_limit(kMostBodyBytes);
    const auto unread = co_await web::Read(connection_.stream, buffer_, parser);
    if (unread) {
      co_await EndUnread(unread);
      co_return;
    }
    Response answer = co_await Answered(parser.get());
    if (!parser.get().keep_alive()) done_ = true;
    co_await Send(std::move(answer));
  }

  asio::awaitable<void> Send(Response answer) {
    answer.keep_alive(!done_);
    answer.prepare_payload();
    connection_.stream.next_layer().expires_after(settings_.limits.request_time);
    const std::string text = web::ToText(answer);
    if (co_await web::Write(connection_.stream, text)) done_ = true;
  }

  // Something came that is no request, or nothing at all.
  asio::awaitable<void> EndUnread(beast::error_code error) {
    done_ = true;
    if (error == beast::error::timeout && !confirm_by_) {
      Note({Reason::handshake_timeout, "no request in time"});
    }
    const auto& of_http = http::make_error_code(http::error::bad_method).category();
    if (error.category() != of_http || error == http::error::end_of_stream ||
        error == http::error::partial_message) {
      co_return;  // it hung up, or was cut off
    }
    Response answer = Unreadable(error);
    co_await Send(std::move(answer));
    connection_.stream.next_layer().expires_after(kDrainTime);
    co_await web::Drain(connection_.stream);
  }

  Response Unreadable(const beast::error_code& error) {
    const bool large = error == http::error::body_limit || error == http::error::header_limit;
    const Error form{ErrorKind::kInvalid, "not an HTTP request: " + error.message(), {}, {}, {}};
    const std::string reference = Note({Reason::request_malformed, form.Text()});
    return Problem(large ? kTooLarge : kMalformed, reference, &form);
  }

  asio::awaitable<Response> Answered(const Message& message) {
    const std::string path(message.target().substr(0, message.target().find('?')));
    const Target target = TargetOf(path);
    if (target.route == Route::none) {
      co_return Problem(kNotFound, Note({Reason::request_malformed, "no such resource"}));
    }
    if (message.method() != MethodOf(target.route)) {
      const Refusal why{Reason::request_malformed, "a method that the resource does not have"};
      Response answer = Problem(kMethodNotAllowed, Note(why));
      answer.set(http::field::allow, http::to_string(MethodOf(target.route)));
      co_return answer;
    }
    // Readers differ in which of two they believe; RFC 9449 4.3 forbids a second proof.
    for (const char* once : {"Authorization", "DPoP"}) {
      if (message.count(once) < 2) continue;
      const Error form{ErrorKind::kInvalid, "a header appears twice", once, "once", "more"};
      co_return Problem(kMalformed, Note({Reason::request_malformed, form.Text()}), &form);
    }
    Credentials credentials{std::string(message[http::field::authorization]),
                            std::string(message["DPoP"]), std::string(message.method_string()),
                            path};
    switch (target.route) {
      case Route::sessions:
        co_return co_await Open(message, std::move(credentials));
      case Route::confirm:
        co_return co_await Confirm(target.id);
      default:
        co_return co_await End(target.id, std::move(credentials));
    }
  }

  asio::awaitable<Response> Open(const Message& message, Credentials credentials) {
    auto request = ParseSessionRequest(message.body());
    if (!request) {
      const Error& form = request.error();
      co_return Problem(kMalformed, Note({Reason::request_malformed, form.Text()}), &form);
    }
    interface_ = request->interface;
    if (NeedsNonce(credentials)) co_return UseNonce();
    auto opened = co_await desk_.Open(std::move(*request), std::move(credentials));
    if (!opened) co_return Refused(opened.error());
    spdlog::info("session {} generation {} of {} on {} is installed", opened->agreed.session_id,
                 opened->agreed.generation, opened->agreed.peer_identity, interface_);
    confirm_by_ = std::chrono::steady_clock::now() + settings_.confirm_time;
    Response answer(http::status::created, web::kHttp11);
    Common(answer, "application/json");
    answer.set(http::field::location, std::string(kSessions) + "/" + opened->agreed.session_id);
    answer.body() = AnswerText(opened->agreed, opened->replay_window, opened->expires_in);
    co_return answer;
  }

  asio::awaitable<Response> Confirm(std::string id) {
    const auto confirmed = co_await desk_.Confirm(std::move(id));
    if (!confirmed) co_return Refused(confirmed.error());
    done_ = true;
    co_return NoContent();
  }

  asio::awaitable<Response> End(std::string id, Credentials credentials) {
    if (NeedsNonce(credentials)) co_return UseNonce();
    const auto ended = co_await desk_.End(std::move(id), std::move(credentials));
    if (!ended) co_return Refused(ended.error());
    co_return NoContent();
  }

  // RFC 9449 8: the first request cannot have a nonce of this connection. That is no refusal yet.
  [[nodiscard]] bool NeedsNonce(const Credentials& credentials) {
    return desk_.credentials().NeedsNonce(credentials.authorization);
  }

  Response UseNonce() {
    Response answer = Problem(kInvalidToken, "");
    answer.set(http::field::www_authenticate, "DPoP error=\"use_dpop_nonce\"");
    answer.set("DPoP-Nonce", desk_.credentials().NewNonce());
    return answer;
  }

  Response Refused(const Denied& denied) {
    const Refusal& why = denied.why;
    const ProblemClass& kind = ClassOf(why.reason);
    Response answer = Problem(kind, Note(why, denied.reference));
    if (why.reason == Reason::gate_unavailable) answer.set(http::field::retry_after, "1");
    if (kind.status != kInvalidToken.status && kind.slug != kInsufficientScope.slug) return answer;
    answer.set(http::field::www_authenticate, desk_.credentials().Challenge(why.reason, {}));
    if (desk_.credentials().ByProof({})) answer.set("DPoP-Nonce", desk_.credentials().NewNonce());
    return answer;
  }

  std::string Note(const Refusal& why, const std::string& reference = {}) {
    return context_.refusals.Note(
        why, {connection_.from, interface_, desk_.credentials().IdentityMessage(), reference});
  }

  static void Common(Response& answer, const char* type) {
    answer.set(http::field::content_type, type);
    answer.set(http::field::cache_control, "no-store");
  }

  static Response NoContent() {
    Response answer(http::status::no_content, web::kHttp11);
    answer.set(http::field::cache_control, "no-store");
    return answer;
  }

  static Response Problem(const ProblemClass& kind, const std::string& reference,
                          const Error* form = nullptr) {
    Response answer(static_cast<http::status>(kind.status), web::kHttp11);
    Common(answer, "application/problem+json");
    answer.body() = ProblemText(kind, reference, form);
    return answer;
  }

  SessionContext& context_;
  const ServiceSettings& settings_;
  Connection& connection_;
  SessionDesk desk_;
  web::Buffer buffer_;
  std::string interface_;  // of the last request for a session
  std::optional<std::chrono::steady_clock::time_point> confirm_by_;
  bool done_ = false;
};

}  // namespace

ConnectionHandler ServeSessions(SessionContext& context, ServiceSettings settings) {
  // The listener keeps the lambda, and with it what it captured, for as long as it has connections.
  return
      [&context, settings = std::move(settings)](Connection& connection) -> asio::awaitable<void> {
        Conversation conversation(context, settings, connection);
        co_await conversation.Run();
      };
}

}  // namespace portcullis::guard
