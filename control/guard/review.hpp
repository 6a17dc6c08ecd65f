// Sessions that rest on what has ceased to be valid: a certificate that came onto its CA's list, a
// key that vanished from its issuer's set, an issuer that is believed no more. Control knows the
// sessions, the guard the lists and keys; so the guard asks what they rest on and says which must
// end. It looks when something has changed, and after each connection, since whoever was let in
// before was perhaps looked at by nobody since.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/guard/control_link.hpp"
#include "control/identity/revocations.hpp"
#include "control/identity/token/issuer.hpp"

namespace portcullis::guard {

class Review {
 public:
  /// All outlive the review, which runs on the link's executor.
  Review(const boost::asio::any_io_executor& executor, ControlLink& control,
         const identity::Revocations& revocations);

  using Issuers = std::vector<std::shared_ptr<const identity::Issuer>>;
  /// Instead of those before.
  void Use(Issuers issuers);
  /// Their grants end, also when there is another key of that name by now. Any thread.
  void Vanished(const std::string& issuer, const std::vector<std::string>& kids);

  /// Until Stop(), which comes before the review goes.
  boost::asio::awaitable<void> Run();
  void Stop();

 private:
  using Kids = std::set<std::pair<std::string, std::string>>;  // issuer, kid

  [[nodiscard]] std::optional<identity::Refusal> Judge(const admission::Held& held,
                                                       const Kids& vanished) const;
  boost::asio::awaitable<Result<void>> LookAtAll(Kids vanished);

  ControlLink& control_;
  const identity::Revocations& revocations_;
  Issuers issuers_;
  uint64_t changes_ = 0;  // of issuers_
  std::mutex mutex_;      // guards vanished_
  Kids vanished_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
};

}  // namespace portcullis::guard
