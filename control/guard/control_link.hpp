// The guard's end of the socket to control. It connects in the background, and again when the
// connection breaks; while it is down a call fails at once, so that no peer waits for what cannot
// come. Knows nothing of sessions.
#pragma once

#include <sys/types.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/admission/admission.pb.h"

namespace portcullis::guard {

/// Everything runs on the executor, which must run one thing at a time.
class ControlLink {
 public:
  static constexpr std::chrono::milliseconds kDefaultTimeout{5000};

  /// `user`: as whom control runs. Whoever else listens on `socket`, root excepted, gets nothing:
  /// keys are sent here.
  ControlLink(boost::asio::any_io_executor executor, std::string socket, uid_t user);
  ControlLink(const ControlLink&) = delete;
  ControlLink& operator=(const ControlLink&) = delete;

  /// Until Stop(), which comes before the link goes.
  boost::asio::awaitable<void> Run();
  /// Ends every call under way with kUnavailable.
  void Stop();

  /// Sends `request` (its id is set here) and waits for its response, which may be a refusal.
  /// kUnavailable: control is away, or does not answer within `timeout`. Keys in `request` are
  /// wiped once they are written. The link outlives the call.
  boost::asio::awaitable<Result<admission::Response>> Call(
      admission::Request request, std::chrono::milliseconds timeout = kDefaultTimeout);

  /// Sends without waiting for the answer. False: control is away, or has too much unread.
  bool Tell(admission::Request request);

  /// Connected and greeted.
  [[nodiscard]] bool ready() const { return ready_; }
  /// How often it has been ready: another number means that control may be another process.
  [[nodiscard]] uint64_t connections() const { return connections_; }
  /// Why not ready; empty when ready.
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  struct Connection;

  boost::asio::awaitable<Result<void>> Connect();

  boost::asio::any_io_executor executor_;
  std::string socket_;
  uid_t user_;
  std::shared_ptr<Connection> connection_;  // the current or the last one; null before the first
  bool ready_ = false;
  uint64_t connections_ = 0;
  bool stopping_ = false;
  std::string error_ = "not connected yet";
  boost::asio::steady_timer pause_;  // between two attempts
};

}  // namespace portcullis::guard
