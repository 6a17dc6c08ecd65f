// Where a revocation list's bytes come from: a file, or an HTTP distribution point. Only what the
// operator configured is asked: the distribution points inside peers' certificates are a stranger's
// words, and following them would let a stranger choose whom the gate connects to. Plain HTTP is
// right (RFC 5280 8): a list is signed, and verified by whoever reads the bytes.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace portcullis::identity {

class CrlLocation {
 public:
  /// "http://host[:port]/path[?query]" or an absolute path. kInvalid for anything else.
  static Result<CrlLocation> Parse(const std::string& text);

  /// As it was configured.
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] bool is_http() const { return !host_.empty(); }
  [[nodiscard]] const std::string& host() const { return host_; }  // without brackets
  [[nodiscard]] const std::string& port() const { return port_; }
  [[nodiscard]] const std::string& target() const { return target_; }
  /// Value of the header Host.
  [[nodiscard]] std::string Authority() const;

 private:
  std::string text_, host_, port_, target_;
};

struct FetchLimits {
  uint64_t bytes = 32U << 20U;
  /// For the whole of it. Resolving a name is left to the host's resolver and its own limits, since
  /// it cannot be interrupted.
  std::chrono::milliseconds time{30000};
};

/// The bytes, not yet looked at. kUnavailable: not there now, or not in time; kInvalid: too many.
/// Redirections are not followed.
boost::asio::awaitable<Result<std::string>> Fetch(CrlLocation location, FetchLimits limits);

}  // namespace portcullis::identity
