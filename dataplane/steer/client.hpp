// Control's end of the steering socket, as Boost.Asio coroutines. One connection; when it breaks,
// `on_close` is told once and the caller connects again (it has to reconcile then anyway).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis {

/// All calls and callbacks are on the executor given to Connect(), which must run one thing at a
/// time (an io_context with one thread, or a strand).
class SteerClient {
 public:
  using EventHandler = std::function<void(const steer::Event&)>;
  using DropHandler = std::function<void(const steer::Drop&)>;
  using CloseHandler = std::function<void(const Error&)>;
  static constexpr std::chrono::milliseconds kDefaultTimeout{10000};

  /// kUnavailable when nobody listens on `path`. Handlers may be empty; events come only after a
  /// Subscribe request. `on_close` is not called for a Close() of one's own. Must be awaited on
  /// `executor`.
  static boost::asio::awaitable<Result<SteerClient>> Connect(
      boost::asio::any_io_executor executor, std::string path, EventHandler on_event,
      CloseHandler on_close, std::chrono::milliseconds timeout = kDefaultTimeout);

  SteerClient(SteerClient&&) noexcept;
  SteerClient& operator=(SteerClient&&) noexcept;
  ~SteerClient();  // closes

  /// Sends `request` (its id is set here) and waits for its response. A `failure` in the response
  /// comes back as the Error it was; no answer in time, or a broken connection, as kUnavailable.
  /// Several calls may be under way at once; keys in `request` are wiped once they are written.
  boost::asio::awaitable<Result<steer::Response>> Call(
      steer::Request request, std::chrono::milliseconds timeout = kDefaultTimeout);

  /// Who gets copies of dropped packets; they come after a WatchDrops request of a subscriber.
  void OnDrop(DropHandler on_drop);

  [[nodiscard]] bool connected() const;
  /// Ends every call under way with kUnavailable.
  void Close();

 private:
  struct Connection;
  explicit SteerClient(std::shared_ptr<Connection> connection);
  std::shared_ptr<Connection> connection_;
};

}  // namespace portcullis
