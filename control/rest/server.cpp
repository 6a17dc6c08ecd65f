#include "control/rest/server.hpp"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "control/coroutines.hpp"
#include "control/http/stream.hpp"
#include "control/rest/audited.hpp"
#include "control/rest/observe.hpp"
#include "control/rest/operators.hpp"

namespace portcullis::rest {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;
using namespace std::chrono_literals;

namespace {

constexpr size_t kMostConnections = 128;
constexpr size_t kMostStreams = 16;
constexpr uint32_t kMostHeaderBytes = 16U << 10U;
constexpr uint64_t kMostBodyBytes = 4U << 20U;
constexpr auto kHandshakeTime = 10s;
constexpr auto kHeaderTime = 60s;  // idle time between two requests included
constexpr auto kBodyTime = 30s;
constexpr auto kWriteTime = 30s;
constexpr auto kKeepAlive = 15s;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string Decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
        HexDigit(text[i + 2]) >= 0) {
      out += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

// False when a parameter appears twice: readers differ in which of the two they believe.
bool SplitTarget(std::string_view target, Request& request) {
  const auto mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark == std::string_view::npos) return true;
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const auto one = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(one.size() + 1, rest.size()));
    if (one.empty()) continue;
    const auto equals = one.find('=');
    const auto value = equals == std::string_view::npos ? "" : one.substr(equals + 1);
    if (!request.query.emplace(Decoded(one.substr(0, equals)), Decoded(value)).second) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct ServerState {
  tcp::acceptor acceptor;
  asio::ssl::context tls;
  ServerSettings settings;
  Context& context;
  std::set<web::TcpStream*> connections{};
  size_t streams = 0;
};

namespace {

// While it lives, a connection is counted and can be closed by Stop().
class Listed {
 public:
  Listed(std::set<web::TcpStream*>& all, web::TcpStream* one) : all_(all), one_(one) {
    all_.insert(one_);
  }
  ~Listed() { all_.erase(one_); }
  Listed(const Listed&) = delete;
  Listed& operator=(const Listed&) = delete;

 private:
  std::set<web::TcpStream*>& all_;
  web::TcpStream* one_;
};

class Counted {
 public:
  explicit Counted(size_t& count) : count_(count) { ++count_; }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  size_t& count_;
};

// One connection.
class Session {
 public:
  Session(std::shared_ptr<ServerState> shared, tcp::socket socket)
      : shared_(std::move(shared)),
        stream_(web::TcpStream(std::move(socket)), shared_->tls),
        listed_(shared_->connections, &stream_.next_layer()) {}

  asio::awaitable<void> Run() {
    stream_.next_layer().expires_after(kHandshakeTime);
    const auto failed = co_await web::Handshake(stream_, asio::ssl::stream_base::server);
    if (failed) {
      spdlog::info("TLS handshake failed: {}", failed.message());
      co_return;
    }
    shown_.common_name = OperatorName(stream_.native_handle());
    shown_.certificate = CertificateDer(stream_.native_handle());
    shown_.certificate_id = CertificateId(stream_.native_handle());
    while (co_await ServeOne()) {
    }
    stream_.next_layer().expires_after(kHandshakeTime);
    co_await web::Shutdown(stream_);
  }

 private:
  using Source = std::function<std::string()>;

  // False: the connection ends.
  asio::awaitable<bool> ServeOne() {
    http::request_parser<http::string_body> parser;
    parser.header_limit(kMostHeaderBytes);
    parser.body_limit(kMostBodyBytes);
    stream_.next_layer().expires_after(kHeaderTime);
    const auto no_header = co_await web::ReadHeader(stream_, buffer_, parser);
    if (no_header) co_return co_await Unreadable(no_header, parser.get());
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      const auto unsent = co_await web::Write(stream_, "HTTP/1.1 100 Continue\r\n\r\n");
      if (unsent) co_return false;
    }
    stream_.next_layer().expires_after(kBodyTime);
    const auto no_body = co_await web::Read(stream_, buffer_, parser);
    if (no_body) co_return co_await Unreadable(no_body, parser.get());

    auto& message = parser.get();
    const bool keep_alive = message.keep_alive();
    Request request;
    request.method = std::string(message.method_string());
    request.content_type = std::string(message[http::field::content_type]);
    request.if_match = std::string(message[http::field::if_match]);
    request.last_event_id = std::string(message["Last-Event-ID"]);
    request.body = std::move(message.body());
    const bool split = SplitTarget(message.target(), request);
    shown_.authorization.clear();
    const auto [first, last] = message.equal_range(http::field::authorization);
    for (auto at = first; at != last; ++at) shown_.authorization.emplace_back(at->value());
    auto identified = Identify(request.path);
    request.who = identified.who;
    Audited audited(shared_->context, request);
    const Response response = co_await Answered(request, split, identified, audited);
    Wipe(request.body);
    audited.End(response);
    if (request.method != "GET") {
      spdlog::info("{} {} by {}: {}", request.method, request.path, request.who.name,
                   response.status);
    }
    if (response.stream) {
      const Response::Stream wanted = *response.stream;
      co_await SendStream(wanted);
      co_return false;
    }
    co_return co_await Send(response, keep_alive);
  }

