// What peers may ask for on interfaces whose requests the guard judges one by one. The guard keeps
// what it is told here for a while, and waits (Watch) to hear that it may be otherwise: so a
// revocation, a block or another policy is in force as soon as this process knows of it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <tl/expected.hpp>

#include "control/admission/grant.hpp"
#include "control/admission/sessions.hpp"
#include "control/core/gate.hpp"

namespace portcullis::admission {

class Permits {
 public:
  /// `gate` and `sessions` outlive this. `wait`: how long Watch() does, at most.
  Permits(boost::asio::any_io_executor executor, Gate& gate, Sessions& sessions,
          std::chrono::milliseconds wait = std::chrono::minutes(1));
  ~Permits();
  Permits(const Permits&) = delete;
  Permits& operator=(const Permits&) = delete;

  tl::expected<void, identity::Refusal> Permit(const Applicant& who, Permitted& reply);
  /// Who is called at an address, and what may be sent there.
  tl::expected<void, identity::Refusal> PermitCall(const admission::PermitCall& request,
                                                   CallPermitted& reply);
  /// Is whoever was called there that peer?
  tl::expected<void, identity::Refusal> Recognise(const admission::Recognise& request);
  /// May this connection stay, whatever is asked on it? `who` has no token.
  tl::expected<void, identity::Refusal> Stay(const Applicant& who);
  /// For how long at most the peer's own session carries what comes from `source` (4 or 16 bytes)
  /// to an interface of protection tls+esp; seconds::max() where nothing needs to.
  tl::expected<std::chrono::seconds, identity::Refusal> Carried(const std::string& interface,
                                                                const std::string& peer,
                                                                const std::string& source);
  /// The version, once it is another than `known`, or after a while.
  boost::asio::awaitable<uint64_t> Watch(uint64_t known);
  /// Whoever waits is answered, and nobody waits any more.
  void Stop();

  /// Of Gate::epoch(), of sessions that carried connections, and of this process: whoever knows one
  /// of an earlier process knows nothing. Both numbers only grow, so that their sum is never twice
  /// the same.
  [[nodiscard]] uint64_t version() const { return process_ + gate_.epoch() + sessions_.ended(); }
  /// The policy of now.
  const PolicyView& View();

 private:
  void Wake();
  tl::expected<std::chrono::seconds, identity::Refusal> Carried(const Applicant& who,
                                                                const std::string& peer);

  boost::asio::any_io_executor executor_;
  Gate& gate_;
  Sessions& sessions_;
  const std::chrono::milliseconds wait_;
  const uint64_t process_;
  std::optional<PolicyView> view_;
  uint64_t viewed_ = 0;  // Gate::generation() of view_
  std::set<boost::asio::steady_timer*> waiting_;
  bool stopping_ = false;
};

}  // namespace portcullis::admission
