#include "control/guard/session/desk.hpp"

#include <openssl/rand.h>

#include <algorithm>
#include <utility>

#include "control/guard/session/address.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::AccessToken;
using identity::Moment;
using identity::Reason;

SessionDesk::SessionDesk(SessionContext& context, Connection& connection, std::string url)
    : context_(context),
      connection_(connection),
      credentials_(context, connection, std::move(url)) {}

const std::string* SessionDesk::session() const {
  return installed_ ? &session_ : nullptr;
}

// ---- what control is told and asked

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
  *admit.mutable_identity() = credentials_.IdentityMessage();
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

// ---- the keys

Result<KeyContext> SessionDesk::Agree(const SessionRequest& request,
                                      const admission::Admitted& admitted) const {
  KeyContext agreed;
  agreed.tls_version = connection_.who.tls_version;
  agreed.mode = connection_.who.mode;
  agreed.gate_identity = context_.gate_identity;
  // What the peer itself knows it is, and not what policy calls it: it has to compare.
  const identity::CertificateIdentity* shown = credentials_.certificate();
  agreed.peer_identity =
      shown == nullptr ? connection_.who.psk_identity : shown->names.front().text;
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
  const auto token = co_await credentials_.Authorise(std::move(credentials), std::move(interface));
  if (!token) co_return tl::unexpected(Denied{token.error()});

  auto admit = AdmitMessage(request, *token);
  if (!admit) co_return Deny(Reason::request_malformed, admit.error().Text());
  auto admitted = co_await AskControl(context_.control, std::move(*admit));
  if (!admitted) co_return tl::unexpected(std::move(admitted.error()));

  if (auto valid = credentials_.StillValid(*token); !valid)
    co_return Deny(std::move(valid.error()));
  auto agreed = Agree(request, admitted->admitted());
  if (!agreed) co_return Deny(Reason::gate_unavailable, agreed.error().Text());
  exported_ = true;  // whatever comes of it
  auto install = InstallMessage(*agreed);
  if (!install) co_return Deny(Reason::gate_unavailable, install.error().Text());
  auto installed = co_await AskControl(context_.control, std::move(*install));
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
  auto confirmed = co_await AskControl(context_.control, std::move(message));
  if (!confirmed) co_return tl::unexpected(std::move(confirmed.error()));
  co_return Outcome<void>{};
}

asio::awaitable<Outcome<void>> SessionDesk::End(std::string session, Credentials credentials) {
  const auto token = co_await credentials_.AuthoriseAnywhere(std::move(credentials));
  if (!token) co_return tl::unexpected(Denied{token.error()});
  admission::Request message;
  *message.mutable_end()->mutable_identity() = credentials_.IdentityMessage();
  *message.mutable_end()->mutable_token() = TokenMessage(*token);
  message.mutable_end()->set_session(session);
  auto ended = co_await AskControl(context_.control, std::move(message));
  if (!ended) co_return tl::unexpected(std::move(ended.error()));
  co_return Outcome<void>{};
}

}  // namespace portcullis::guard
