// Keeps one revocation list in force as its CA publishes it: fetches, verifies, installs, and again
// after a while. A failure changes nothing: the last good list stays until it is stale, and the
// status says what is wrong. Verifying a long list takes tens of milliseconds, so followers run on
// an executor of their own thread, not on that of handshakes.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "control/identity/crl_source.hpp"
#include "control/identity/revocations.hpp"

namespace portcullis::identity {

struct CrlFollowerSettings {
  CrlLocation location;
  FetchLimits limits;
  std::chrono::milliseconds interval = std::chrono::minutes(10);  // after a success
  std::chrono::milliseconds retry = std::chrono::seconds(30);     // after a failure
};

struct CrlStatus {
  std::string location;
  std::string error;              // of the last attempt; empty when it went well
  std::optional<Time> attempted;  // the last time
  std::optional<Time> succeeded;  // the last time
  /// What was last read from here and went in force; null when nothing ever was.
  std::shared_ptr<const RevocationList> list;
};

class CrlFollower {
 public:
  /// `revocations` outlives the follower, the follower outlives Run().
  CrlFollower(boost::asio::any_io_executor executor, CrlFollowerSettings settings,
              std::shared_ptr<const Authorities> authorities, Revocations& revocations);

  /// Until Stop().
  boost::asio::awaitable<void> Run();
  /// On the executor. A fetch that is under way ends within its own limit of time.
  void Stop();

  /// Once, now. The error is also in the status.
  boost::asio::awaitable<Result<void>> Refresh();

  /// Any thread.
  [[nodiscard]] CrlStatus status() const;

 private:
  boost::asio::awaitable<Result<std::shared_ptr<const RevocationList>>> FetchAndInstall();

  CrlFollowerSettings settings_;
  std::shared_ptr<const Authorities> authorities_;
  Revocations& revocations_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
  std::string fetched_;  // SHA-256 of the bytes behind status_.list: the same need no second look
  mutable std::mutex mutex_;
  CrlStatus status_;  // guarded by mutex_
};

}  // namespace portcullis::identity
