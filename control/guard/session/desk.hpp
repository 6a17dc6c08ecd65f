// One connection's way to a session, step by step:
//
//   token -> bound to this connection's key? -> control admits -> keys -> control installs ->
//   answer
//
// Each step refuses by its own reason; none is skipped and none comes twice. The keys of a
// connection are exported once, and what a peer may confirm is what its connection was admitted to.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>

#include "control/guard/ask_control.hpp"
#include "control/guard/credentials.hpp"
#include "control/guard/session/messages.hpp"

namespace portcullis::guard {

struct Opened {
  KeyContext agreed;
  uint32_t replay_window = 0;  // packets
  std::chrono::seconds expires_in{0};
};

class SessionDesk {
 public:
  /// See CredentialCheck.
  SessionDesk(SessionContext& context, Connection& connection, std::string url);

  boost::asio::awaitable<Outcome<Opened>> Open(SessionRequest request, Credentials credentials);
  boost::asio::awaitable<Outcome<void>> Confirm(std::string session);
  boost::asio::awaitable<Outcome<void>> End(std::string session, Credentials credentials);

  /// The session that this connection opened; null: none, or not yet.
  [[nodiscard]] const std::string* session() const;
  [[nodiscard]] CredentialCheck& credentials() { return credentials_; }

 private:
  Result<admission::Request> AdmitMessage(const SessionRequest& request,
                                          const identity::AccessToken& token) const;
  Result<KeyContext> Agree(const SessionRequest& request,
                           const admission::Admitted& admitted) const;
  Result<admission::Request> InstallMessage(const KeyContext& agreed);

  SessionContext& context_;
  Connection& connection_;
  CredentialCheck credentials_;
  bool exported_ = false;
  std::string session_;
  uint64_t generation_ = 0;
  bool installed_ = false;
};

}  // namespace portcullis::guard
