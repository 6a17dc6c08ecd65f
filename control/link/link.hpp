// Keeps the connection to the dataplane: connects, greets, lets the owner reconcile, subscribes to
// events, and does it all again when the connection breaks. Knows nothing of policy.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "control/events/events.hpp"
#include "dataplane/steer/client.hpp"

namespace portcullis {

class DataplaneLink {
 public:
  /// Called after each greeting, before anybody else may use the link. An error is told as an event
  /// and the connection is made anew after a while.
  using Reconcile =
      std::function<boost::asio::awaitable<Result<void>>(const steer::HelloReply& hello)>;

  /// `client`: who we are, for the dataplane's log.
  DataplaneLink(boost::asio::any_io_executor executor, std::string path, Events& events,
                std::string client = "portcullis-control");

  /// Runs on the executor until Stop().
  boost::asio::awaitable<void> Run(Reconcile reconcile);
  void Stop();

  /// kUnavailable while there is no connection.
  boost::asio::awaitable<Result<steer::Response>> Call(steer::Request request);

  /// Connected, greeted and reconciled.
  [[nodiscard]] bool ready() const { return ready_; }
  /// Whom we are connected to, also while reconciling; null when not connected.
  [[nodiscard]] const steer::HelloReply* hello() const { return hello_ ? &*hello_ : nullptr; }
  /// Why not ready; empty when ready.
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Who gets copies of dropped packets, on this connection and each later one.
  void OnDrop(SteerClient::DropHandler on_drop) { on_drop_ = std::move(on_drop); }
  /// Breaks the connection, so that both sides reconcile: after an answer that never came, nobody
  /// knows what is in force.
  void Reconnect(const std::string& why);

 private:
  boost::asio::awaitable<Result<void>> Connect(const Reconcile& reconcile);
  void Broke(const std::string& why);
  void OnEvent(const steer::Event& event);

  boost::asio::any_io_executor executor_;
  std::string path_;
  Events& events_;
  std::string client_name_;
  SteerClient::DropHandler on_drop_;
  std::optional<SteerClient> client_;
  std::optional<steer::HelloReply> hello_;
  bool ready_ = false;
  std::string error_ = "not connected yet";
  bool stopping_ = false;
  boost::asio::steady_timer broken_;  // cancelled when the connection breaks
  boost::asio::steady_timer pause_;   // between two attempts to connect
};

}  // namespace portcullis
