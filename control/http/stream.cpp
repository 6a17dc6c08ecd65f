#include "control/http/stream.hpp"

#include <sys/socket.h>

#include <array>
#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>
#include <tuple>
#include <utility>

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

// Of what an operation ends with, the error.
Awaitable<ErrorCode> ErrorOf(Awaitable<std::tuple<ErrorCode, size_t>> operation) {
  const auto [error, bytes] = co_await std::move(operation);
  co_return error;
}

template <bool is_request>
Awaitable<Got> ReadPiece(TlsStream& stream, Buffer& buffer, BodyReader<is_request>& reader,
                         asio::mutable_buffer room) {
  auto& body = reader.get().body();
  body.data = room.data();
  body.size = room.size();
  auto [error, read] = co_await http::async_read_some(stream, buffer, reader, kAwait);
  if (error == http::error::need_buffer) error = {};  // there is more than fits
  co_return Got{error, room.size() - body.size};
}

// An end that was read once is not announced a second time (edge-triggered epoll): who reads on
// would wait for nothing.
template <class Stream>
bool HasEnded(Stream& stream) {
  char ahead = 0;
  const auto socket = boost::beast::get_lowest_layer(stream).socket().native_handle();
  return recv(socket, &ahead, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

template <class Stream>
Awaitable<void> ReadAway(Stream& stream) {
  std::array<char, 4096> away{};
  ErrorCode ended;
  while (!ended && !HasEnded(stream)) {
    ended = co_await ErrorOf(stream.async_read_some(asio::buffer(away), kAwait));
  }
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

Awaitable<Got> ReadSome(TlsStream& stream, asio::mutable_buffer room) {
  const auto [error, bytes] = co_await stream.async_read_some(room, kAwait);
  co_return Got{error, bytes};
}

Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  return ErrorOf(http::async_read_header(stream, buffer, reader, kAwait));
}

Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  return ErrorOf(http::async_read_header(stream, buffer, reader, kAwait));
}

Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  return ErrorOf(http::async_read(stream, buffer, reader, kAwait));
}

Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  return ErrorOf(http::async_read(stream, buffer, reader, kAwait));
}

Awaitable<ErrorCode> Read(TcpStream& stream, Buffer& buffer, ResponseReader& reader) {
  return ErrorOf(http::async_read(stream, buffer, reader, kAwait));
}

Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<true>& reader,
                        asio::mutable_buffer room) {
  return ReadPiece(stream, buffer, reader, room);
}

Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<false>& reader,
                        asio::mutable_buffer room) {
  return ReadPiece(stream, buffer, reader, room);
}

Awaitable<void> Drain(TcpStream& stream) {
  return ReadAway(stream);
}

Awaitable<void> Drain(TlsStream& stream) {
  return ReadAway(stream);
}

Awaitable<ErrorCode> Write(TcpStream& stream, std::string_view bytes) {
  return ErrorOf(asio::async_write(stream, asio::buffer(bytes), kAwait));
}

Awaitable<ErrorCode> Write(TlsStream& stream, std::string_view bytes) {
  return ErrorOf(asio::async_write(stream, asio::buffer(bytes), kAwait));
}

std::string ToText(const Request& message) {
  return Serialized(message);
}

std::string ToText(const Response& message) {
  return Serialized(message);
}

}  // namespace portcullis::web
