#include "bench/sessions/connection.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace portcullis::bench {

namespace {

constexpr timeval kPatience{30, 0};

Error TlsError(const char* when) {
  const bool of_system = errno != 0 && ERR_peek_error() == 0;
  const std::string text = of_system ? std::strerror(errno) : identity::OpensslError();
  return {ErrorKind::kUnavailable, fmt::format("{}: {}", when, text), {}, {}, {}};
}

}  // namespace

Connection::Socket::~Socket() {
  if (fd >= 0) close(fd);
}

identity::SslContextPtr NewPeerContext() {
  auto context = identity::NewTlsContext(TLS_client_method(), TLS1_3_VERSION, TLS1_3_VERSION);
  identity::UseCertificateSuites(context.get());
  return context;
}

Result<Connection> Connection::Open(const GateAddress& gate, SSL_CTX* context,
                                    const identity::test::Issued& own) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(socket.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(socket.fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  setsockopt(socket.fd, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(gate.port);
  inet_pton(AF_INET, gate.address.c_str(), &to.sin_addr);
  if (connect(socket.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    return tl::unexpected(TlsError("connect"));
  }
  identity::SslHandle ssl(SSL_new(context));
  SSL_use_certificate(ssl.get(), own.certificate.get());
  SSL_use_PrivateKey(ssl.get(), own.key.get());
  SSL_set_fd(ssl.get(), socket.fd);
  ERR_clear_error();
  errno = 0;
  if (SSL_connect(ssl.get()) != 1) return tl::unexpected(TlsError("handshake"));
  return Connection(std::move(socket), std::move(ssl));
}

Result<void> Connection::Close() {
  ERR_clear_error();
  errno = 0;
  SSL_shutdown(ssl_.get());
  char byte = 0;
  const int got = SSL_read(ssl_.get(), &byte, 1);
  if (SSL_get_error(ssl_.get(), got) != SSL_ERROR_ZERO_RETURN) {
    return tl::unexpected(TlsError("goodbye"));
  }
  return {};
}

Result<Reply> Connection::Ask(const std::string& request) {
  namespace http = boost::beast::http;
  ERR_clear_error();
  errno = 0;
  if (SSL_write(ssl_.get(), request.data(), static_cast<int>(request.size())) <= 0) {
    return tl::unexpected(TlsError("request"));
  }
  http::response_parser<http::string_body> parser;
  parser.eager(true);  // the body as well
  std::string pending;
  while (!parser.is_done()) {
    std::array<char, 4096> bytes{};
    const int got = SSL_read(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
    if (got <= 0) return tl::unexpected(TlsError("answer"));
    pending.append(bytes.data(), static_cast<size_t>(got));
    boost::system::error_code error;
    pending.erase(0, parser.put(boost::asio::buffer(pending), error));
    if (error && error != http::error::need_more) {
      return Fail(ErrorKind::kUnavailable, "answer: " + error.message());
    }
  }
  return Reply{parser.get().result_int(), std::move(parser.get().body())};
}

}  // namespace portcullis::bench
