// HTTP/1.1 over TCP and TLS, as all daemons here read and write it. Asio and Beast compose their
// operations of templates, which cost each file that awaits one of them up to a minute to compile:
// here that is done once.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/rate_policy.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>
#include <string>
#include <string_view>

namespace portcullis::web {

/// How many bytes may still be read, at first any number. When none are left, reads wait, until the
/// deadline ends them. In the words of Beast, whose streams ask such an object, a rate policy.
class ByteBudget {
 public:
  void Set(size_t bytes) { left_ = bytes; }

 private:
  friend class boost::beast::rate_policy_access;
  static constexpr size_t kAll = std::numeric_limits<size_t>::max();
  [[nodiscard]] size_t available_read_bytes() const noexcept { return left_; }
  [[nodiscard]] static size_t available_write_bytes() noexcept { return kAll; }
  void transfer_read_bytes(size_t n) noexcept { left_ -= n < left_ ? n : left_; }
  static void transfer_write_bytes(size_t /*n*/) noexcept {}
  static void on_timer() noexcept {}

  size_t left_ = kAll;
};

/// Time and bytes: expires_after(), rate_policy().Set(); of a TlsStream, those of next_layer().
using TcpStream =
    boost::beast::basic_stream<boost::asio::ip::tcp, boost::asio::any_io_executor, ByteBudget>;
using TlsStream = boost::asio::ssl::stream<TcpStream>;

using ErrorCode = boost::system::error_code;
using Buffer = boost::beast::flat_buffer;
template <class T>
using Awaitable = boost::asio::awaitable<T>;
using Request = boost::beast::http::request<boost::beast::http::string_body>;
using Response = boost::beast::http::response<boost::beast::http::string_body>;
using RequestReader = boost::beast::http::basic_parser<true>;
using ResponseReader = boost::beast::http::basic_parser<false>;
template <bool is_request>
using BodyReader = boost::beast::http::parser<is_request, boost::beast::http::buffer_body>;

inline constexpr unsigned kHttp11 = 11;

struct Got {
  ErrorCode error;
  size_t bytes = 0;
};

/// Everything by reference lives until the awaited call returns. What ends by the stream's deadline
/// ends with beast::error::timeout.
Awaitable<ErrorCode> Connect(TcpStream& stream,
                             const boost::asio::ip::tcp::resolver::results_type& endpoints);
Awaitable<ErrorCode> Handshake(TlsStream& stream, boost::asio::ssl::stream_base::handshake_type as);
Awaitable<ErrorCode> Shutdown(TlsStream& stream);

/// What comes next, at most as much as there is room for.
Awaitable<Got> ReadSome(TcpStream& stream, boost::asio::mutable_buffer room);
Awaitable<Got> ReadSome(TlsStream& stream, boost::asio::mutable_buffer room);

/// The header of a message, or the message to its end. `buffer` keeps what follows it.
Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, RequestReader& reader);
Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, ResponseReader& reader);
Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, RequestReader& reader);
Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, ResponseReader& reader);
Awaitable<ErrorCode> Read(TcpStream& stream, Buffer& buffer, ResponseReader& reader);
/// Some of the body, for those who take it as it comes: none, without an error, where only framing
/// came, or its end.
Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<true>& reader,
                        boost::asio::mutable_buffer room);
Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<false>& reader,
                        boost::asio::mutable_buffer room);
/// What still comes is read away until the stream's deadline, its bytes' end or the peer's: closing
/// at once would reset the connection, and what was written last would be lost with it.
Awaitable<void> Drain(TcpStream& stream);
Awaitable<void> Drain(TlsStream& stream);

/// All of it.
Awaitable<ErrorCode> Write(TcpStream& stream, std::string_view bytes);
Awaitable<ErrorCode> Write(TlsStream& stream, std::string_view bytes);

/// As it goes over the wire: one piece, hence one TLS record where it fits. Secrets in it are to be
/// wiped by the caller.
std::string ToText(const Request& message);
std::string ToText(const Response& message);

}  // namespace portcullis::web
