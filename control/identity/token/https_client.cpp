#include "control/identity/token/https_client.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <optional>
#include <utility>

#include "base/secret.hpp"

namespace portcullis::identity {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kQuiet = asio::as_tuple(asio::use_awaitable);
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

tl::unexpected<Error> Failed(const WebAddress& address, std::string_view during,
                             const error_code& error) {
  return Fail(ErrorKind::kUnavailable,
              fmt::format("{}: {}: {}", address.Authority(), during,
                          error == beast::error::timeout ? "no answer in time" : error.message()));
}

// A lookup cannot be broken off: it runs in a thread of its own, and is left behind when it is
// late.
asio::awaitable<Result<tcp::resolver::results_type>> Resolve(const WebAddress& address,
                                                             Clock::time_point deadline) {
  struct Lookup {
    tcp::resolver resolver;
    asio::steady_timer late;
    error_code error = beast::error::timeout;
    tcp::resolver::results_type found;
  };
  const auto executor = co_await asio::this_coro::executor;
  auto lookup = std::make_shared<Lookup>(
      Lookup{tcp::resolver(executor), asio::steady_timer(executor, deadline)});
  lookup->resolver.async_resolve(address.host, address.port,
                                 [lookup](error_code error, tcp::resolver::results_type found) {
                                   lookup->error = error;
                                   lookup->found = std::move(found);
                                   lookup->late.cancel();
                                 });
  co_await lookup->late.async_wait(kQuiet);
  if (lookup->error) co_return Failed(address, "finding its address", lookup->error);
  co_return lookup->found;
}

template <class Stream>
asio::awaitable<Result<std::string>> Exchange(Stream& stream, const WebAddress& address,
                                              HttpsClient::Question& question) {
  constexpr unsigned kHttp11 = 11;
  http::request<http::string_body> request(
      question.form.empty() ? http::verb::get : http::verb::post, address.target, kHttp11);
  request.set(http::field::host, address.Authority());
  request.set(http::field::user_agent, "portcullis");
  request.set(http::field::accept, "application/json, application/jwk-set+json");
  request.keep_alive(false);
  if (!question.form.empty()) {
    request.set(http::field::content_type, "application/x-www-form-urlencoded");
    request.body() = std::move(question.form);
  }
  request.prepare_payload();
  const auto [sent, bytes] = co_await http::async_write(stream, request, kQuiet);
  Wipe(request.body());
  if (sent) co_return Failed(address, "sending the request", sent);

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(question.most_bytes);
  const auto [read, size] = co_await http::async_read(stream, buffer, parser, kQuiet);
  if (read) co_return Failed(address, "reading the answer", read);
  if (parser.get().result() != http::status::ok) {
    co_return Fail(ErrorKind::kUnavailable,
                   fmt::format("{}: expected status 200; found {}", address.Authority(),
                               parser.get().result_int()));
  }
  co_return std::move(parser.get().body());
}

Result<void> Load(asio::ssl::context& tls, const ClientTls& files, const std::string& where) {
  error_code error;
  const auto wrong = [&](const char* field, const std::string& path) {
    return Invalid(where + field, "cannot be used: " + path, "a PEM file", error.message());
  };
  tls.load_verify_file(files.ca, error);
  if (error) return wrong(".ca", files.ca);
  if (files.certificate.empty()) return {};
  tls.use_certificate_chain_file(files.certificate, error);
  if (error) return wrong(".certificate", files.certificate);
  tls.use_private_key_file(files.key, asio::ssl::context::pem, error);
  if (error) return wrong(".key", files.key);
  return {};
}

}  // namespace

Result<HttpsClient> HttpsClient::Create(const std::string& url, const ClientTls& files,
                                        const std::string& where) {
  auto address = ParseWebAddress(url, where);
  if (!address) return tl::unexpected(address.error());
  if (!address->tls) return HttpsClient(std::move(*address), nullptr);
  auto tls = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(tls->native_handle(), "ECDHE+AESGCM:ECDHE+CHACHA20");  // of TLS 1.2
  tls->set_verify_mode(asio::ssl::verify_peer);
  if (auto loaded = Load(*tls, files, where); !loaded) return tl::unexpected(loaded.error());
  return HttpsClient(std::move(*address), std::move(tls));
}

asio::awaitable<Result<std::string>> HttpsClient::Ask(Question question) const {
  const auto deadline = Clock::now() + question.timeout;
  const auto found = co_await Resolve(address_, deadline);
  if (!found) co_return tl::unexpected(found.error());

  beast::tcp_stream tcp(co_await asio::this_coro::executor);
  tcp.expires_at(deadline);  // for all that follows
  const auto [unconnected, endpoint] = co_await tcp.async_connect(*found, kQuiet);
  if (unconnected) co_return Failed(address_, "connecting", unconnected);
  if (!tls_) co_return co_await Exchange(tcp, address_, question);

  TlsStream stream(std::move(tcp), *tls_);
  stream.set_verify_callback(asio::ssl::host_name_verification(address_.host));
  error_code not_an_address;
  asio::ip::make_address(address_.host, not_an_address);
  // SNI carries names only (RFC 6066 3).
  if (not_an_address) SSL_set_tlsext_host_name(stream.native_handle(), address_.host.c_str());
  const auto [refused] = co_await stream.async_handshake(asio::ssl::stream_base::client, kQuiet);
  if (refused) co_return Failed(address_, "TLS handshake", refused);
  co_return co_await Exchange(stream, address_, question);
}

}  // namespace portcullis::identity
