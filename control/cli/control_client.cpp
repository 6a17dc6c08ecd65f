// Timeouts work with asynchronous calls only, so each step is one of those and a run of the
// io_context until it is done.
#include "control/cli/control_client.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <fstream>
#include <optional>
#include <utility>

#include "base/secret.hpp"
#include "control/cli/sse.hpp"
#include "control/coroutines.hpp"
#include "control/http/stream.hpp"

namespace portcullis::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using nlohmann::json;

constexpr uint64_t kMaxAnswerBytes = 256U << 20U;

// OpenSSL reports an alert from the other side as 1000 + its number (SSL_AD_REASON_OFFSET).
bool IsTlsRefusal(const error_code& error) {
  if (error.category() != asio::error::get_ssl_category()) return false;
  const int reason = ERR_GET_REASON(static_cast<unsigned long>(error.value()));  // NOLINT
  return reason == SSL_R_CERTIFICATE_VERIFY_FAILED || reason >= SSL_AD_REASON_OFFSET;
}

}  // namespace

struct ControlClient::Impl {
  asio::io_context io;
  asio::ssl::context tls{asio::ssl::context::tls_client};
  Url url;
  std::string server_name;
  std::string authorization;  // empty: the certificate alone
  std::chrono::milliseconds timeout{};
  std::optional<web::TlsStream> stream;
  web::Buffer buffer;

  template <class T>
  T Wait(web::Awaitable<T> step) {
    std::optional<T> result;
    asio::co_spawn(io, std::move(step), [&result](const std::exception_ptr& failure, T got) {
      Rethrow(failure);
      result = got;
    });
    io.restart();
    while (!result) io.run_one();
    return *result;
  }

  void Deadline() { stream->next_layer().expires_after(timeout); }

  Failure Explain(const error_code& error, std::string_view during) {
    const std::string where = fmt::format("https://{}:{}", url.host, url.port);
    if (IsTlsRefusal(error)) {
      const int reason = ERR_GET_REASON(static_cast<unsigned long>(error.value()));  // NOLINT
      if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        const long why = SSL_get_verify_result(stream->native_handle());  // NOLINT
        const bool other =
            why == X509_V_ERR_HOSTNAME_MISMATCH || why == X509_V_ERR_IP_ADDRESS_MISMATCH;
        return {ExitCode::kNotAllowed,
                fmt::format("{} is not the control that we trust: {} (expected a certificate of "
                            "the configured CA for {})",
                            where,
                            other ? "its certificate is for another name"
                                  : X509_verify_cert_error_string(why),
                            server_name),
                nullptr};
      }
      return {ExitCode::kNotAllowed,
              fmt::format("{} does not accept our certificate: {}", where, error.message()),
              nullptr};
    }
    const std::string reason = error == beast::error::timeout
                                   ? fmt::format("no answer in {} ms", timeout.count())
                                   : error.message();
    return {ExitCode::kUnreachable,
            fmt::format("cannot reach control at {} ({}): {}", where, during, reason), nullptr};
  }

  Outcome<void> Connect() {
    stream.emplace(web::TcpStream(io.get_executor()), tls);
    buffer.clear();
    web::Expect(*stream, server_name);
    asio::ip::tcp::resolver resolver(io);
    error_code error;
    const auto endpoints = resolver.resolve(url.host, url.port, error);
    if (error) return tl::unexpected(Explain(error, "resolving the name"));
    Deadline();
    auto& tcp = stream->next_layer();
    error = Wait(web::Connect(tcp, endpoints));
    if (error) return tl::unexpected(Explain(error, "connecting"));
    tcp.socket().set_option(asio::socket_base::keep_alive(true), error);
    Deadline();
    error = Wait(web::Handshake(*stream, asio::ssl::stream_base::client));
    if (error) return tl::unexpected(Explain(error, "TLS handshake"));
    return {};
  }

  web::Request Request(Verb verb, const std::string& target) const {
    web::Request request(verb, target, web::kHttp11);
    const bool v6 = url.host.find(':') != std::string::npos;
    request.set(http::field::host,
                fmt::format("{}{}{}:{}", v6 ? "[" : "", url.host, v6 ? "]" : "", url.port));
    request.set(http::field::user_agent, "portcullisctl");
    if (!authorization.empty()) request.set(http::field::authorization, authorization);
    return request;
  }

  // Sends and reads the header of the answer. In TLS 1.3 a client learns only now that the server
  // did not like its certificate.
  Outcome<void> Exchange(const web::Request& request, web::ResponseReader& parser) {
    const bool reused = stream.has_value();
    if (!reused) {
      if (auto connected = Connect(); !connected) return connected;
    }
    Deadline();
    std::string text = web::ToText(request);
    error_code error = Wait(web::Write(*stream, text));
    Wipe(text);
    // The answer or alert may be there although writing failed.
    Deadline();
    const error_code read_error = Wait(web::ReadHeader(*stream, buffer, parser));
    if (!read_error) return {};
    if (!error || IsTlsRefusal(read_error)) error = read_error;
    // An idle connection that control closed meanwhile; a GET may be asked again (RFC 9110 9.2.2).
    if (reused && request.method() == Verb::get && !parser.got_some()) {
      stream.reset();
      return Exchange(request, parser);
    }
    Failure failure = Explain(error, "waiting for the answer");
    stream.reset();
    return tl::unexpected(std::move(failure));
  }
};

