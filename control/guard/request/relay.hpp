// A request on its way to the protected server, and the answer on its way back: streamed, each side
// no faster than the other takes it, and framed anew on both (request/head.hpp).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <optional>
#include <string>

#include "control/guard/request/exchange.hpp"
#include "control/guard/request/upstream.hpp"

namespace portcullis::guard {

/// One request and its answer. Take it step by step: Ask(), then perhaps Body(), then Stream().
class Relay {
 public:
  using Permitted = std::function<boost::asio::awaitable<bool>()>;
  /// `body`, when it was read already. `permitted` is asked before each piece of a body, in either
  /// direction: what was permitted when the head came may not be for as long as a body takes.
  Relay(Upstream& server, Exchange& exchange, std::optional<std::string> body, Permitted permitted)
      : server_(server),
        exchange_(exchange),
        body_(std::move(body)),
        permitted_(std::move(permitted)) {}

  /// Sends head and body, and reads the answer's head, interim ones passed over. Refused: the
  /// server cannot be reached or does not answer, the client's body broke off or is none, or it is
  /// no longer permitted. A server that stops reading may have answered (a 413, say).
  boost::asio::awaitable<Step<void>> Ask(Onward onward);

  [[nodiscard]] unsigned status() const { return answer_->get().result_int(); }
  [[nodiscard]] std::string location() const;
  /// All of the answer's body. Nothing: it broke off, or is more than `most` bytes. What was read
  /// is kept for Stream().
  boost::asio::awaitable<std::optional<std::string>> Body(size_t most);
  /// The answer, or what Body() has left of it, to the client.
  boost::asio::awaitable<void> Stream();

  [[nodiscard]] uint64_t request_bytes() const { return request_bytes_; }
  [[nodiscard]] uint64_t response_bytes() const { return response_bytes_; }
  /// Of the answer's body, by its head; 0: it does not say.
  [[nodiscard]] uint64_t announced() const {
    return answer_->content_length() ? *answer_->content_length() : 0;
  }

 private:
  boost::asio::awaitable<Step<void>> Send(Onward onward);
  boost::asio::awaitable<Step<void>> ReadAnswer();
  boost::asio::awaitable<Step<void>> SendHead(bool fresh);
  boost::asio::awaitable<Step<void>> SendBody();
  boost::asio::awaitable<web::ErrorCode> ToServer(std::string_view bytes);
  [[nodiscard]] bool MayBeSentTwice() const;
  struct Piece {
    web::ErrorCode error;
    std::string bytes;
  };
  boost::asio::awaitable<Piece> NextPiece();
  [[nodiscard]] bool HasBody() const;
  [[nodiscard]] bool Reusable() const;
  [[nodiscard]] tl::unexpected<Stopped> Broken(const char* during,
                                               const web::ErrorCode& error) const;

  Upstream& server_;
  Exchange& exchange_;
  std::optional<std::string> body_;
  Permitted permitted_;
  std::optional<Upstream::Connection> connection_;
  std::string head_;
  bool repeatable_ = false;
  bool cut_ = false;  // the server has not taken all of the body
  std::optional<web::BodyReader<false>> answer_;
  std::string kept_;  // of the answer's body: read, and not passed on yet
  uint64_t request_bytes_ = 0;
  uint64_t response_bytes_ = 0;
};

}  // namespace portcullis::guard
