// What came of changes, until control has it in its books: it is told again when control was away.
// Whose a slice is depends on it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>

#include "control/guard/ask_control.hpp"

namespace portcullis::guard {

/// One thread.
class Outcomes {
 public:
  static constexpr size_t kMost = 10'000;  // kept; control misses what is more (its events say so)

  /// `control` outlives this, and this what it has begun to tell.
  Outcomes(const boost::asio::any_io_executor& executor, ControlLink& control)
      : executor_(executor), control_(control), pause_(executor) {}

  /// Control takes it into its books. Its outcome comes by one of the two below, but for what a
  /// gateway passes on, which has none. Where control did
  /// not answer, it may have begun it, and is told that nothing came of it.
  boost::asio::awaitable<Outcome<void>> Begin(admission::Operate operation);
  /// Never waits. Control misses those of reads while it is away; those of changes are kept for it.
  void End(admission::Request outcome, bool change);
  /// Waits until control has it. Refused: control does not take it; or it is away, and is told
  /// later.
  boost::asio::awaitable<Outcome<void>> TellNow(admission::Request outcome);

  /// Nothing is under way, and control has been told everything.
  [[nodiscard]] bool idle() const { return open_ == 0 && kept_.empty(); }

  /// Tells again what could not be told, until Stop().
  boost::asio::awaitable<void> Run();
  void Stop();

 private:
  void Tell(admission::Request outcome);
  boost::asio::awaitable<Outcome<void>> Try(admission::Request outcome);

  boost::asio::any_io_executor executor_;
  ControlLink& control_;
  size_t open_ = 0;  // changes whose outcome is neither told nor kept
  std::deque<admission::Request> kept_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
};

}  // namespace portcullis::guard
