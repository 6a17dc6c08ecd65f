// HTTP/1.1 as a connection brings it (RFC 9112): one request after the other, each bounded in time
// and size.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>

#include "control/guard/request/exchange.hpp"
#include "control/guard/session/listener.hpp"

namespace portcullis::guard {

class Http1Exchange final : public Exchange {
 public:
  /// All outlive the exchange. `buffer` is what was read and not used yet: it goes from one
  /// exchange to the next.
  Http1Exchange(web::TlsStream& stream, web::Buffer& buffer, const ListenerLimits& limits)
      : stream_(stream), buffer_(buffer), limits_(limits) {}

  /// False: the client has gone. Refused: what is no HTTP/1.1, or could be read as two different
  /// messages; where the next request would begin is not known.
  boost::asio::awaitable<Step<bool>> ReadHead();

  [[nodiscard]] bool unread() const override { return !parser_.is_done(); }
  boost::asio::awaitable<Step<void>> GoOn() override;
  boost::asio::awaitable<Step<size_t>> Read(boost::asio::mutable_buffer room,
                                            Deadline deadline) override;
  void Answer(const AnswerHead& answer) override;
  boost::asio::awaitable<bool> Write(std::string_view bytes, bool last) override;
  void Abandon() override { ends_ = broken_ = true; }

  /// After the answer: no other request comes on this connection.
  [[nodiscard]] bool ends() const { return ends_; }
  /// The client sees the answer, though it has not sent all of its request.
  boost::asio::awaitable<void> TakeLeave();

 private:
  boost::asio::awaitable<Step<size_t>> HeadBytes();
  Step<void> Take(std::string_view head);
  void Append(std::string_view bytes, bool last);

  web::TlsStream& stream_;
  web::Buffer& buffer_;
  const ListenerLimits& limits_;
  web::BodyReader<true> parser_;
  std::string out_;  // of the answer, not written yet
  bool chunked_ = false;
  bool ends_ = false;
  bool broken_ = false;
};

/// One request of a connection after the other, until one is the last. All outlive the call.
boost::asio::awaitable<void> ServeHttp1(web::TlsStream& stream, const ListenerLimits& limits,
                                        Serve serve);

}  // namespace portcullis::guard
