// A listener on loopback with a thread of its own, and blocking OpenSSL clients that talk to it.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "control/guard/session/listener.hpp"
#include "control/guard/session/test_pki.hpp"

namespace portcullis::guard {

/// OpenSSL writes with write(): a connection that the gate closed must not end the tests.
inline const auto kNoSignal = std::signal(SIGPIPE, SIG_IGN);

/// Far beyond what anything here takes, also on a machine that is busy with something else.
inline constexpr std::chrono::seconds kLongest{60};

/// What a thread leaves for another one.
template <class T>
class Mailbox {
 public:
  void Put(T value) {
    const std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  /// Nothing when none comes.
  std::optional<T> Take() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kLongest, [&] { return !values_.empty(); })) return {};
    std::optional<T> value(std::move(values_.front()));
    values_.pop_front();
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> values_;
};

inline constexpr auto kAwaitTuple = boost::asio::as_tuple(boost::asio::use_awaitable);

/// Sends back what comes until the peer ends.
inline boost::asio::awaitable<void> Echo(Connection& connection) {
  std::array<char, 1024> bytes{};
  for (;;) {
    const auto [ended, got] =
        co_await connection.stream.async_read_some(boost::asio::buffer(bytes), kAwaitTuple);
    if (ended) co_return;
    co_await boost::asio::async_write(connection.stream, boost::asio::buffer(bytes, got),
                                      kAwaitTuple);
  }
}

class TestGate {
 public:
  explicit TestGate(std::shared_ptr<const TlsServer> tls, ListenerLimits limits = {},
                    ConnectionHandler handler = Echo)
      : listener_(Make(std::move(tls), limits, std::move(handler))) {
    boost::asio::co_spawn(io_, listener_.Run(), boost::asio::detached);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~TestGate() {
    boost::asio::post(io_, [this] { listener_.Stop(); });
    thread_.join();
  }
  TestGate(const TestGate&) = delete;
  TestGate& operator=(const TestGate&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] uint64_t Refused(identity::Reason reason) const { return counters_.Of(reason); }
  /// The next one that was let in, in order.
  Authenticated TakeAuthenticated() {
    auto who = authenticated_.Take();
    EXPECT_TRUE(who) << "nobody was let in";
    return who ? std::move(*who) : Authenticated{};
  }
  /// The next refusal, in order; counted as well.
  identity::Refusal TakeRefusal() {
    auto refusal = refusals_.Take();
    EXPECT_TRUE(refusal) << "nobody was refused";
    return refusal.value_or(identity::Refusal{identity::Reason::tls_failed, "none at all"});
  }
  /// Runs `ask` on the listener's thread.
  template <class Ask>
  auto On(Ask ask) {
    std::promise<decltype(ask(listener_))> answer;
    boost::asio::post(io_, [&] { answer.set_value(ask(listener_)); });
    return answer.get_future().get();
  }

 private:
  Listener Make(std::shared_ptr<const TlsServer> tls, const ListenerLimits& limits,
                ConnectionHandler handler) {
    auto serve = [this, handler = std::move(handler)](
                     Connection& connection) -> boost::asio::awaitable<void> {
      Authenticated copy = {connection.who.mode,          connection.who.tls_version,
                            connection.who.cipher,        nullptr,
                            connection.who.psk_identity,  connection.who.psk_peer,
                            connection.who.psk_thumbprint};
      if (connection.who.certificate) {
        copy.certificate.reset(X509_dup(connection.who.certificate.get()));
      }
      authenticated_.Put(std::move(copy));
      co_await handler(connection);
    };
    auto listener = Listener::Listen(
        io_.get_executor(), {"127.0.0.1", 0, limits}, std::move(tls), std::move(serve), counters_,
        [this](const identity::Refusal& r, const auto& /*from*/) { refusals_.Put(r); }, "/test");
    if (!listener) throw std::runtime_error(listener.error().Text());
    port_ = listener->port();
    return std::move(*listener);
  }

  boost::asio::io_context io_{1};
  identity::RefusalCounters counters_;
  Mailbox<Authenticated> authenticated_;
  Mailbox<identity::Refusal> refusals_;
  uint16_t port_ = 0;
  Listener listener_;
  std::thread thread_;
};

/// A TCP connection to 127.0.0.1, from `source` in 127.0.0.0/8.
class Socket {
 public:
  explicit Socket(uint16_t port, const std::string& source = "127.0.0.1")
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{kLongest.count(), 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    const sockaddr_in from = At(source, 0);
    const sockaddr_in to = At("127.0.0.1", port);
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&from), sizeof(from)), 0);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  /// False when the gate has closed the connection.
  [[nodiscard]] bool Send(const std::string& bytes) const {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  /// True when the gate closes the connection, whatever it says before.
  [[nodiscard]] bool WaitForEnd() const {
    std::array<char, 4096> away{};
    for (;;) {
      const auto got = recv(fd_, away.data(), away.size(), 0);
      if (got > 0) continue;
      return got == 0 || errno == ECONNRESET;
    }
  }

 private:
  static sockaddr_in At(const std::string& address, uint16_t port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(port);
    inet_pton(AF_INET, address.c_str(), &out.sin_addr);
    return out;
  }
  int fd_;
};

/// What OpenSSL holds against the last call of this thread.
inline std::string ErrorsOfClient() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    text += std::string(ERR_reason_error_string(code)) + "; ";
  }
  return text;
}

/// One TLS connection of a client.
class Client {
 public:
  Client(uint16_t port, SSL_CTX* context, const std::string& source = "127.0.0.1")
      : socket_(port, source), ssl_(SSL_new(context)) {
    SSL_set_fd(ssl_.get(), socket_.fd());
    SSL_set_app_data(ssl_.get(), this);
    SSL_set_info_callback(ssl_.get(), [](const SSL* ssl, int where, int alert) {
      if ((where & SSL_CB_READ_ALERT) != SSL_CB_READ_ALERT) return;
      static_cast<Client*>(SSL_get_app_data(ssl))->alert_ = alert & 0xff;
    });
  }
  /// In TLS 1.3 a client is content before the gate has judged it: ask Echoes() too.
  bool Connect() {
    ERR_clear_error();
    return SSL_connect(ssl_.get()) == 1;
  }
  bool Echoes(const std::string& text = "hello") {
    ERR_clear_error();
    std::string back(text.size(), 0);
    return SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) > 0 &&
           SSL_read(ssl_.get(), back.data(), static_cast<int>(back.size())) ==
               static_cast<int>(text.size()) &&
           back == text;
  }
  bool ConnectsAndEchoes() { return Connect() && Echoes(); }

  SSL* ssl() { return ssl_.get(); }
  [[nodiscard]] const Socket& socket() const { return socket_; }
  /// The alert that the gate sent (RFC 8446 6); -1: none.
  [[nodiscard]] int alert() const { return alert_; }

 private:
  Socket socket_;
  SslPtr ssl_;
  int alert_ = -1;
};

/// A client's context that offers everything, also what no gate should take.
inline CtxPtr AnyClient(int least_version, int most_version) {
  CtxPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_security_level(context.get(), 0);
  SSL_CTX_set_min_proto_version(context.get(), least_version);
  SSL_CTX_set_max_proto_version(context.get(), most_version);
  SSL_CTX_set_cipher_list(context.get(), "ALL");
  return context;
}

}  // namespace portcullis::guard
