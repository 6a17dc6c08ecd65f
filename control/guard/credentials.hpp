// On whose word does a connection speak? The access token that comes with a request, believed, and
// bound to the key that this connection proved (RFC 8705, RFC 9449). Sessions and requests alike.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "control/guard/control_link.hpp"
#include "control/guard/refusals.hpp"
#include "control/guard/session/listener.hpp"
#include "control/identity/certificate.hpp"
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

/// What comes after the scheme of such a header (RFC 9110 11.4); empty: nothing.
std::string_view TokenOf(std::string_view authorization);

/// Whom a verified certificate proves, as control is told.
admission::Identity IdentityMessage(const identity::CertificateIdentity& certificate,
                                    const boost::asio::ip::tcp::endpoint& from);

class CredentialCheck {
 public:
  using Authorised = tl::expected<identity::AccessToken, identity::Refusal>;

  /// `url` is how peers that make proofs call this listener (GuardConfig); empty: certificates are
  /// all that it takes. Both references outlive this.
  CredentialCheck(SessionContext& context, const Party& party, std::string url);

  boost::asio::awaitable<Authorised> Authorise(Credentials credentials, std::string interface);
  /// For what does not say its interface: the one that the token is for.
  boost::asio::awaitable<Authorised> AuthoriseAnywhere(Credentials credentials);
  /// Again, after a wait: what was valid before it may not be any more.
  [[nodiscard]] tl::expected<void, identity::Refusal> StillValid(
      const identity::AccessToken& token) const;

  /// Null: the handshake was by pre-shared key.
  [[nodiscard]] const identity::CertificateIdentity* certificate() const { return certificate_; }
  /// Whom the handshake proved, as control is told.
  [[nodiscard]] admission::Identity IdentityMessage() const;
  /// A request with this header comes with a proof of its own, and with a nonce for it (RFC 9449):
  /// each by a pre-shared key, and where there is a certificate those that say so.
  [[nodiscard]] bool ByProof(std::string_view authorization) const;
  /// The challenge of a 401 or 403 (RFC 6750 3, RFC 9449 7.1) to a request with this header.
  [[nodiscard]] std::string Challenge(identity::Reason reason,
                                      std::string_view authorization) const;
  /// For proofs on this connection.
  std::string NewNonce();
  /// A request with this header cannot have a nonce yet: it is to be told one (RFC 9449 8).
  [[nodiscard]] bool NeedsNonce(std::string_view authorization) const;

 private:
  /// What a token is worth, whoever shows it. Asks its issuer when it is opaque.
  boost::asio::awaitable<Authorised> Verify(std::string token, std::string interface);
  tl::expected<void, identity::Refusal> CheckBinding(const identity::AccessToken& token,
                                                     std::string_view text,
                                                     const Credentials& credentials,
                                                     const identity::Moment& now);

  SessionContext& context_;
  const Party& party_;
  std::string url_;
  const identity::CertificateIdentity* certificate_ = nullptr;  // with Mode::certificate
  identity::NonceIssuer nonces_;
  bool nonce_given_ = false;
};

/// As control is told of it.
admission::Token TokenMessage(const identity::AccessToken& token);

}  // namespace portcullis::guard
