#include "control/identity/crl_source.hpp"

#include <openssl/http.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "control/coroutines.hpp"
#include "control/http/stream.hpp"
#include "control/identity/openssl_ptr.hpp"

namespace portcullis::identity {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

constexpr uint32_t kMostHeaderBytes = 16U << 10U;

// What OpenSSL allocated and leaves to us.
class Text {
 public:
  Text() = default;
  ~Text() { OPENSSL_free(text_); }
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  char** operator&() { return &text_; }  // NOLINT(google-runtime-operator): for its C interface
  [[nodiscard]] std::string str() const { return text_ == nullptr ? "" : text_; }

 private:
  char* text_ = nullptr;
};

tl::unexpected<Error> Unavailable(const CrlLocation& location, std::string message) {
  return tl::unexpected(
      Error{ErrorKind::kUnavailable, std::move(message), location.text(), {}, {}});
}

tl::unexpected<Error> TooLarge(const CrlLocation& location, const FetchLimits& limits) {
  return Invalid(location.text(), "the list is too large",
                 fmt::format("at most {} bytes", limits.bytes), "more");
}

}  // namespace

Result<CrlLocation> CrlLocation::Parse(const std::string& text) {
  CrlLocation location;
  location.text_ = text;
  if (text.starts_with('/')) return location;
  const auto wrong = [&](const char* why) {
    return Invalid("location of a revocation list", why,
                   "an absolute path or http://host[:port]/path", text);
  };
  if (!text.starts_with("http://")) return wrong("neither an absolute path nor plain HTTP");
  for (const char c : text) {
    if (c <= ' ' || c >= 127) return wrong("a URL of characters that URLs do not have");
  }
  Text user;
  Text host;
  Text port;
  Text path;
  Text query;
  Text fragment;
  int tls = 0;
  ERR_clear_error();
  const int parsed = OSSL_HTTP_parse_url(text.c_str(), &tls, &user, &host, &port, nullptr, &path,
                                         &query, &fragment);
  ERR_clear_error();
  if (parsed != 1 || host.str().empty()) return wrong("not a URL");
  if (!user.str().empty()) return wrong("a URL with a user or password");
  location.host_ = host.str();
  if (location.host_.starts_with('[')) {
    location.host_ = location.host_.substr(1, location.host_.size() - 2);
  }
  location.port_ = port.str();
  location.target_ = path.str() + (query.str().empty() ? "" : "?" + query.str());
  return location;
}

std::string CrlLocation::Authority() const {
  const bool v6 = host_.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", host_, v6 ? "]" : "", port_);
}

Result<std::string> ReadFile(const CrlLocation& location, const FetchLimits& limits) {
  std::error_code error;
  // Not a pipe: opening one would wait for its writer.
  if (!std::filesystem::is_regular_file(location.text(), error)) {
    return Unavailable(location, error ? error.message() : "not a regular file");
  }
  if (std::filesystem::file_size(location.text(), error) > limits.bytes) {
    return error ? Unavailable(location, error.message()) : TooLarge(location, limits);
  }
  std::ifstream file(location.text(), std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) return Unavailable(location, "cannot be read");
  return bytes;
}

asio::awaitable<Result<std::string>> FetchHttp(const asio::any_io_executor& executor,
                                               const CrlLocation& location,
                                               const FetchLimits& limits) {
  const auto failed = [&](const beast::error_code& error, const char* during) {
    return Unavailable(location,
                       error == beast::error::timeout
                           ? fmt::format("not there within {} ms ({})", limits.time.count(), during)
                           : fmt::format("{} ({})", error.message(), during));
  };
  web::TcpStream stream(executor);
  stream.expires_after(limits.time);  // one deadline for all steps: a server cannot dribble it away
  tcp::resolver resolver(executor);
  const auto [unresolved, endpoints] =
      co_await resolver.async_resolve(location.host(), location.port(), kAwait);
  if (unresolved) co_return failed(unresolved, "resolving the name");
  const auto unconnected = co_await web::Connect(stream, endpoints);
  if (unconnected) co_return failed(unconnected, "connecting");

  web::Request request(http::verb::get, location.target(), web::kHttp11);
  request.set(http::field::host, location.Authority());
  request.set(http::field::user_agent, "portcullis");
  request.keep_alive(false);
  const std::string text = web::ToText(request);
  const auto unsent = co_await web::Write(stream, text);
  if (unsent) co_return failed(unsent, "asking");

  http::response_parser<http::string_body> parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(limits.bytes);
  web::Buffer buffer;
  const auto unread = co_await web::Read(stream, buffer, parser);
  if (unread == http::error::body_limit) co_return TooLarge(location, limits);
  if (unread) co_return failed(unread, "reading the answer");
  if (parser.get().result() != http::status::ok) {
    co_return Unavailable(location, fmt::format("the server answers with status {}, not 200",
                                                parser.get().result_int()));
  }
  co_return std::move(parser.get().body());
}

}  // namespace portcullis::identity
