#include "control/guard/request/gateway_stream.hpp"

#include <boost/asio/write.hpp>

#include "control/coroutines.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;

web::Awaitable<web::Got> TlsGatewayStream::ReadSome(asio::mutable_buffer room, Deadline deadline) {
  stream_.next_layer().expires_at(deadline);
  stream_.next_layer().may_read(2 * room.size());  // what TLS adds must not end it
  return web::ReadSome(stream_, room);
}

web::Awaitable<web::ErrorCode> TlsGatewayStream::Write(std::string_view bytes, Deadline deadline) {
  stream_.next_layer().expires_at(deadline);
  return web::Write(stream_, bytes);
}

web::Awaitable<web::Got> UnixGatewayStream::ReadSome(asio::mutable_buffer room, Deadline deadline) {
  stream_.expires_at(deadline);
  const auto [error, bytes] = co_await stream_.async_read_some(room, kAwait);
  co_return web::Got{error, bytes};
}

web::Awaitable<web::ErrorCode> UnixGatewayStream::Write(std::string_view bytes, Deadline deadline) {
  stream_.expires_at(deadline);
  const auto [error, written] = co_await asio::async_write(stream_, asio::buffer(bytes), kAwait);
  co_return error;
}

}  // namespace portcullis::guard
