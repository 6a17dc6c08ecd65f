// The connection on which a gateway asks: mutual TLS, or a UNIX socket of this host. Who serves it
// does not know which.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <chrono>
#include <string_view>

#include "control/http/stream.hpp"

namespace portcullis::guard {

class GatewayStream {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  GatewayStream() = default;
  GatewayStream(const GatewayStream&) = delete;
  GatewayStream& operator=(const GatewayStream&) = delete;
  virtual ~GatewayStream() = default;

  /// What comes next, at most as much as there is room for. beast::error::timeout at the deadline.
  virtual web::Awaitable<web::Got> ReadSome(boost::asio::mutable_buffer room,
                                            Deadline deadline) = 0;
  /// All of it.
  virtual web::Awaitable<web::ErrorCode> Write(std::string_view bytes, Deadline deadline) = 0;
};

class TlsGatewayStream final : public GatewayStream {
 public:
  /// The stream outlives this.
  explicit TlsGatewayStream(web::TlsStream& stream) : stream_(stream) {}

  web::Awaitable<web::Got> ReadSome(boost::asio::mutable_buffer room, Deadline deadline) override;
  web::Awaitable<web::ErrorCode> Write(std::string_view bytes, Deadline deadline) override;

 private:
  web::TlsStream& stream_;
};

class UnixGatewayStream final : public GatewayStream {
 public:
  using Protocol = boost::asio::local::stream_protocol;

  explicit UnixGatewayStream(Protocol::socket socket) : stream_(std::move(socket)) {}

  web::Awaitable<web::Got> ReadSome(boost::asio::mutable_buffer room, Deadline deadline) override;
  web::Awaitable<web::ErrorCode> Write(std::string_view bytes, Deadline deadline) override;
  void Close() { stream_.close(); }

 private:
  boost::beast::basic_stream<Protocol, boost::asio::any_io_executor> stream_;
};

}  // namespace portcullis::guard
