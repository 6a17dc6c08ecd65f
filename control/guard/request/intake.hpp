// What a connection brings: heads and, where they decide, bodies; bounded in time and size.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>

#include "control/guard/request/relay.hpp"
#include "control/guard/request/stopped.hpp"
#include "control/guard/session/listener.hpp"

namespace portcullis::guard {

class Intake {
 public:
  /// All outlive the intake. `buffer` is what was read and not used yet.
  Intake(web::TlsStream& stream, web::Buffer& buffer, const ListenerLimits& limits)
      : stream_(stream), buffer_(buffer), limits_(limits) {}

  /// The next request's head, in `parser`. False: the client has gone. Refused: what is no
  /// HTTP/1.1, or could be read as two different messages; where the next request would begin is
  /// not known.
  boost::asio::awaitable<Step<bool>> Head(RequestParser& parser);
  /// The body, where it decides. Refused: more than `most` bytes, or none.
  boost::asio::awaitable<Step<std::string>> Body(RequestParser& parser, size_t most);
  /// Whoever waits for it sends the body now (RFC 9110 10.1.1).
  boost::asio::awaitable<Step<void>> GoOn(const RequestParser& parser);
  /// What the client still sends is read away for a while: closing at once would reset the
  /// connection, and the answer would be lost with it.
  boost::asio::awaitable<void> Drain();

 private:
  boost::asio::awaitable<Step<size_t>> HeadBytes();

  web::TlsStream& stream_;
  web::Buffer& buffer_;
  const ListenerLimits& limits_;
};

}  // namespace portcullis::guard
