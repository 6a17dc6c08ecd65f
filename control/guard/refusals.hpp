// Where every refusal goes, whoever refused: a counter, the log, and control, for its events and
// its audit. The peer gets a reference, by which an operator finds it. Log and control are spared a
// flood: counters are exact, the others are told of some. Strangers have a share of their own, so
// that no flood of handshakes hides what happened to somebody who can ask for it.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <optional>
#include <string>

#include "control/guard/control_link.hpp"
#include "control/identity/refusal.hpp"

namespace portcullis::guard {

/// One thread.
class Refusals {
 public:
  /// `control` outlives this.
  explicit Refusals(ControlLink& control) : control_(control) {}

  struct About {
    boost::asio::ip::tcp::endpoint from;
    std::string interface = {};  // may be empty
    /// Of whom the handshake proved who it is.
    std::optional<admission::Identity> identity = {};
    /// Control's own, when it was control that refused, and so knows of it; else empty.
    std::string reference = {};
  };
  /// Counts, logs and tells. The answer is the reference: 16 hex digits, random.
  std::string Note(const identity::Refusal& refusal, const About& about);
  /// As Note(), for what is counted already.
  std::string NoteCounted(const identity::Refusal& refusal, const About& about);

  identity::RefusalCounters& counters() { return counters_; }
  [[nodiscard]] const identity::RefusalCounters& counters() const { return counters_; }

 private:
  struct Share {
    std::chrono::steady_clock::time_point second{};  // the one that `said` counts in
    unsigned said = 0;
    unsigned unsaid = 0;
  };
  static bool MaySay(Share& share);

  ControlLink& control_;
  identity::RefusalCounters counters_;
  Share strangers_;
  Share peers_;
};

}  // namespace portcullis::guard