  [[nodiscard]] Operators::Identified Identify(const std::string& path) const {
    return shared_->context.operators.Identify(shown_, path, identity::Moment::Now());
  }

  asio::awaitable<Response> Answered(Request& request, bool split,
                                     Operators::Identified& identified, Audited& audited) {
    if (identified.refused) co_return std::move(*identified.refused);
    if (!split) {
      co_return Problem(
          kMalformed, {ErrorKind::kInvalid, "a query parameter appears twice", "", "once", "twice"},
          request.path);
    }
    Response response = co_await Dispatch(shared_->context, request, audited);
    if (response.stream && shared_->streams >= kMostStreams) {
      co_return Problem(kUnavailable,
                        {ErrorKind::kUnavailable, "too many event streams are open", "",
                         fmt::format("at most {}", kMostStreams), std::to_string(shared_->streams)},
                        request.path);
    }
    co_return response;
  }

  template <class Message>
  asio::awaitable<bool> Unreadable(beast::error_code error, const Message& message) {
    if (error == http::error::end_of_stream || error == beast::error::timeout ||
        error.category() == asio::error::get_system_category() ||
        error.category() == asio::error::get_ssl_category() ||
        error == asio::ssl::error::stream_truncated || error == asio::error::eof) {
      co_return false;
    }
    const std::string path(message.target().substr(0, message.target().find('?')));
    const bool body = error == http::error::body_limit;
    Response response;
    if (body || error == http::error::header_limit) {
      response = Problem(
          kTooLarge,
          {ErrorKind::kInvalid, body ? "the body is too large" : "the header is too large", "",
           fmt::format("at most {} bytes", body ? kMostBodyBytes : kMostHeaderBytes), "more"},
          path);
      if (body) Refused(message, path, response);
    } else {
      response = Problem(
          kMalformed, {ErrorKind::kInvalid, "not an HTTP request: " + error.message(), "", "", ""},
          path);
    }
    co_await Send(response, false);
    // What the client still sends is read away for a while: closing at once would reset the
    // connection, and the answer would be lost with it.
    buffer_.clear();
    stream_.next_layer().expires_after(kHandshakeTime);
    std::array<char, 16384> away{};
    for (uint64_t total = 0; total < 4 * kMostBodyBytes;) {
      const auto got = co_await web::ReadSome(stream_, asio::buffer(away));
      if (got.error) break;
      total += got.bytes;
    }
    OPENSSL_cleanse(away.data(), away.size());
    co_return false;
  }

  // Whose body nobody read to its end was refused all the same.
  template <class Message>
  void Refused(const Message& message, const std::string& path, const Response& response) {
    Request request;
    request.method = std::string(message.method_string());
    request.path = path;
    shown_.authorization.clear();  // nobody judges a token for this
    request.who = Identify(path).who;
    Audited(shared_->context, request).End(response);
  }

  static void Common(web::Response& message, const Response& response) {
    message.set(http::field::content_type, response.content_type);
    message.set(http::field::cache_control, "no-store");
    message.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) message.set(name, value);
  }

  // True: the connection may carry another request.
  asio::awaitable<bool> Send(const Response& response, bool keep_alive) {
    web::Response message(static_cast<http::status>(response.status), web::kHttp11);
    Common(message, response);
    message.keep_alive(keep_alive);
    message.body() = response.body;
    message.prepare_payload();
    stream_.next_layer().expires_after(kWriteTime);
    std::string text = web::ToText(message);
    const auto failed = co_await web::Write(stream_, text);
    co_return !failed && message.keep_alive();
  }

  asio::awaitable<bool> SendText(std::string text) {
    stream_.next_layer().expires_after(kWriteTime);
    const auto failed = co_await web::Write(stream_, text);
    co_return !failed;
  }

