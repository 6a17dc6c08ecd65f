// A request on its way to the protected server, and the answer on its way back: streamed, each side
// no faster than the other takes it, and framed anew on both (request/head.hpp).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <functional>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "control/guard/request/head.hpp"
#include "control/guard/request/upstream.hpp"
#include "control/guard/session/listener.hpp"

namespace portcullis::guard {

using RequestParser = boost::beast::http::request_parser<boost::beast::http::buffer_body>;
using ResponseParser = boost::beast::http::response_parser<boost::beast::http::buffer_body>;

/// Of the client's request: its head is parsed, its body is still to come or was read to decide.
struct Incoming {
  web::TlsStream& stream;
  web::Buffer& buffer;
  RequestParser& parser;
  /// The head's. The parser adds what comes behind a body (RFC 9112 7.1.2), which nobody checked.
  Fields fields;
  std::optional<std::string> body;  // when it was read already
};

/// One exchange with the server. Take() it step by step: Send, ReadAnswer, then either Body() or
/// Stream().
class Relay {
 public:
  /// `permitted` is asked before each piece of a body, in either direction: what was permitted when
  /// the head came may not be for as long as a body takes.
  Relay(Upstream& server, Incoming incoming, std::function<bool()> permitted)
      : server_(server), incoming_(std::move(incoming)), permitted_(std::move(permitted)) {}

  /// Head and body. kUnavailable: the server cannot be reached, or has not taken all; it may have
  /// answered all the same. kInvalid: the client's body broke off or is no body. kForbidden: it is
  /// no longer permitted.
  boost::asio::awaitable<Result<void>> Send(Onward onward);
  /// The answer's head, interim ones passed over. kUnavailable.
  boost::asio::awaitable<Result<void>> ReadAnswer();

  [[nodiscard]] unsigned status() const { return answer_->get().result_int(); }
  [[nodiscard]] std::string location() const;
  /// All of the answer's body, when it is not more than `most` bytes. kUnavailable: it broke off;
  /// kExhausted: it is more, and what was read is kept for Stream().
  boost::asio::awaitable<Result<std::string>> Body(size_t most);
  /// The answer, or what Body() has left of it, to the client. False: one of the two has gone, and
  /// the client's connection must end. `close`: it ends in any case.
  boost::asio::awaitable<bool> Stream(bool close);

  [[nodiscard]] uint64_t request_bytes() const { return request_bytes_; }
  [[nodiscard]] uint64_t response_bytes() const { return response_bytes_; }
  /// Of the answer's body, by its head; 0: it does not say.
  [[nodiscard]] uint64_t announced() const {
    return answer_->content_length() ? *answer_->content_length() : 0;
  }

 private:
  boost::asio::awaitable<Result<void>> SendOnce(const std::string& head, bool fresh);
  boost::asio::awaitable<Result<void>> SendBody();
  [[nodiscard]] bool MayBeSentTwice() const;
  struct Piece {
    web::ErrorCode error;
    std::string bytes;
  };
  boost::asio::awaitable<Piece> NextPiece();
  [[nodiscard]] bool HasBody() const;

  Upstream& server_;
  Incoming incoming_;
  std::function<bool()> permitted_;
  std::optional<Upstream::Connection> connection_;
  std::string head_;
  bool repeatable_ = false;
  std::optional<ResponseParser> answer_;
  std::string kept_;  // of the answer's body: read, and not passed on yet
  uint64_t request_bytes_ = 0;
  uint64_t response_bytes_ = 0;
};

}  // namespace portcullis::guard
