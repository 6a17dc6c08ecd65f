// One change at a time: a queue for coroutines of one thread, since a change waits for the
// dataplane between checking and storing.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <utility>

#include "control/coroutines.hpp"

namespace portcullis {

class Turn {
 public:
  explicit Turn(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  /// Held until destroyed.
  class Held {
   public:
    explicit Held(Turn* turn) : turn_(turn) {}
    Held(Held&& other) noexcept : turn_(std::exchange(other.turn_, nullptr)) {}
    Held& operator=(Held&&) = delete;
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() {
      if (turn_ != nullptr) turn_->Pass();
    }

   private:
    Turn* turn_;
  };

  boost::asio::awaitable<Held> Take() {
    if (taken_) {
      // A timer that never fires is what Asio offers to wait on; Pass() cancels it.
      boost::asio::steady_timer turn(executor_, boost::asio::steady_timer::time_point::max());
      waiting_.push_back(&turn);
      co_await turn.async_wait(kAwait);
    }
    taken_ = true;
    co_return Held(this);
  }

 private:
  // Handed over rather than released, so that nobody overtakes who waits.
  void Pass() {
    if (waiting_.empty()) {
      taken_ = false;
      return;
    }
    boost::system::error_code ignored;  // a destructor calls this, and nothing may come out of it
    waiting_.front()->cancel(ignored);
    waiting_.pop_front();
  }

  boost::asio::any_io_executor executor_;
  std::deque<boost::asio::steady_timer*> waiting_;
  bool taken_ = false;
};

}  // namespace portcullis
