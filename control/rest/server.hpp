// Carries requests to the routes: HTTPS with keep-alive, everything bounded: connections, headers,
// bodies, time, event streams.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/rest/http.hpp"
#include "control/rest/routes.hpp"
#include "control/rest/tls.hpp"

namespace portcullis::rest {

struct ServerSettings {
  std::string address = "127.0.0.1";
  uint16_t port = 8443;  // 0: any free one
  TlsFiles tls;
};

struct ServerState;

class Server {
 public:
  /// Binds and listens. `context` outlives the server.
  static Result<Server> Listen(const boost::asio::any_io_executor& executor,
                               ServerSettings settings, Context& context);

  /// Accepts until Stop().
  boost::asio::awaitable<void> Run();
  /// Closes the listener and every connection; what runs for them ends soon after.
  void Stop();

  [[nodiscard]] uint16_t port() const;
  /// See EndingsOf().
  [[nodiscard]] std::vector<identity::Expiry> endings() const;

 private:
  explicit Server(std::shared_ptr<ServerState> state) : state_(std::move(state)) {}
  std::shared_ptr<ServerState> state_;
};

}  // namespace portcullis::rest
