#include "control/guard/request/callees.hpp"

#include <openssl/ssl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>

#include "control/guard/ask_control.hpp"
#include "control/guard/session/address.hpp"
#include "control/model/callback.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;

namespace {

// Whoever answers is that peer, and nobody has shut him out.
asio::awaitable<Result<void>> Recognise(
    SessionContext& shared, std::shared_ptr<const identity::CertificateVerifier> verifier,
    std::string peer, web::TlsStream& stream) {
  SSL* const ssl = stream.native_handle();
  const auto identity =
      verifier->Verify(SSL_get0_peer_certificate(ssl), SSL_get_peer_cert_chain(ssl),
                       shared.revocations, std::chrono::system_clock::now());
  if (!identity) co_return Fail(ErrorKind::kUnavailable, identity.error().Text());
  web::ErrorCode ignored;
  const auto at = stream.next_layer().socket().remote_endpoint(ignored);
  admission::Request request;
  request.mutable_recognise()->set_peer(std::move(peer));
  *request.mutable_recognise()->mutable_identity() = IdentityMessage(*identity, at);
  const auto known = co_await AskControl(shared.control, std::move(request));
  if (!known) co_return Fail(ErrorKind::kUnavailable, known.error().why.Text());
  co_return Result<void>{};
}

// What can be bound is this host's own.
bool IsOwn(const asio::ip::address& address) {
  asio::io_context unused;
  asio::ip::udp::socket socket(unused);
  web::ErrorCode error;
  socket.open(address.is_v4() ? asio::ip::udp::v4() : asio::ip::udp::v6(), error);
  if (!error) socket.bind({address, 0}, error);
  return error != boost::system::errc::address_not_available;  // when in doubt, it is
}

}  // namespace

std::optional<std::string> NotCalledAt(const admission::CallPermitted& permit,
                                       const asio::ip::address& address) {
  const Address at = ToAddress(address);
  if (const auto never = model::NeverCalled(at)) return std::string(*never);
  for (const admission::Prefix& servers : permit.servers()) {
    const auto first = steer::FromBytes(servers.address());
    if (!first) return "an address that control does not say plainly";
    constexpr unsigned kMapped = 96;
    const Prefix prefix(*first, servers.length() + (first->IsV4() ? kMapped : 0));
    if (prefix.Contains(at)) return "what stands there is protected: " + prefix.Text();
  }
  if (IsOwn(address)) return "an address of the gate itself";
  return {};
}

Result<std::shared_ptr<Callees>> Callees::Create(asio::any_io_executor executor,
                                                 SessionContext& shared,
                                                 const identity::ClientTls& tls,
                                                 identity::CertificateProfile profile,
                                                 const std::string& where) {
  auto context = identity::MakeClientTls(tls, where);
  if (!context) return tl::unexpected(context.error());
  identity::AuthorityFiles files;
  files.anchors.push_back({tls.ca, "", false});
  auto authorities = identity::Authorities::Load(files);
  if (!authorities) return tl::unexpected(authorities.error());
  profile.usage = identity::Usage::server;
  auto verifier = identity::CertificateVerifier::Create(*std::move(authorities), profile);
  if (!verifier) return tl::unexpected(verifier.error());
  return std::shared_ptr<Callees>(
      new Callees(std::move(executor), shared, *std::move(context),
                  std::make_shared<identity::CertificateVerifier>(*std::move(verifier))));
}

Result<std::shared_ptr<Upstream>> Callees::To(const Permits::CallPermit& permit,
                                              const std::string& origin) {
  const std::pair key(permit->peer(), origin);
  if (const auto at = kept_.find(key); at != kept_.end()) {
    const Kept& kept = at->second;
    if (kept.version == permit->version() && kept.epoch == shared_.revocations.epoch()) {
      return kept.server;
    }
    kept_.erase(at);
  }
  UpstreamSettings settings;
  settings.url = origin;
  settings.refuses = [permit](const asio::ip::address& address) {
    return NotCalledAt(*permit, address);
  };
  settings.recognise = [&shared = shared_, verifier = verifier_,
                        peer = permit->peer()](web::TlsStream& stream) {
    return Recognise(shared, verifier, peer, stream);
  };
  auto server = Upstream::Create(executor_, std::move(settings), tls_, "the address");
  if (!server) return server;
  if (kept_.size() >= kMost) kept_.clear();
  kept_[key] = {permit->version(), shared_.revocations.epoch(), *server};
  return server;
}

}  // namespace portcullis::guard
