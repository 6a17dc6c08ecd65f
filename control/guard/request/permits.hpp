// What peers may ask for, as control decided it (grant = token and policy), kept for as long as
// nothing has changed: control tells at once when policy or revocations have, and without control
// nobody may do anything, since nobody would know. Resources' owners are kept alike.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "control/admission/admission.pb.h"
#include "control/guard/ask_control.hpp"

namespace portcullis::guard {

/// One thread.
class Permits {
 public:
  static constexpr size_t kMost = 10'000;  // kept, of either kind

  /// `control` outlives this.
  Permits(const boost::asio::any_io_executor& executor, ControlLink& control)
      : control_(control), pause_(executor) {}

  using Permit = std::shared_ptr<const admission::Permitted>;
  template <class Message>
  struct KeptOf {
    std::shared_ptr<const Message> permit;
    std::chrono::steady_clock::time_point until;
  };
  using Kept = KeptOf<admission::Permitted>;
  /// The identity of the connection and the token that was shown on it, both verified. What comes
  /// back is Current(), here and for callers as long as they do not wait.
  boost::asio::awaitable<Outcome<Kept>> Of(admission::Identity identity, admission::Token token,
                                           std::string interface);
  /// Who is called at an address (canonical, without a query), and what may be sent there.
  using CallPermit = std::shared_ptr<const admission::CallPermitted>;
  boost::asio::awaitable<Outcome<CallPermit>> Call(std::string interface, std::string url);
  /// The tenant; empty: nobody was seen to create it.
  boost::asio::awaitable<Outcome<std::string>> OwnerOf(std::string interface, std::string kind,
                                                       std::string resource);
  /// It was created, or is gone: what is known of its owner no longer holds.
  void Forget(const std::string& interface, const std::string& kind, const std::string& resource);

  /// Nothing has changed since this was decided, and control is there to say so.
  template <class Permitted>
  [[nodiscard]] bool Current(const Permitted& permit) const {
    return control_.ready() && connection_ == control_.connections() &&
           permit.version() == version_;
  }

  /// Another number after each change that the guard has heard of.
  [[nodiscard]] uint64_t changes() const { return changes_; }

  /// Hears of changes, until Stop(), which comes before this goes.
  boost::asio::awaitable<void> Run();
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  using Place = std::tuple<std::string, std::string, std::string>;  // interface, kind, resource

  template <class Message>
  boost::asio::awaitable<Outcome<std::shared_ptr<const Message>>> Ask(
      admission::Request request, Message* (admission::Response::*take)());
  template <class Key, class Message>
  std::optional<KeptOf<Message>> Find(std::map<Key, KeptOf<Message>>& kept, const Key& key) const;
  bool Learn(uint64_t version);

  ControlLink& control_;
  uint64_t version_ = 0;     // of policy and revocations; 0: none yet
  uint64_t connection_ = 0;  // to control, on which that was said
  uint64_t changes_ = 0;
  std::map<std::string, Kept> permits_;
  // By interface and address.
  std::map<std::pair<std::string, std::string>, KeptOf<admission::CallPermitted>> calls_;
  std::map<Place, std::string> owners_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
};

}  // namespace portcullis::guard
