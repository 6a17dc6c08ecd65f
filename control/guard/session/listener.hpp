// Accepts connections, brings each through its handshake and hands those that proved who they are
// to a handler. Everything a stranger can hold is bounded: connections in all and per source,
// time, bytes. One thread runs a listener and all its connections.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/guard/session/handshake.hpp"
#include "control/http/stream.hpp"
#include "control/identity/refusal.hpp"

namespace portcullis::guard {

/// Somebody who proved who it is, and where it is.
struct Party {
  Authenticated who;
  boost::asio::ip::tcp::endpoint from;
  bool decrypted = false;  // the listener takes only what comes in at a device of its own
};

/// An authenticated peer. The time and bytes left are those of one request (ListenerLimits); a
/// handler that wants more sets them anew: stream.next_layer().expires_after(...),
/// stream.next_layer().may_read(...).
struct Connection : Party {
  web::TlsStream& stream;
};

/// Serves the connection, which is shut down when it returns; what it began on the stream has ended
/// by then. May await, must not block.
using ConnectionHandler = std::function<boost::asio::awaitable<void>(Connection&)>;

/// Told of each refusal, on the listener's thread; the peer learns no more than an alert.
using RefusalObserver =
    std::function<void(const identity::Refusal&, const boost::asio::ip::tcp::endpoint& from)>;

/// A source is an IPv4 or IPv6 prefix of this length. Counts are at least 1.
struct ListenerLimits {
  unsigned source_v4 = 32;  // 0..32
  unsigned source_v6 = 64;  // 0..128; a host can use all of a /64
  size_t half_open = 512;   // connections before their handshake's end
  size_t half_open_per_source = 64;
  size_t open = 1024;  // authenticated ones
  size_t open_per_source = 128;
  std::chrono::milliseconds handshake_time{10'000};
  std::chrono::milliseconds request_time{10'000};
  size_t handshake_bytes = 64U << 10U;  // a chain of RSA certificates needs 10 KiB
  size_t request_bytes = 64U << 10U;
};

struct ListenerSettings {
  std::string address;  // IPv4 or IPv6
  uint16_t port = 0;    // 0: any free one
  ListenerLimits limits;
  std::string device = {};  // only what comes in there (SO_BINDTODEVICE); empty: anywhere
};

/// Connections since the start.
struct ListenerCounters {
  uint64_t accepted = 0;
  uint64_t authenticated = 0;
};

struct ListenerState;

class Listener {
 public:
  /// Binds and listens. `counters` outlives the listener's last connection. `where` is the
  /// listener's place in the configuration, for messages.
  static Result<Listener> Listen(const boost::asio::any_io_executor& executor,
                                 const ListenerSettings& settings,
                                 std::shared_ptr<const TlsServer> tls, ConnectionHandler handler,
                                 identity::RefusalCounters& counters, RefusalObserver observer,
                                 const std::string& where);

  /// Accepts until Stop().
  boost::asio::awaitable<void> Run();
  /// Closes the listener and every connection; what runs for them ends soon after.
  void Stop();
  /// For connections accepted from now on: a roll-over of certificates or keys. kConflict: a
  /// listener for certificates never becomes one for pre-shared keys, nor the other way round.
  Result<void> Replace(std::shared_ptr<const TlsServer> tls);

  [[nodiscard]] uint16_t port() const;
  [[nodiscard]] size_t half_open() const;
  [[nodiscard]] size_t open() const;
  [[nodiscard]] ListenerCounters counted() const;
  /// For what it serves now.
  [[nodiscard]] const TlsServer& tls() const;

 private:
  explicit Listener(std::shared_ptr<ListenerState> state) : state_(std::move(state)) {}
  std::shared_ptr<ListenerState> state_;
};

}  // namespace portcullis::guard
