#include "control/guard/credentials.hpp"

#include <fmt/format.h>
#include <openssl/x509.h>

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <new>
#include <stdexcept>
#include <utility>

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

constexpr const char* kBearer = "Bearer";  // RFC 6750
constexpr const char* kDpop = "DPoP";      // RFC 9449

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
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

// RFC 9110 11.4: the scheme in any case, then one space.
bool IsOfScheme(std::string_view authorization, std::string_view scheme) {
  return authorization.size() > scheme.size() && authorization[scheme.size()] == ' ' &&
         boost::beast::iequals(authorization.substr(0, scheme.size()), scheme);
}

}  // namespace

std::string_view TokenOf(std::string_view authorization) {
  const auto space = authorization.find(' ');
  return space == std::string_view::npos ? std::string_view() : authorization.substr(space + 1);
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
  if (token.binding.proof_key) {
    message.set_proof_key_thumbprint(identity::EncodeBase64Url(*token.binding.proof_key));
  }
  return message;
}

admission::Identity IdentityMessage(const identity::CertificateIdentity& certificate,
                                    const asio::ip::tcp::endpoint& from) {
  admission::Identity message;
  message.set_source(steer::ToBytes(ToAddress(from.address())));
  message.set_mode(admission::CERTIFICATE);
  for (const auto& name : certificate.names) message.add_names(name.text);
  for (const auto& link : certificate.chain) {
    admission::Certificate& one = *message.add_chain();
    one.set_authority(link.authority);
    one.set_issuer(link.id.issuer);
    one.set_serial(link.id.serial);
  }
  message.set_spki_sha256(certificate.spki_sha256);
  message.set_certificate_not_after(Seconds(certificate.chain_not_after));
  return message;
}

CredentialCheck::CredentialCheck(SessionContext& context, const Party& party, std::string url)
    : context_(context), party_(party), url_(std::move(url)) {
  if (party.who.mode == Mode::certificate) {
    certificate_ = VerifiedIdentity(party.who.certificate.get());
    // The listener lets nobody through whom CertificateCheck() did not admit.
    if (certificate_ == nullptr) throw std::logic_error("a certificate that nobody verified");
  }
}

bool CredentialCheck::ByProof(std::string_view authorization) const {
  return certificate_ == nullptr || (!url_.empty() && IsOfScheme(authorization, kDpop));
}

std::string CredentialCheck::Challenge(Reason reason, std::string_view authorization) const {
  const char* scheme = ByProof(authorization) ? kDpop : kBearer;
  if (reason == Reason::token_missing) {
    const bool both = certificate_ != nullptr && !url_.empty();
    return both ? fmt::format("{}, {}", kBearer, kDpop) : scheme;
  }
  const char* error = reason == Reason::token_scope_fail  ? "insufficient_scope"
                      : reason == Reason::dpop_nonce_fail ? "use_dpop_nonce"
                      : reason == Reason::dpop_fail || reason == Reason::token_replay
                          ? "invalid_dpop_proof"
                          : "invalid_token";
  return fmt::format("{} error=\"{}\"", scheme, error);
}

std::string CredentialCheck::NewNonce() {
  nonce_given_ = true;
  return nonces_.Issue(Moment::Now());
}

bool CredentialCheck::NeedsNonce(std::string_view authorization) const {
  return !nonce_given_ && !authorization.empty() && ByProof(authorization);
}

asio::awaitable<CredentialCheck::Authorised> CredentialCheck::Verify(std::string token,
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

asio::awaitable<CredentialCheck::Authorised> CredentialCheck::Authorise(Credentials credentials,
                                                                        std::string interface) {
  const char* scheme = ByProof(credentials.authorization) ? kDpop : kBearer;
  if (!IsOfScheme(credentials.authorization, scheme)) {
    co_return Refuse(
        Reason::token_missing,
        fmt::format("Authorization: expected {} and a token; "
                    "found {}",
                    scheme, credentials.authorization.empty() ? "nothing" : "something else"));
  }
  const std::string_view text = TokenOf(credentials.authorization);
  std::string shown(text);
  auto token = co_await Verify(std::move(shown), std::move(interface));
  if (!token) co_return token;
  if (auto bound = CheckBinding(*token, text, credentials, Moment::Now()); !bound) {
    co_return tl::unexpected(bound.error());
  }
  co_return token;
}

asio::awaitable<CredentialCheck::Authorised> CredentialCheck::AuthoriseAnywhere(
    Credentials credentials) {
  const std::vector<std::string> interfaces = context_.interfaces;  // a reload may change them
  for (const auto& interface : interfaces) {
    std::string name = interface;
    Credentials again = credentials;
    auto token = co_await Authorise(std::move(again), std::move(name));
    if (token || token.error().reason != Reason::token_aud_fail) co_return token;
  }
  co_return Refuse(Reason::token_aud_fail, "meant for none of this gate's interfaces");
}

tl::expected<void, Refusal> CredentialCheck::CheckBinding(const AccessToken& token,
                                                          std::string_view text,
                                                          const Credentials& credentials,
                                                          const Moment& now) {
  const bool by_proof = ByProof(credentials.authorization);
  if (by_proof) {
    if (credentials.proof.empty()) return Refuse(Reason::dpop_fail, "no header DPoP");
    const std::string url = url_ + credentials.path;
    const identity::ProofContext made_for{credentials.method, url, text, token.binding};
    auto proved =
        identity::VerifyProof(credentials.proof, made_for, {}, nonces_, context_.proofs, now);
    if (!proved) return proved;
  }
  std::string der;
  if (certificate_ != nullptr) der = Der(party_.who.certificate.get());
  auto bound = identity::CheckBinding(token, identity::Bytes(der), by_proof);
  if (!bound || certificate_ == nullptr) return bound;
  // It may have been revoked since the handshake.
  return context_.revocations.Check(*certificate_, now.wall);
}

// What was valid when control was asked may not be any more; what ceases to be so after this, is
// found among the sessions (control/guard/review.hpp).
tl::expected<void, Refusal> CredentialCheck::StillValid(const AccessToken& token) const {
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

admission::Identity CredentialCheck::IdentityMessage() const {
  admission::Identity message;
  if (certificate_ != nullptr) message = guard::IdentityMessage(*certificate_, party_.from);
  message.set_decrypted(party_.decrypted);
  if (certificate_ != nullptr) return message;
  message.set_source(steer::ToBytes(ToAddress(party_.from.address())));
  message.set_mode(admission::PSK);
  message.set_psk_peer(party_.who.psk_peer);
  return message;
}

}  // namespace portcullis::guard
