// A request as it came, and the way back for its answer, over whichever version of HTTP. What is
// decided and relayed does not know which.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "control/guard/request/head.hpp"
#include "control/guard/request/stopped.hpp"

namespace portcullis::guard {

inline constexpr size_t kMostHeadBytes = 32U << 10U;
/// Between two requests.
inline constexpr std::chrono::seconds kIdleTime{60};
/// For each piece of a body, on either side.
inline constexpr std::chrono::seconds kPieceTime{30};
inline constexpr size_t kPieceBytes = 16U << 10U;  // a TLS record

class Exchange {
 public:
  using Clock = std::chrono::steady_clock;
  using Deadline = Clock::time_point;

  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  [[nodiscard]] const RequestHead& head() const { return head_; }
  /// Who asks whether the client's request may pass, and passes it on by itself: nobody here sees
  /// what the server answers. Empty: the gate passes it on.
  [[nodiscard]] virtual std::string gateway() const { return {}; }
  /// Some of the body has not been read yet.
  [[nodiscard]] virtual bool unread() const = 0;
  /// Whoever waits for it sends the body now (RFC 9110 10.1.1).
  virtual boost::asio::awaitable<Step<void>> GoOn() = 0;
  /// The next of the body, at most as much as there is room for; 0: it has ended. Refused: it
  /// breaks off, is none, or is not there in time.
  virtual boost::asio::awaitable<Step<size_t>> Read(boost::asio::mutable_buffer room,
                                                    Deadline deadline) = 0;

  /// For the client's next proof of possession (RFC 9449 8.2): it goes with the answer.
  void Offer(std::string nonce) { nonce_ = std::move(nonce); }
  /// Begins the answer, which goes out with the first of what is written. Where the request is not
  /// read to its end, it never will be.
  virtual void Answer(const AnswerHead& answer) = 0;
  /// Of the answer's body; `last` ends the answer. False: the client has gone.
  virtual boost::asio::awaitable<bool> Write(std::string_view bytes, bool last) = 0;
  /// What was begun cannot be ended: the client must be able to tell.
  virtual void Abandon() = 0;

 protected:
  RequestHead head_;
  std::string nonce_;  // empty: none
};

/// Answers the request, or refuses it for the fault. Several run at a time.
using Serve =
    std::function<boost::asio::awaitable<void>(Exchange& exchange, std::optional<Stopped> fault)>;

/// Refused: a body where the method has none (RFC 9110 9.3.1). Some servers read it, some take it
/// for the next request.
Step<void> CheckHasNoNeedlessBody(const Exchange& exchange);

/// All of the body, where it decides, within `time`. Refused: more than `most` bytes, or what
/// Read() refuses.
boost::asio::awaitable<Step<std::string>> ReadAll(Exchange& exchange, size_t most,
                                                  std::chrono::milliseconds time);

/// A request that is larger than the gate reads.
tl::unexpected<Stopped> TooLarge(const char* what, size_t most);

}  // namespace portcullis::guard
