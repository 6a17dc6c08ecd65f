#include "control/guard/session/desk.hpp"

#include <openssl/rand.h>
#include <openssl/x509.h>

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <new>
#include <utility>

#include "control/admission/refusal_message.hpp"
#include "control/guard/session/address.hpp"
#include "control/guard/session/peer_certificate.hpp"
#include "control/identity/token/compact_jws.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::AccessToken;
using identity::Moment;
using identity::Reason;
using identity::Refusal;

namespace {

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

tl::unexpected<Denied> Deny(Refusal why) {
  return tl::unexpected(Denied{std::move(why)});
}
tl::unexpected<Denied> Deny(Reason reason, std::string detail) {
  return Deny(Refusal{reason, std::move(detail)});
}

uint64_t Seconds(std::chrono::system_clock::time_point time) {
  return static_cast<uint64_t>(std::max<int64_t>(0, std::chrono::system_clock::to_time_t(time)));
}

std::string Der(X509* certificate) {
  unsigned char* bytes = nullptr;
  const int size = i2d_X509(certificate, &bytes);
  if (size < 0) throw std::bad_alloc();
  std::string der(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

// RFC 9110 11.4: the scheme in any case, then one space. Nothing: another scheme.
std::optional<std::string_view> TokenOf(std::string_view authorization, std::string_view scheme) {
  if (authorization.size() <= scheme.size() || authorization[scheme.size()] != ' ' ||
      !boost::beast::iequals(authorization.substr(0, scheme.size()), scheme)) {
    return {};
  }
  return authorization.substr(scheme.size() + 1);
}

admission::Token TokenMessage(const AccessToken& token) {
  admission::Token message;
  message.set_issuer(token.issuer);
  message.set_client_id(token.client_id);
  message.set_subject(token.subject);
  message.set_jti(token.jti);
  message.set_kid(token.kid);
  for (const auto& scope : token.scopes) message.add_scopes(scope);
  message.set_expiry(Seconds(token.expiry));
  if (token.binding.to == identity::Binding::To::proof_key) {
    message.set_proof_key_thumbprint(identity::EncodeBase64Url(token.binding.thumbprint));
  }
  return message;
}

}  // namespace

SessionDesk::SessionDesk(SessionContext& context, Connection& connection, std::string url)
    : context_(context), connection_(connection), url_(std::move(url)) {
  if (connection.who.mode == Mode::certificate) {
    certificate_ = VerifiedIdentity(connection.who.certificate.get());
    // The listener lets nobody through whom CertificateCheck() did not admit.
    if (certificate_ == nullptr) throw std::logic_error("a certificate that nobody verified");
  }
}

const std::string* SessionDesk::session() const {
  return installed_ ? &session_ : nullptr;
}

std::string_view SessionDesk::scheme() const {
  return certificate_ == nullptr ? "DPoP" : "Bearer";
}

std::string SessionDesk::NewNonce() {
  nonce_given_ = true;
  return nonces_.Issue(Moment::Now());
}

bool SessionDesk::wants_nonce() const {
  return certificate_ == nullptr && !nonce_given_;
}

// ---- the right to it

asio::awaitable<SessionDesk::Authorised> SessionDesk::Verify(std::string token,
                                                             std::string interface) {
  const auto asked = context_.introspectors.find(interface);
  if (asked == context_.introspectors.end() || identity::ClaimsToBeJws(token)) {
    auto verified = context_.tokens->Verify(token, interface, Moment::Now());
    Wipe(token);
    co_return verified;
  }
  // Kept alive here: a reload puts others in its place.
  const std::shared_ptr<identity::Introspector> introspector = asked->second;
  auto verified = co_await introspector->Verify(std::move(token), std::move(interface));
  co_return verified;
}

asio::awaitable<SessionDesk::Authorised> SessionDesk::Authorise(Credentials credentials,
                                                                std::string interface) {
  const auto text = TokenOf(credentials.authorization, scheme());
  if (!text) {
    co_return Refuse(
        Reason::token_missing,
        fmt::format("Authorization: expected {} and a token; "
                    "found {}",
                    scheme(), credentials.authorization.empty() ? "nothing" : "something else"));
  }
  std::string shown(*text);
  auto token = co_await Verify(std::move(shown), std::move(interface));
  if (!token) co_return token;
  if (auto bound = CheckBinding(*token, *text, credentials, Moment::Now()); !bound) {
    co_return tl::unexpected(bound.error());
  }
  co_return token;
}

asio::awaitable<SessionDesk::Authorised> SessionDesk::AuthoriseAnywhere(Credentials credentials) {
  const std::vector<std::string> interfaces = context_.interfaces;  // a reload may change them
  for (const auto& interface : interfaces) {
    std::string name = interface;
    Credentials again = credentials;
    auto token = co_await Authorise(std::move(again), std::move(name));
    if (token || token.error().reason != Reason::token_aud_fail) co_return token;
  }
  co_return Refuse(Reason::token_aud_fail, "meant for none of this gate's interfaces");
}

tl::expected<void, Refusal> SessionDesk::CheckBinding(const AccessToken& token,
                                                      std::string_view text,
                                                      const Credentials& credentials,
                                                      const Moment& now) {
  if (certificate_ != nullptr) {
    const std::string der = Der(connection_.who.certificate.get());
    if (auto bound = identity::CheckCertificate(token, identity::Bytes(der)); !bound) return bound;
    // It may have been revoked since the handshake.
    return context_.revocations.Check(*certificate_, now.wall);
  }
  if (credentials.proof.empty()) return Refuse(Reason::dpop_fail, "no header DPoP");
  const std::string url = url_ + credentials.path;
  return identity::VerifyProof(credentials.proof, {credentials.method, url, text, token.binding},
                               {}, nonces_, context_.proofs, now);
}

// What was valid when control was asked may not be any more; what ceases to be so after this, is
// found among the sessions (control/guard/review.hpp).
tl::expected<void, Refusal> SessionDesk::StillValid(const AccessToken& token) const {
  const Moment now = Moment::Now();
  if (token.kid.empty()) {  // an opaque one: is its issuer still believed?
    const auto& asked = context_.introspectors;
    const bool believed = std::ranges::any_of(
        asked, [&](const auto& entry) { return entry.second->issuer() == token.issuer; });
    if (!believed) return Refuse(Reason::token_issuer_unknown, "its issuer is believed no more");
  } else if (!context_.tokens->KnowsKeyOf(token, now)) {
    return Refuse(Reason::token_key_unknown, "the key that signed the token is gone");
  }
  if (certificate_ == nullptr) return {};
  return context_.revocations.Check(*certificate_, now.wall);
}

// ---- what control is told and asked

admission::Identity SessionDesk::IdentityMessage() const {
  admission::Identity message;
  message.set_source(steer::ToBytes(ToAddress(connection_.from.address())));
  if (certificate_ == nullptr) {
    message.set_mode(admission::PSK);
    message.set_psk_peer(connection_.who.psk_peer);
    return message;
  }
  message.set_mode(admission::CERTIFICATE);
  for (const auto& name : certificate_->names) message.add_names(name.text);
  for (const auto& link : certificate_->chain) {
    admission::Certificate& certificate = *message.add_chain();
    certificate.set_authority(link.authority);
    certificate.set_issuer(link.id.issuer);
    certificate.set_serial(link.id.serial);
  }
  message.set_spki_sha256(certificate_->spki_sha256);
  message.set_certificate_not_after(Seconds(certificate_->chain_not_after));
  return message;
}

Result<admission::Request> SessionDesk::AdmitMessage(const SessionRequest& request,
                                                     const AccessToken& token) const {
  boost::system::error_code closed;
  const auto local = connection_.stream.next_layer().socket().local_endpoint(closed);
  if (closed) return Fail(ErrorKind::kUnavailable, "the connection is closed");
  const Address peer = request.outer_peer.value_or(ToAddress(connection_.from.address()));
  const Address gate = request.outer_gate.value_or(ToAddress(local.address()));
  if (peer.IsV4() != gate.IsV4()) {
    return Invalid("/outer", "addresses of two families", "peer and gate both IPv4 or both IPv6",
                   fmt::format("{} and {}", peer.Text(), gate.Text()));
  }
  admission::Request message;
  admission::Admit& admit = *message.mutable_admit();
  *admit.mutable_identity() = IdentityMessage();
  *admit.mutable_token() = TokenMessage(token);
  admit.set_interface(request.interface);
  admit.set_session(request.session);
  admit.set_peer_spi(Value(request.spi));
  for (const Algorithm algorithm : request.algorithms) {
    admit.add_algorithms(ToMessage(algorithm));
  }
  admit.set_initial_contact(request.initial_contact);
  admit.set_udp_encap(request.udp_encap);
  admit.set_peer_outer(steer::ToBytes(peer));
  admit.set_gate_outer(steer::ToBytes(gate));
  return message;
}

asio::awaitable<Outcome<admission::Response>> SessionDesk::Ask(admission::Request request) {
  auto response = co_await context_.control.Call(std::move(request));
  if (!response) co_return Deny(Reason::gate_unavailable, response.error().Text());
  if (response->has_refusal()) {
    Denied denied{admission::FromMessage(response->refusal()), response->refusal().reference()};
    co_return tl::unexpected(std::move(denied));
  }
  co_return std::move(*response);
}

// ---- the keys

Result<KeyContext> SessionDesk::Agree(const SessionRequest& request,
                                      const admission::Admitted& admitted) const {
  KeyContext agreed;
  agreed.tls_version = connection_.who.tls_version;
  agreed.mode = connection_.who.mode;
  agreed.gate_identity = context_.gate_identity;
  // What the peer itself knows it is, and not what policy calls it: it has to compare.
  agreed.peer_identity =
      certificate_ == nullptr ? connection_.who.psk_identity : certificate_->names.front().text;
  agreed.interface = request.interface;
  agreed.to_peer = request.spi;
  agreed.peer_nonce = request.nonce;
  if (RAND_bytes(agreed.gate_nonce.data(), static_cast<int>(agreed.gate_nonce.size())) != 1) {
    return Fail(ErrorKind::kInternal, "OpenSSL has no random numbers");
  }
  if (auto taken = Take(admitted, request, agreed); !taken) return tl::unexpected(taken.error());
  return agreed;
}

// The master lives no longer than this call.
Result<admission::Request> SessionDesk::InstallMessage(const KeyContext& agreed) {
  const auto master = MasterKey::Export(connection_.stream.native_handle(), agreed);
  if (!master) return tl::unexpected(master.error());
  const auto inbound = master->Expand(Direction::inbound, agreed.to_gate, agreed.algorithm);
  if (!inbound) return tl::unexpected(inbound.error());
  const auto outbound = master->Expand(Direction::outbound, agreed.to_peer, agreed.algorithm);
  if (!outbound) return tl::unexpected(outbound.error());
  admission::Request message;
  admission::Install& install = *message.mutable_install();
  install.set_session(agreed.session_id);
  install.set_generation(agreed.generation);
  install.set_inbound_key(inbound->bytes().data(), inbound->size());
  install.set_outbound_key(outbound->bytes().data(), outbound->size());
  return message;  // whose keys ControlLink wipes
}

// ---- the steps

asio::awaitable<Outcome<Opened>> SessionDesk::Open(SessionRequest request,
                                                   Credentials credentials) {
  if (exported_) {
    co_return Deny(Reason::session_conflict,
                   "this connection has given its keys; another session needs another handshake");
  }
  std::string interface = request.interface;
  const auto token = co_await Authorise(std::move(credentials), std::move(interface));
  if (!token) co_return tl::unexpected(Denied{token.error()});

  auto admit = AdmitMessage(request, *token);
  if (!admit) co_return Deny(Reason::request_malformed, admit.error().Text());
  auto admitted = co_await Ask(std::move(*admit));
  if (!admitted) co_return tl::unexpected(std::move(admitted.error()));

  if (auto valid = StillValid(*token); !valid) co_return Deny(std::move(valid.error()));
  auto agreed = Agree(request, admitted->admitted());
  if (!agreed) co_return Deny(Reason::gate_unavailable, agreed.error().Text());
  exported_ = true;  // whatever comes of it
  auto install = InstallMessage(*agreed);
  if (!install) co_return Deny(Reason::gate_unavailable, install.error().Text());
  auto installed = co_await Ask(std::move(*install));
  if (!installed) co_return tl::unexpected(std::move(installed.error()));

  session_ = agreed->session_id;
  generation_ = agreed->generation;
  installed_ = true;
  co_return Opened{std::move(*agreed), admitted->admitted().replay_window(),
                   std::chrono::seconds(admitted->admitted().seconds())};
}

asio::awaitable<Outcome<void>> SessionDesk::Confirm(std::string session) {
  if (!installed_ || session != session_) {
    co_return Deny(Reason::session_conflict, "not the session that this connection opened");
  }
  admission::Request message;
  message.mutable_confirm()->set_session(session_);
  message.mutable_confirm()->set_generation(generation_);
  auto confirmed = co_await Ask(std::move(message));
  if (!confirmed) co_return tl::unexpected(std::move(confirmed.error()));
  co_return Outcome<void>{};
}

asio::awaitable<Outcome<void>> SessionDesk::End(std::string session, Credentials credentials) {
  const auto token = co_await AuthoriseAnywhere(std::move(credentials));
  if (!token) co_return tl::unexpected(Denied{token.error()});
  admission::Request message;
  *message.mutable_end()->mutable_identity() = IdentityMessage();
  *message.mutable_end()->mutable_token() = TokenMessage(*token);
  message.mutable_end()->set_session(session);
  auto ended = co_await Ask(std::move(message));
  if (!ended) co_return tl::unexpected(std::move(ended.error()));
  co_return Outcome<void>{};
}

}  // namespace portcullis::guard