  // The header of a stream, then what there is. The stream ends with the connection, so it needs
  // neither length nor chunks.
  asio::awaitable<void> SendStream(Response::Stream wanted) {
    const Counted counted(shared_->streams);
    const bool begun = co_await SendText(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n");
    if (!begun) co_return;
    asio::steady_timer wake(stream_.get_executor());
    const auto woken = [&] { wake.cancel(); };
    if (wanted.drops_one_in != 0) {
      Drops::Watcher watcher(shared_->context.drops, wanted.drops_one_in, woken);
      const Source source = [&] { return DropsText(watcher.Take()); };
      co_await Follow(wake, "/v1/drops", source);
      co_return;
    }
    seen_ = wanted.after;
    if (!wanted.follow) {
      co_await SendText(EventsText());
      co_return;
    }
    const Events::Subscription subscription(shared_->context.gate.events(), woken);
    const Source source = [&] { return EventsText(); };
    co_await Follow(wake, "/v1/events", source);
  }

  // The events after those that were sent.
  std::string EventsText() {
    const Events& events = shared_->context.gate.events();
    std::string text;
    for (const Event* event : events.After(seen_)) {
      seen_ = event->number;
      text += fmt::format(
          "id: {}\nevent: {}\ndata: {}\n\n", events.IdOf(*event), event->kind,
          events.ToJson(*event).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    }
    return text;
  }

  // What `source` has, and has when `wake` was cancelled, until the client goes. Clients say
  // nothing on this connection; what a read reports is that they went.
  asio::awaitable<void> Follow(asio::steady_timer& wake, std::string path, Source source) {
    bool gone = false;
    std::array<char, 64> ignored{};
    stream_.next_layer().expires_never();
    asio::co_spawn(stream_.get_executor(), web::ReadSome(stream_, asio::buffer(ignored)),
                   [&](const std::exception_ptr& /*none*/, web::Got /*nothing*/) {
                     gone = true;
                     wake.cancel();
                   });
    bool sound = true;
    auto looked = std::chrono::steady_clock::now();
    while (!gone && sound) {
      // The token may have expired or been revoked since.
      if (const auto now = std::chrono::steady_clock::now(); now - looked >= 1s) {
        looked = now;
        if (Identify(path).refused) break;
      }
      if (std::string text = source(); !text.empty()) {
        sound = co_await SendText(std::move(text));
        continue;
      }
      wake.expires_after(kKeepAlive);
      const auto [woken] = co_await wake.async_wait(kAwait);
      if (!woken) sound = co_await SendText(": still here\n\n");
    }
    // The read refers to this frame, so it ends first.
    stream_.next_layer().close();
    while (!gone) {
      wake.expires_at(asio::steady_timer::time_point::max());
      if (!gone) co_await wake.async_wait(kAwait);
    }
  }

  std::shared_ptr<ServerState> shared_;
  web::TlsStream stream_;
  Listed listed_;
  web::Buffer buffer_;
  Operators::Shown shown_;
  uint64_t seen_ = 0;  // number of the last event that was sent
};

asio::awaitable<void> Serve(std::shared_ptr<ServerState> state, tcp::socket socket) {
  Session session(std::move(state), std::move(socket));
  co_await session.Run();
}

}  // namespace

Result<Server> Server::Listen(const asio::any_io_executor& executor, ServerSettings settings,
                              Context& context) {
  auto tls = MakeTls(settings.tls);
  if (!tls) return tl::unexpected(tls.error());
  beast::error_code error;
  const auto address = asio::ip::make_address(settings.address, error);
  if (error) {
    return Invalid("rest.address", "not an IP address", "such as 127.0.0.1", settings.address);
  }
  const tcp::endpoint endpoint(address, settings.port);
  tcp::acceptor acceptor(executor);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return Invalid("rest.address", "cannot listen: " + error.message(), "a free address and port",
                   fmt::format("{} port {}", settings.address, settings.port));
  }
  return Server(std::make_shared<ServerState>(
      ServerState{std::move(acceptor), std::move(*tls), std::move(settings), context}));
}

void Server::Stop() {
  beast::error_code ignored;
  state_->acceptor.close(ignored);
  for (web::TcpStream* stream : state_->connections) stream->close();
}

std::vector<identity::Expiry> Server::endings() const {
  return EndingsOf(state_->tls, state_->settings.tls);
}

uint16_t Server::port() const {
  return state_->acceptor.local_endpoint().port();
}

asio::awaitable<void> Server::Run() {
  for (;;) {
    auto [failed, socket] = co_await state_->acceptor.async_accept(kAwait);
    if (!state_->acceptor.is_open()) co_return;
    if (failed) {  // no file descriptors left, say: it may pass
      spdlog::warn("cannot accept a connection: {}", failed.message());
      asio::steady_timer pause(state_->acceptor.get_executor(), 100ms);
      co_await pause.async_wait(kAwait);
      continue;
    }
    if (state_->connections.size() >= kMostConnections) {
      spdlog::warn("refused a connection: {} are open", state_->connections.size());
      continue;  // the socket closes here
    }
    asio::co_spawn(state_->acceptor.get_executor(), Serve(state_, std::move(socket)),
                   asio::detached);
  }
}

}  // namespace portcullis::rest
