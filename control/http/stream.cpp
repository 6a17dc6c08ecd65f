#include "control/http/stream.hpp"

#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>

#include "control/coroutines.hpp"

namespace portcullis::web {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

template <class Message>
std::string Serialized(const Message& message) {
  constexpr bool kIsRequest = std::is_same_v<Message, Request>;
  http::serializer<kIsRequest, http::string_body> serializer(message);
  std::string text;
  ErrorCode error;
  while (!error && !serializer.is_done()) {
    serializer.next(error, [&](ErrorCode& /*none*/, const auto& buffers) {
      text.reserve(text.size() + boost::beast::buffer_bytes(buffers));
      for (const asio::const_buffer piece : boost::beast::buffers_range_ref(buffers)) {
        text.append(static_cast<const char*>(piece.data()), piece.size());
      }
      serializer.consume(boost::beast::buffer_bytes(buffers));
    });
  }
  return text;
}

}  // namespace

Awaitable<ErrorCode> Connect(TcpStream& stream,
                             const asio::ip::tcp::resolver::results_type& endpoints) {
  const auto [error, endpoint] = co_await stream.async_connect(endpoints, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Handshake(TlsStream& stream, asio::ssl::stream_base::handshake_type as) {
  const auto [error] = co_await stream.async_handshake(as, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Shutdown(TlsStream& stream) {
  const auto [error] = co_await stream.async_shutdown(kAwait);
  co_return error;
}

Awaitable<Got> ReadSome(TcpStream& stream, asio::mutable_buffer room) {
  const auto [error, bytes] = co_await stream.async_read_some(room, kAwait);
  co_return Got{error, bytes};
}

Awaitable<Got> ReadSome(TlsStream& stream, asio::mutable_buffer room) {
  const auto [error, bytes] = co_await stream.async_read_some(room, kAwait);
  co_return Got{error, bytes};
}

Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  const auto [error, bytes] = co_await http::async_read_header(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  const auto [error, bytes] = co_await http::async_read_header(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  const auto [error, bytes] = co_await http::async_read(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  const auto [error, bytes] = co_await http::async_read(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Read(TcpStream& stream, Buffer& buffer, ResponseReader& reader) {
  const auto [error, bytes] = co_await http::async_read(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> ReadSome(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  const auto [error, bytes] = co_await http::async_read_some(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> ReadSome(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  const auto [error, bytes] = co_await http::async_read_some(stream, buffer, reader, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Write(TcpStream& stream, std::string_view bytes) {
  const auto room = asio::buffer(bytes);
  const auto [error, sent] = co_await asio::async_write(stream, room, kAwait);
  co_return error;
}

Awaitable<ErrorCode> Write(TlsStream& stream, std::string_view bytes) {
  const auto room = asio::buffer(bytes);
  const auto [error, sent] = co_await asio::async_write(stream, room, kAwait);
  co_return error;
}

std::string ToText(const Request& message) {
  return Serialized(message);
}

std::string ToText(const Response& message) {
  return Serialized(message);
}

}  // namespace portcullis::web
