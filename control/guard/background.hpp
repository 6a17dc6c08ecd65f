// What keeps the guard's knowledge fresh, on a thread of its own: revocation lists and the issuers'
// key sets. Verifying a long list takes tens of milliseconds, which no handshake shall wait for.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/admission/admission.pb.h"
#include "control/guard/config.hpp"
#include "control/identity/crl_follower.hpp"
#include "control/identity/revocations.hpp"
#include "control/identity/token/key_fetcher.hpp"

namespace portcullis::guard {

/// Public functions are for the owner's thread.
class Background {
 public:
  /// Of an issuer, which of its keys are no more.
  using TellVanished =
      std::function<void(const std::string& issuer, const std::vector<std::string>& kids)>;

  /// `revocations` outlives this. `tell` is called on the background's own thread.
  Background(identity::Revocations& revocations, TellVanished tell);
  /// Waits for what is under way. Without memory for the message to its thread, the program ends.
  ~Background();  // NOLINT(bugprone-exception-escape)
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  /// One for each, in order: issuers that are configured as before are the same objects with the
  /// keys they have, so that a reload drops nobody's token. Nothing changes when one of them cannot
  /// be followed.
  Result<std::vector<std::shared_ptr<const identity::Issuer>>> FollowIssuers(
      const std::vector<identity::IssuerConfig>& configs);
  /// How following goes, for control; `endings` are of what was fetched.
  struct News {
    std::vector<admission::Followed> lists;
    std::vector<admission::Followed> issuers;
    std::vector<identity::Expiry> endings;
  };
  [[nodiscard]] News Tell() const;

  /// In place of those that were followed. Lists in force stay.
  void FollowLists(const std::vector<identity::CrlLocation>& locations,
                   const std::shared_ptr<const identity::Authorities>& authorities);

 private:
  // Of the last fetch; empty: it went well. Written by the thread, read by the owner's.
  struct LastError {
    mutable std::mutex mutex;
    std::string text;
  };
  struct Followed {
    identity::IssuerConfig config;
    std::shared_ptr<identity::Issuer> issuer;
    std::shared_ptr<identity::KeyFetcher> fetcher;
    std::shared_ptr<LastError> error;
  };

  Result<Followed> Follow(const identity::IssuerConfig& config);
  boost::asio::awaitable<void> Watch();

  identity::Revocations& revocations_;
  TellVanished tell_vanished_;
  std::vector<Followed> issuers_;
  std::vector<std::shared_ptr<const identity::CrlFollower>> shown_;  // lists_, for Tell()

  boost::asio::io_context io_{1};  // what follows belongs to its thread
  std::vector<std::shared_ptr<identity::CrlFollower>> lists_;
  std::map<std::string, std::string> told_;  // the last error of each list
  boost::asio::steady_timer pause_{io_};
  bool stopping_ = false;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace portcullis::guard
