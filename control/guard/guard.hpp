// The guard as a whole: what guard.yaml names, read and put together, and put together anew when
// the operator says so. Everything but Background runs on one thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "control/guard/background.hpp"
#include "control/guard/config.hpp"
#include "control/guard/control_link.hpp"
#include "control/guard/refusals.hpp"
#include "control/guard/request/decision_socket.hpp"
#include "control/guard/request/decisions.hpp"
#include "control/guard/request/egress.hpp"
#include "control/guard/request/service.hpp"
#include "control/guard/review.hpp"
#include "control/guard/session/listener.hpp"
#include "control/guard/session/service.hpp"

namespace portcullis::guard {

class Guard {
 public:
  /// Reads every file that `config` names, and listens. `io` has one thread and outlives the guard.
  static Result<std::unique_ptr<Guard>> Create(boost::asio::io_context& io, GuardConfig config);
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// Serves on `io` from now on.
  void Start();
  void Stop();

  /// Certificates, keys, anchors, revocation lists, issuers and interfaces as `config` has them,
  /// for connections and requests from now on; those that are open go on. On an error, or when
  /// another change would need a restart (kConflict), all stays as it was.
  Result<void> Reload(GuardConfig config);

  /// Ports in the configuration's order: those for certificates, for pre-shared keys, for
  /// requests, for what servers send, for gateways that ask by TLS.
  [[nodiscard]] std::vector<uint16_t> ports() const;

 private:
  /// What comes from files and may be replaced.
  struct Loaded {
    std::vector<std::shared_ptr<const TlsServer>> tls;         // one for each listener
    std::vector<RequestInterface> interfaces;                  // one for each of `requests`
    std::vector<EgressInterface> egress;                       // one for each of `egress`
    std::vector<DecisionInterface> decisions;                  // one for each of `decisions`
    std::shared_ptr<const identity::Authorities> authorities;  // null without anchors
  };

  Guard(boost::asio::io_context& io, GuardConfig config);
  Result<Loaded> Load(const GuardConfig& config);
  Result<std::shared_ptr<TlsServer>> LoadNamed(const CertificateListener& listener,
                                               const std::string& ca,
                                               const std::set<std::string>& names,
                                               const std::string& where, const char* whom);
  Result<void> LoadEgress(const GuardConfig& config, size_t index, Loaded& loaded);
  Result<void> LoadDecisions(const DecisionSetting& setting, const VerifyPeer& verify,
                             const std::string& where, Loaded& loaded);
  Result<void> Listen(const Loaded& loaded);
  Result<void> ListenLocally(size_t index);
  Result<RequestInterface> LoadInterface(const RequestSetting& setting, const std::string& where);
  [[nodiscard]] admission::Status Report() const;
  boost::asio::awaitable<void> KeepReporting();
  boost::asio::awaitable<void> Farewell();
  Result<void> UseIssuers(const GuardConfig& config);
  Result<Introspectors> MakeIntrospectors(const GuardConfig& config);

  boost::asio::io_context& io_;
  GuardConfig config_;
  ControlLink control_;
  identity::Revocations revocations_;
  identity::DenyList denied_;  // empty: what is revoked, control knows, and it is asked each time
  identity::ReplayCache proofs_;
  Refusals refusals_;
  SessionContext context_;
  Permits permits_;
  Outcomes outcomes_;
  CarriedConnections carried_;
  RequestContext requests_{context_, permits_, outcomes_, carried_};
  std::vector<std::shared_ptr<RequestInterface>> interfaces_;  // one for each of `requests`
  std::vector<std::shared_ptr<EgressInterface>> egress_;       // one for each of `egress`
  std::vector<std::shared_ptr<DecisionInterface>> decisions_;  // one for each of `decisions`
  std::vector<Listener> listeners_;
  std::vector<DecisionSocket> sockets_;
  Review review_;
  std::shared_ptr<const identity::Authorities> authorities_;  // null without anchors
  Background background_;
  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  boost::asio::steady_timer until_report_;
  bool stopping_ = false;
};

}  // namespace portcullis::guard
