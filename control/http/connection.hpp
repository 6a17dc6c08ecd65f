// TCP connections and TLS over them, as all daemons here read and write them. OpenSSL reads from
// the socket and writes to it itself: Asio's own TLS stream copies all of it once more, through
// buffers of 70 KiB for each connection.
#pragma once

#include <openssl/ssl.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream_base.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

namespace portcullis::web {

using ErrorCode = boost::system::error_code;
template <class T>
using Awaitable = boost::asio::awaitable<T>;

struct Got {
  ErrorCode error;
  size_t bytes = 0;
};

/// With a deadline, and a number of bytes that may be read. One thread. At most one operation reads
/// at a time, and one writes.
class TcpStream {
 public:
  using Clock = std::chrono::steady_clock;
  using Socket = boost::asio::ip::tcp::socket;

  explicit TcpStream(const boost::asio::any_io_executor& executor);
  explicit TcpStream(Socket socket);

  /// For operations that begin from now on: they end with beast::error::timeout, and the connection
  /// is closed.
  void expires_at(Clock::time_point deadline);
  void expires_after(Clock::duration time) { expires_at(Clock::now() + time); }
  /// As well for those who keep a connection that they do not use: a deadline that is still to come
  /// keeps an io_context running.
  void expires_never();
  /// From now on, at first any number. When none are left, reads wait for the deadline.
  void may_read(size_t bytes);
  static constexpr size_t kAnyNumber = std::numeric_limits<size_t>::max();

  /// Whoever waits ends with operation_aborted.
  void cancel();
  void close();

  [[nodiscard]] Socket& socket();
  [[nodiscard]] const Socket& socket() const;
  [[nodiscard]] boost::asio::any_io_executor get_executor();

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  std::shared_ptr<State> state_;  // with a timer that may outlive this
};

class TlsStream {
 public:
  TlsStream(TcpStream tcp, boost::asio::ssl::context& context);
  /// `ssl` is this object's from now on.
  TlsStream(TcpStream tcp, SSL* ssl);
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;
  TlsStream(TlsStream&&) = delete;
  TlsStream& operator=(TlsStream&&) = delete;
  ~TlsStream() = default;

  [[nodiscard]] SSL* native_handle() const { return ssl_.get(); }
  [[nodiscard]] TcpStream& next_layer() { return tcp_; }
  [[nodiscard]] boost::asio::any_io_executor get_executor() { return tcp_.get_executor(); }

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  TcpStream tcp_;
  std::unique_ptr<SSL, Free> ssl_;
};

/// Everything by reference lives until the awaited call returns. What ends by the stream's deadline
/// ends with beast::error::timeout; by the end of the connection, with asio::error::eof, or
/// ssl::error::stream_truncated where TLS had not announced it.
Awaitable<ErrorCode> Connect(TcpStream& stream,
                             const boost::asio::ip::tcp::resolver::results_type& endpoints);
/// Before the handshake of a client: it asks for this server (a name or an IP address), and
/// believes no other (RFC 9110 4.3.4).
void Expect(TlsStream& stream, const std::string& host);
Awaitable<ErrorCode> Handshake(TlsStream& stream, boost::asio::ssl::stream_base::handshake_type as);
Awaitable<ErrorCode> Shutdown(TlsStream& stream);

/// Until something may have come, for those who have no room for it yet.
Awaitable<ErrorCode> AwaitInput(TlsStream& stream);
/// What comes next, at most as much as there is room for.
Awaitable<Got> ReadSome(TcpStream& stream, boost::asio::mutable_buffer room);
Awaitable<Got> ReadSome(TlsStream& stream, boost::asio::mutable_buffer room);
/// What still comes is read away until the stream's deadline, its bytes' end or the peer's: closing
/// at once would reset the connection, and what was written last would be lost with it.
Awaitable<void> Drain(TcpStream& stream);
Awaitable<void> Drain(TlsStream& stream);

/// All of it.
Awaitable<ErrorCode> Write(TcpStream& stream, std::string_view bytes);
Awaitable<ErrorCode> Write(TlsStream& stream, std::string_view bytes);

}  // namespace portcullis::web
