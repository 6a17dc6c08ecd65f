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
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/guard/control_link.hpp"
#include "control/guard/refusals.hpp"
#include "control/guard/session/listener.hpp"
#include "control/guard/session/messages.hpp"
#include "control/identity/revocations.hpp"
#include "control/identity/token/dpop.hpp"
#include "control/identity/token/introspection.hpp"
#include "control/identity/token/verifier.hpp"

namespace portcullis::guard {

/// Who is asked about an opaque token, by the interface at which it is shown.
using Introspectors = std::map<std::string, std::shared_ptr<identity::Introspector>, std::less<>>;

/// What all connections share. One thread, but for what says otherwise.
struct SessionContext {
  ControlLink& control;
  const identity::Revocations& revocations;
  identity::ReplayCache& proofs;
  Refusals& refusals;
  std::string gate_identity;
  std::vector<std::string> interfaces;  // that have an audience
  /// A reload puts another one here, between two steps of whoever uses it.
  std::shared_ptr<const identity::TokenVerifier> tokens;
  Introspectors introspectors;
};

/// What came with a request to prove the right to it.
struct Credentials {
  std::string authorization;  // the header's value
  std::string proof;          // the header DPoP; empty: none
  std::string method;
  std::string path;
};

struct Denied {
  identity::Refusal why;
  std::string reference = {};  // control's, when it was control that refused
};
template <class T>
using Outcome = tl::expected<T, Denied>;

struct Opened {
  KeyContext agreed;
  uint32_t replay_window = 0;  // packets
  std::chrono::seconds expires_in{0};
};

class SessionDesk {
 public:
  /// `url` is how peers call this listener (GuardConfig), empty on those for certificates. Both
  /// references outlive the desk.
  SessionDesk(SessionContext& context, Connection& connection, std::string url);

  boost::asio::awaitable<Outcome<Opened>> Open(SessionRequest request, Credentials credentials);
  boost::asio::awaitable<Outcome<void>> Confirm(std::string session);
  boost::asio::awaitable<Outcome<void>> End(std::string session, Credentials credentials);

  /// The session that this connection opened; null: none, or not yet.
  [[nodiscard]] const std::string* session() const;
  /// Whom the handshake proved, as control is told.
  [[nodiscard]] admission::Identity IdentityMessage() const;
  /// "Bearer" (RFC 8705) or "DPoP" (RFC 9449), as the listener's mode wants it.
  [[nodiscard]] std::string_view scheme() const;
  /// For proofs on this connection; the first one is to be had by asking without (RFC 9449 8).
  std::string NewNonce();
  [[nodiscard]] bool wants_nonce() const;

 private:
  using Authorised = tl::expected<identity::AccessToken, identity::Refusal>;

  boost::asio::awaitable<Authorised> Authorise(Credentials credentials, std::string interface);
  /// For what does not say its interface: the one that the token is for.
  boost::asio::awaitable<Authorised> AuthoriseAnywhere(Credentials credentials);
  /// What a token is worth, whoever shows it. Asks its issuer when it is opaque.
  boost::asio::awaitable<Authorised> Verify(std::string token, std::string interface);
  tl::expected<void, identity::Refusal> CheckBinding(const identity::AccessToken& token,
                                                     std::string_view text,
                                                     const Credentials& credentials,
                                                     const identity::Moment& now);
  [[nodiscard]] tl::expected<void, identity::Refusal> StillValid(
      const identity::AccessToken& token) const;
  boost::asio::awaitable<Outcome<admission::Response>> Ask(admission::Request request);
  Result<admission::Request> AdmitMessage(const SessionRequest& request,
                                          const identity::AccessToken& token) const;
  Result<KeyContext> Agree(const SessionRequest& request,
                           const admission::Admitted& admitted) const;
  Result<admission::Request> InstallMessage(const KeyContext& agreed);

  SessionContext& context_;
  Connection& connection_;
  std::string url_;
  const identity::CertificateIdentity* certificate_ = nullptr;  // with Mode::certificate
  identity::NonceIssuer nonces_;
  bool nonce_given_ = false;
  bool exported_ = false;
  std::string session_;
  uint64_t generation_ = 0;
  bool installed_ = false;
};

}  // namespace portcullis::guard
