// A UNIX socket on which gateways of this host ask. The kernel says which user each is.
#pragma once

#include <sys/types.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/guard/refusals.hpp"
#include "control/guard/request/decisions.hpp"

namespace portcullis::guard {

struct DecisionSocketSettings {
  std::string path;
  std::map<uid_t, std::string> users;  // who may ask, by name; at least one
  ListenerLimits limits;               // `open` and `request_time`
};

struct DecisionSocketState;

/// One thread runs it and all its connections.
class DecisionSocket {
 public:
  /// Binds and listens. `refusals` outlives the last connection; `where` is the socket's place in
  /// the configuration, for messages.
  static Result<DecisionSocket> Listen(const boost::asio::any_io_executor& executor,
                                       DecisionSocketSettings settings, GatewayHandler handler,
                                       Refusals& refusals, const std::string& where);

  /// Accepts until Stop().
  boost::asio::awaitable<void> Run();
  /// Closes the socket and every connection; what runs for them ends soon after.
  void Stop();

 private:
  explicit DecisionSocket(std::shared_ptr<DecisionSocketState> state) : state_(std::move(state)) {}
  std::shared_ptr<DecisionSocketState> state_;
};

}  // namespace portcullis::guard
