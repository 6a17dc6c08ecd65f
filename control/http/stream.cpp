#include "control/http/stream.hpp"

#include <boost/asio/error.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/read_size.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/serializer.hpp>
#include <type_traits>

namespace portcullis::web {

namespace asio = boost::asio;
namespace http = boost::beast::http;

namespace {

constexpr size_t kMostAtOnce = 65536;

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

// The parser's next step, with what is buffered or with what comes: Beast's async_read_some.
template <class Stream, class Reader>
Awaitable<ErrorCode> ReadOn(Stream& stream, Buffer& buffer, Reader& reader) {
  for (;;) {
    ErrorCode error;
    if (buffer.size() != 0) {
      buffer.consume(reader.put(buffer.data(), error));
      if (error != http::error::need_more) co_return error;
    }
    const size_t room = boost::beast::read_size(buffer, kMostAtOnce);
    if (room == 0) co_return http::error::buffer_overflow;
    const Got got = co_await ReadSome(stream, buffer.prepare(room));
    if (got.error == asio::error::eof) {
      if (!reader.got_some()) co_return http::error::end_of_stream;
      error = {};
      reader.put_eof(error);
      co_return error;
    }
    if (got.error) co_return got.error;
    buffer.commit(got.bytes);
  }
}

template <class Stream, class Reader>
Awaitable<ErrorCode> ReadWhole(Stream& stream, Buffer& buffer, Reader& reader) {
  reader.eager(true);
  ErrorCode error;
  while (!error && !reader.is_done()) error = co_await ReadOn(stream, buffer, reader);
  co_return error;
}

template <class Reader>
Awaitable<ErrorCode> ReadHead(TlsStream& stream, Buffer& buffer, Reader& reader) {
  reader.eager(false);
  ErrorCode error;
  while (!error && !reader.is_header_done()) error = co_await ReadOn(stream, buffer, reader);
  co_return error;
}

template <class Reader>
Awaitable<Got> ReadPiece(TlsStream& stream, Buffer& buffer, Reader& reader,
                         asio::mutable_buffer room) {
  auto& body = reader.get().body();
  body.data = room.data();
  body.size = room.size();
  ErrorCode error = co_await ReadOn(stream, buffer, reader);
  if (error == http::error::need_buffer) error = {};  // there is more than fits
  co_return Got{error, room.size() - body.size};
}

}  // namespace

Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  return ReadHead(stream, buffer, reader);
}

Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  return ReadHead(stream, buffer, reader);
}

Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, RequestReader& reader) {
  return ReadWhole(stream, buffer, reader);
}

Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, ResponseReader& reader) {
  return ReadWhole(stream, buffer, reader);
}

Awaitable<ErrorCode> Read(TcpStream& stream, Buffer& buffer, ResponseReader& reader) {
  return ReadWhole(stream, buffer, reader);
}

Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<true>& reader,
                        asio::mutable_buffer room) {
  return ReadPiece(stream, buffer, reader, room);
}

Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<false>& reader,
                        asio::mutable_buffer room) {
  return ReadPiece(stream, buffer, reader, room);
}

std::string ToText(const Request& message) {
  return Serialized(message);
}

std::string ToText(const Response& message) {
  return Serialized(message);
}

}  // namespace portcullis::web
