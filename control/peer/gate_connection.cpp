#include "control/peer/gate_connection.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <charconv>
#include <new>
#include <utility>

#include "base/secret.hpp"
#include "control/guard/session/address.hpp"
#include "control/identity/token/resolve.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;

namespace {

constexpr uint32_t kMostHeaderBytes = 16U << 10U;
constexpr uint64_t kMostBodyBytes = 256U << 10U;  // a thousand selectors

// RFC 9110 10.2.3, as seconds; the gate gives no dates.
std::chrono::seconds SecondsOf(std::string_view text) {
  constexpr unsigned kMost = 3600;
  unsigned seconds = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::chrono::seconds(failed == std::errc() ? std::min(seconds, kMost) : 0);
}

tl::unexpected<Error> Unreachable(const std::string& authority, const char* during,
                                  const error_code& error) {
  return Fail(ErrorKind::kUnavailable,
              fmt::format("the gate at {} cannot be reached: {}: {}", authority, during,
                          error == beast::error::timeout ? "no answer in time" : error.message()));
}

}  // namespace

asio::awaitable<Result<std::unique_ptr<GateConnection>>> GateConnection::Open(
    asio::any_io_executor executor, GateAddress gate, std::shared_ptr<const TlsClient> tls,
    std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  const std::string authority = gate.parts.Authority();
  const std::string host = gate.address ? gate.address->Text() : gate.parts.host;
  const auto looked_up = co_await identity::Resolve(executor, host, gate.parts.port, deadline);
  if (looked_up.error) co_return Unreachable(authority, "finding its address", looked_up.error);
  web::TcpStream tcp(executor);
  tcp.expires_at(deadline);  // for all that follows
  const error_code unconnected = co_await web::Connect(tcp, looked_up.found);
  if (unconnected) co_return Unreachable(authority, "connecting", unconnected);

  auto ssl = tls->NewConnection(gate.parts.host);
  if (!ssl) throw std::bad_alloc();
  std::unique_ptr<GateConnection> connection(
      new GateConnection(std::move(tcp), std::move(ssl), authority));
  const auto authenticated = co_await connection->Authenticate();
  if (!authenticated) co_return tl::unexpected(authenticated.error());
  co_return connection;
}

asio::awaitable<Result<void>> GateConnection::Authenticate() {
  error_code closed;
  const auto& socket = stream_.next_layer().socket();
  const auto local = socket.local_endpoint(closed);
  const auto remote = closed ? local : socket.remote_endpoint(closed);
  if (closed) co_return Unreachable(authority_, "connecting", closed);
  local_ = guard::ToAddress(local.address());
  remote_ = guard::ToAddress(remote.address());

  const error_code failed = co_await web::Handshake(stream_, asio::ssl::stream_base::client);
  if (failed) co_return Broken("TLS handshake", failed);
  auto gate = JudgeGate(ssl());
  if (!gate) {
    co_return Fail(ErrorKind::kForbidden, fmt::format("the gate at {} is not believed: {}",
                                                      authority_, gate.error().Text()));
  }
  gate_ = *std::move(gate);
  co_return Result<void>{};
}

// What is not OpenSSL's is the network's.
tl::unexpected<Error> GateConnection::Broken(const char* during, const error_code& error) {
  if (error.category() != asio::error::get_ssl_category()) {
    return Unreachable(authority_, during, error);
  }
  const auto why = WhyNot(ssl(), static_cast<unsigned>(error.value()));
  return Fail(ErrorKind::kForbidden, fmt::format("the gate at {} is refused, or refuses: {}: {}",
                                                 authority_, during, why.Text()));
}

asio::awaitable<Result<Reply>> GateConnection::Ask(Question question) {
  web::Request request;
  request.version(web::kHttp11);
  request.method_string(question.method);
  request.target(question.target);
  request.set(http::field::host, authority_);
  request.set(http::field::user_agent, "portcullis-peer");
  for (const auto& [name, value] : question.headers) request.set(name, value);
  request.body() = std::move(question.body);
  request.prepare_payload();
  std::string bytes = web::ToText(request);
  const error_code unsent = co_await web::Write(stream_, bytes);
  Wipe(bytes);  // the token
  if (unsent) co_return Broken("sending a request", unsent);

  http::response_parser<http::string_body> parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(kMostBodyBytes);
  const error_code unread = co_await web::Read(stream_, buffer_, parser);
  if (unread) co_return Broken("reading the answer", unread);
  Reply reply;
  reply.status = parser.get().result_int();
  reply.nonce = std::string(parser.get()["DPoP-Nonce"]);
  reply.retry_after = SecondsOf(parser.get()[http::field::retry_after]);
  reply.body = std::move(parser.get().body());
  co_return reply;
}

}  // namespace portcullis::peer