namespace {

// What stands in the file, a newline at its end aside.
Outcome<std::string> Authorization(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path);
  std::string token;
  std::string more;
  const bool one = static_cast<bool>(file >> token) && !(file >> more);
  if (!one) {
    return Fails(ExitCode::kUsage,
                 fmt::format("{}: cannot be used as an access token: expected one word", path));
  }
  return "Bearer " + token;
}

}  // namespace

Outcome<ControlClient> ControlClient::Create(const Settings& settings,
                                             std::chrono::milliseconds timeout) {
  const Outcome<Url> url = ParseUrl(settings.url);
  if (!url) return tl::unexpected(url.error());
  auto impl = std::make_unique<Impl>();
  impl->url = *url;
  impl->server_name = settings.server_name.empty() ? url->host : settings.server_name;
  impl->timeout = timeout;
  auto authorization = Authorization(settings.token_file);
  if (!authorization) return tl::unexpected(authorization.error());
  impl->authorization = std::move(*authorization);
  SSL_CTX_set_min_proto_version(impl->tls.native_handle(), TLS1_2_VERSION);
  error_code error;
  const auto load = [&](const std::string& what, const std::string& path,
                        const auto& call) -> Outcome<void> {
    call(path);
    if (!error) return {};
    return Fails(ExitCode::kUsage,
                 fmt::format("{}: cannot be used as {}: {}", path, what, error.message()));
  };
  for (const auto& loaded :
       {load("the CA of control", settings.ca,
             [&](const std::string& path) { impl->tls.load_verify_file(path, error); }),
        load("our certificate", settings.certificate,
             [&](const std::string& path) { impl->tls.use_certificate_chain_file(path, error); }),
        load("our key", settings.key, [&](const std::string& path) {
          impl->tls.use_private_key_file(path, asio::ssl::context::pem, error);
        })}) {
    if (!loaded) return tl::unexpected(loaded.error());
  }
  return ControlClient(std::move(impl));
}

ControlClient::ControlClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlClient::ControlClient(ControlClient&&) noexcept = default;
ControlClient& ControlClient::operator=(ControlClient&&) noexcept = default;
ControlClient::~ControlClient() = default;

Outcome<json> ControlClient::Send(Verb verb, const std::string& target, const json& body) {
  auto request = impl_->Request(verb, target);
  if (!body.is_null()) {
    request.set(http::field::content_type, "application/json");
    request.body() = body.dump();
  }
  request.prepare_payload();
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxAnswerBytes);
  const auto sent = impl_->Exchange(request, parser);
  Wipe(request.body());
  if (!sent) return tl::unexpected(sent.error());
  impl_->Deadline();
  const error_code error = impl_->Wait(web::Read(*impl_->stream, impl_->buffer, parser));
  if (error) {
    Failure failure = impl_->Explain(error, "reading the answer");
    impl_->stream.reset();
    return tl::unexpected(std::move(failure));
  }
  const auto& answer = parser.get();
  if (!answer.keep_alive()) impl_->stream.reset();
  constexpr unsigned kFirstError = 400;
  if (answer.result_int() >= kFirstError) {
    return tl::unexpected(FailureOf(answer.result_int(), answer.body()));
  }
  if (answer.body().empty()) return json(nullptr);
  json value = json::parse(answer.body(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    return Fails(ExitCode::kServerError,
                 fmt::format("control answered {} to {} with something other than JSON",
                             answer.result_int(), target));
  }
  return value;
}

Outcome<void> ControlClient::Events(const std::string& target, const std::string& last_id,
                                    const EventSink& on_event) {
  auto request = impl_->Request(Verb::get, target);
  request.set(http::field::accept, "text/event-stream");
  if (!last_id.empty()) request.set("Last-Event-ID", last_id);
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  if (auto sent = impl_->Exchange(request, parser); !sent) return sent;
  SseParser events;
  std::string problem;
  constexpr unsigned kFirstError = 400;
  const unsigned status = parser.get().result_int();
  std::array<char, 16384> chunk{};
  Outcome<void> result = [&]() -> Outcome<void> {
    while (!parser.is_done()) {
      // Events may be hours apart; a dead host is found by TCP keep-alive.
      impl_->stream->next_layer().expires_never();
      const web::Got piece = impl_->Wait(
          web::ReadBody(*impl_->stream, impl_->buffer, parser, boost::asio::buffer(chunk)));
      const std::string_view got(chunk.data(), piece.bytes);
      if (status >= kFirstError) {
        problem += got;
      } else {
        for (const std::string& data : events.Feed(got)) {
          const json event = json::parse(data, nullptr, /*allow_exceptions=*/false);
          if (event.is_object() && !on_event(event)) return {};
        }
      }
      if (piece.error) return tl::unexpected(impl_->Explain(piece.error, "reading events"));
    }
    if (status >= kFirstError) return tl::unexpected(FailureOf(status, problem));
    return {};
  }();
  impl_->stream.reset();
  return result;
}

std::string UrlEncode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace portcullis::cli
