#include "bench/requests/client.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <stdexcept>

namespace portcullis::bench {

namespace {

constexpr std::string_view kLength = "\r\ncontent-length: ";
constexpr size_t kStatusAt = 9;  // behind "HTTP/1.1 "
constexpr size_t kStatusDigits = 3;

unsigned NumberAt(std::string_view text, size_t at) {
  unsigned number = 0;
  std::from_chars(text.data() + at, text.data() + text.size(), number);
  return number;
}

// Behind the end of the answer's head; npos: it has not ended. Both servers say Content-Length, one
// of them in capitals.
size_t BodyAt(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  return end == std::string::npos ? end : end + 4;
}

size_t LengthOf(std::string_view head) {
  for (size_t at = head.find("\r\n"); at != std::string_view::npos;
       at = head.find("\r\n", at + 1)) {
    const auto line = head.substr(at, kLength.size());
    if (line.size() == kLength.size() &&
        strncasecmp(line.data(), kLength.data(), kLength.size()) == 0) {
      return NumberAt(head, at + kLength.size());
    }
  }
  throw std::runtime_error("an answer without Content-Length");
}

}  // namespace

identity::SslContextPtr NewClientContext(const std::string& certificate, const std::string& key) {
  auto context = identity::NewTlsContext(TLS_client_method(), TLS1_3_VERSION, TLS1_3_VERSION);
  SSL_CTX* c = context.get();
  SSL_CTX_set_verify(c, SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_use_certificate_chain_file(c, certificate.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(c, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    throw std::runtime_error("no certificate, or not its key: " + certificate + ", " + key);
  }
  return context;
}

Client::Client(SSL_CTX* context, uint16_t port)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)), ssl_(SSL_new(context)) {
  if (fd_ < 0 || !ssl_) throw std::runtime_error("no socket, or no memory");
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 &&
      errno != EINPROGRESS) {
    close(fd_);
    throw std::runtime_error("cannot connect");
  }
  SSL_set_fd(ssl_.get(), fd_);
  SSL_set_connect_state(ssl_.get());
}

Client::~Client() {
  close(fd_);
}

void Client::Ask(const std::string& request) {
  out_ = request;
  sent_ = 0;
  in_.clear();
  state_ = State::asking;
  Sent();  // and no more: an answer that is there already is told by Go() alone
}

void Client::Close() {
  state_ = State::closing;
  SSL_shutdown(ssl_.get());
}

bool Client::Go() {
  switch (state_) {
    case State::opening:
      return Opened();
    case State::asking:
      return Sent() && Answered();
    case State::closing:
      return Ended();
    default:
      return false;
  }
}

bool Client::Waits(int result) {
  const int why = SSL_get_error(ssl_.get(), result);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return true;
  state_ = State::closed;
  return false;
}

bool Client::Opened() {
  const int result = SSL_do_handshake(ssl_.get());
  if (result != 1) return !Waits(result);
  state_ = State::idle;
  return true;
}

bool Client::Sent() {
  while (sent_ < out_.size()) {
    const int result =
        SSL_write(ssl_.get(), out_.data() + sent_, static_cast<int>(out_.size() - sent_));
    if (result <= 0) return !Waits(result);
    sent_ += static_cast<size_t>(result);
  }
  return state_ == State::asking;
}

bool Client::Answered() {
  std::array<char, 16384> room{};
  for (;;) {
    if (state_ == State::closed) return true;
    const int result = SSL_read(ssl_.get(), room.data(), static_cast<int>(room.size()));
    if (result <= 0) return !Waits(result);
    in_.append(room.data(), static_cast<size_t>(result));
    const size_t body = BodyAt(in_);
    if (body == std::string::npos) continue;
    if (in_.size() < body + LengthOf(std::string_view(in_).substr(0, body))) continue;
    status_ = NumberAt(std::string_view(in_).substr(0, kStatusAt + kStatusDigits), kStatusAt);
    state_ = State::idle;
    return true;
  }
}

// Only then is it known that the server took the handshake.
bool Client::Ended() {
  std::array<char, 512> away{};
  for (;;) {
    const int result = SSL_read(ssl_.get(), away.data(), static_cast<int>(away.size()));
    if (result > 0) continue;
    return !Waits(result);
  }
}

}  // namespace portcullis::bench
