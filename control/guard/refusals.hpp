// Where every refusal goes, whoever refused: a counter, the log, and control, for its events and
// its audit. The peer gets a reference, by which an operator finds it. Log and control are spared a
// flood: counters are exact, the others are told of some.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
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
    bool control_knows = false;  // it was control that refused
  };
  /// Counts, logs and tells. The answer is the reference: 16 hex digits, random.
  std::string Note(const identity::Refusal& refusal, const About& about);
  /// As Note(), for what is counted already.
  std::string NoteCounted(const identity::Refusal& refusal, const About& about);

  identity::RefusalCounters& counters() { return counters_; }

 private:
  bool MaySay();

  ControlLink& control_;
  identity::RefusalCounters counters_;
  std::chrono::steady_clock::time_point second_{};  // the one that `said_` counts in
  unsigned said_ = 0;
  unsigned unsaid_ = 0;
};

}  // namespace portcullis::guard
