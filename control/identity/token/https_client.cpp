#include "control/identity/token/https_client.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <utility>

#include "base/secret.hpp"
#include "control/http/stream.hpp"
#include "control/identity/private_key.hpp"
#include "control/identity/token/resolve.hpp"

namespace portcullis::identity {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

namespace {

tl::unexpected<Error> NoAnswer(const WebAddress& address, std::string_view during,
                               const error_code& error) {
  return Fail(ErrorKind::kUnavailable,
              fmt::format("{}: {}: {}", address.Authority(), during,
                          error == beast::error::timeout ? "no answer in time" : error.message()));
}

// `deadline` is for all that follows, too.
asio::awaitable<Result<void>> Connect(web::TcpStream& tcp, const WebAddress& address,
                                      Clock::time_point deadline,
                                      const AddressCheck* refuses = nullptr) {
  const auto looked_up = co_await Resolve(tcp.get_executor(), address.host, address.port, deadline);
  if (looked_up.error) co_return NoAnswer(address, "finding its address", looked_up.error);
  for (const auto& one : looked_up.found) {
    const auto why = refuses == nullptr ? std::nullopt : (*refuses)(one.endpoint().address());
    if (!why) continue;
    co_return Fail(ErrorKind::kForbidden, fmt::format("{} is at {}: {}", address.Authority(),
                                                      one.endpoint().address().to_string(), *why));
  }
  tcp.expires_at(deadline);
  const error_code unconnected = co_await web::Connect(tcp, looked_up.found);
  if (unconnected) co_return NoAnswer(address, "connecting", unconnected);
  co_return Result<void>{};
}

class Conversation {
 public:
  Conversation(asio::any_io_executor executor, const WebAddress& address,
               HttpsClient::Question& question, asio::ssl::context* tls)
      : executor_(std::move(executor)), address_(address), question_(question), tls_(tls) {}

  asio::awaitable<Result<HttpsClient::Answer>> Run() {
    if (tls_ != nullptr) {
      const auto stream = co_await Dial(executor_, address_, *tls_, deadline_);
      if (!stream) co_return tl::unexpected(stream.error());
      co_return co_await Exchange(**stream);
    }
    web::TcpStream tcp(executor_);
    const auto connected = co_await Connect(tcp, address_, deadline_);
    if (!connected) co_return tl::unexpected(connected.error());
    co_return co_await Exchange(tcp);
  }

 private:
  [[nodiscard]] tl::unexpected<Error> Failed(std::string_view during,
                                             const error_code& error) const {
    return NoAnswer(address_, during, error);
  }

  std::string Request() {
    const auto verb = question_.form.empty() ? http::verb::get : http::verb::post;
    web::Request request(verb, address_.target, web::kHttp11);
    request.set(http::field::host, address_.Authority());
    request.set(http::field::user_agent, "portcullis");
    request.set(http::field::accept, "application/json, application/jwk-set+json");
    request.keep_alive(false);
    for (const auto& [name, value] : question_.headers) request.set(name, value);
    if (verb == http::verb::post) {
      request.set(http::field::content_type, "application/x-www-form-urlencoded");
      request.body() = std::move(question_.form);
    }
    request.prepare_payload();
    std::string text = web::ToText(request);
    Wipe(request.body());
    return text;
  }

  template <class Stream>
  asio::awaitable<Result<HttpsClient::Answer>> Exchange(Stream& stream) {
    std::string request = Request();
    const error_code unsent = co_await web::Write(stream, request);
    Wipe(request);
    if (unsent) co_return Failed("sending the request", unsent);

    web::Buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(question_.most_bytes);
    const error_code unread = co_await web::Read(stream, buffer, parser);
    if (unread) co_return Failed("reading the answer", unread);
    HttpsClient::Answer answer{parser.get().result_int(), std::move(parser.get().body())};
    co_return answer;
  }

  asio::any_io_executor executor_;
  const WebAddress& address_;
  HttpsClient::Question& question_;
  asio::ssl::context* tls_;  // null: http
  Clock::time_point deadline_ = Clock::now() + question_.timeout;
};

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
  const auto key = LoadPrivateKey(files.key, where + ".key");
  if (!key) return tl::unexpected(key.error());
  if (SSL_CTX_use_PrivateKey(tls.native_handle(), key->get()) != 1) {
    return Invalid(where + ".key", "the key does not belong to the certificate",
                   "the key of " + files.certificate, OpensslError());
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<asio::ssl::context>> MakeClientTls(const ClientTls& files,
                                                          const std::string& where) {
  auto tls = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(tls->native_handle(), "ECDHE+AESGCM:ECDHE+CHACHA20");  // of TLS 1.2
  tls->set_verify_mode(asio::ssl::verify_peer);
  if (auto loaded = Load(*tls, files, where); !loaded) return tl::unexpected(loaded.error());
  return tls;
}

asio::awaitable<Result<std::unique_ptr<web::TlsStream>>> Dial(asio::any_io_executor executor,
                                                              WebAddress address,
                                                              asio::ssl::context& tls,
                                                              Clock::time_point deadline,
                                                              const AddressCheck* refuses) {
  web::TcpStream tcp(executor);
  const auto connected = co_await Connect(tcp, address, deadline, refuses);
  if (!connected) co_return tl::unexpected(connected.error());
  auto stream = std::make_unique<web::TlsStream>(std::move(tcp), tls);
  web::Expect(*stream, address.host);
  const error_code refused = co_await web::Handshake(*stream, asio::ssl::stream_base::client);
  if (refused) co_return NoAnswer(address, "TLS handshake", refused);
  co_return stream;
}

Result<HttpsClient> HttpsClient::Create(const std::string& url, const ClientTls& files,
                                        const std::string& where) {
  auto address = ParseWebAddress(url, where);
  if (!address) return tl::unexpected(address.error());
  if (!address->tls) return HttpsClient(std::move(*address), nullptr);
  auto tls = MakeClientTls(files, where);
  if (!tls) return tl::unexpected(tls.error());
  return HttpsClient(std::move(*address), *std::move(tls));
}

asio::awaitable<Result<HttpsClient::Answer>> HttpsClient::AskForAny(asio::any_io_executor executor,
                                                                    Question question) const {
  Conversation conversation(std::move(executor), address_, question, tls_.get());
  co_return co_await conversation.Run();
}

asio::awaitable<Result<std::string>> HttpsClient::Ask(asio::any_io_executor executor,
                                                      Question question) const {
  auto answer = co_await AskForAny(std::move(executor), std::move(question));
  if (!answer) co_return tl::unexpected(answer.error());
  if (!answer->ok()) co_return WrongStatus(*answer);
  co_return std::move(answer->body);
}

tl::unexpected<Error> HttpsClient::WrongStatus(const Answer& answer) const {
  return Fail(ErrorKind::kUnavailable, fmt::format("{}: expected status 200; found {}",
                                                   address_.Authority(), answer.status));
}

}  // namespace portcullis::identity
