// Connections to the server that an interface protects: mutual TLS, its identity proved before a
// byte of any request goes to it (Req-API-3), kept open for the next request.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/http/stream.hpp"
#include "control/identity/token/https_client.hpp"
#include "control/identity/token/url.hpp"

namespace portcullis::guard {

struct UpstreamSettings {
  std::string url;          // https://host[:port], without a path
  identity::ClientTls tls;  // the gate's own certificate is not optional here
  std::chrono::milliseconds connect_time{5'000};
  std::chrono::milliseconds idle_time{30'000};  // after which a connection is not used again
  size_t most_idle = 64;
  identity::AddressCheck refuses = {};  // addresses that the server must not have; may be empty
  /// Whether who answers is who is meant, beyond what its certificate's name says: asked once for
  /// each connection, before anything is sent. May be empty.
  std::function<boost::asio::awaitable<Result<void>>(web::TlsStream&)> recognise = {};
};

/// One thread.
class Upstream {
 public:
  struct Connection {
    std::unique_ptr<web::TlsStream> stream;
    web::Buffer buffer;
    bool used = false;  // it has carried a request before: the server may have closed it since
    std::chrono::steady_clock::time_point since{};  // idle
  };

  /// `where` names the configuration's section in errors.
  static Result<std::shared_ptr<Upstream>> Create(boost::asio::any_io_executor executor,
                                                  UpstreamSettings settings,
                                                  const std::string& where);

  /// The same with `tls` made beforehand, and what `settings` say of it left out.
  static Result<std::shared_ptr<Upstream>> Create(boost::asio::any_io_executor executor,
                                                  UpstreamSettings settings,
                                                  std::shared_ptr<boost::asio::ssl::context> tls,
                                                  const std::string& where);

  /// One that is idle, the latest first, or a new one; with `fresh`, a new one. kUnavailable;
  /// kForbidden: it has an address that is refused, or is not who is meant.
  boost::asio::awaitable<Result<Connection>> Take(bool fresh);
  /// For another request: its last answer was read to the end and says keep-alive.
  void GiveBack(Connection connection);

  /// For Host.
  [[nodiscard]] std::string authority() const { return address_.Authority(); }

 private:
  Upstream(boost::asio::any_io_executor executor, UpstreamSettings settings,
           identity::WebAddress address, std::shared_ptr<boost::asio::ssl::context> tls)
      : executor_(std::move(executor)),
        settings_(std::move(settings)),
        address_(std::move(address)),
        tls_(std::move(tls)) {}

  boost::asio::any_io_executor executor_;
  UpstreamSettings settings_;
  identity::WebAddress address_;
  std::shared_ptr<boost::asio::ssl::context> tls_;
  std::vector<Connection> idle_;  // the latest last
};

}  // namespace portcullis::guard
