#include "control/peer/peer.hpp"
#include "control/coroutines.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <map>
#include <utility>

#include "control/peer/dataplane_path.hpp"
#include "control/peer/xfrm_path.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::seconds kWatchListsEvery{1};
// A revoked gate must not stay believed for the ten minutes that a gate with many peers may take.
constexpr std::chrono::seconds kListsEvery{60};

std::vector<guard::SessionSelector> AllSelectors(const PeerConfig& config) {
  std::vector<guard::SessionSelector> all;
  for (const auto& session : config.sessions) {
    all.insert(all.end(), session.selectors.begin(), session.selectors.end());
  }
  return all;
}

}  // namespace

VerifyGate CheckGate(const identity::CertificateVerifier& verifier,
                     const identity::Revocations& revocations, std::string gate_identity) {
  return [&verifier, &revocations, name = std::move(gate_identity)](
             X509* leaf,
             STACK_OF(X509) *
                 chain) -> tl::expected<identity::CertificateIdentity, identity::Refusal> {
    auto gate = verifier.Verify(leaf, chain, revocations, std::chrono::system_clock::now());
    if (!gate) return gate;
    const auto& names = gate->names;
    if (std::ranges::none_of(names, [&](const auto& one) { return one.text == name; })) {
      return identity::Refuse(identity::Reason::peer_unknown, leaf,
                              fmt::format("is not the gate's: expected the name '{}'; found '{}'",
                                          name, names.front().text));
    }
    return gate;
  };
}

Peer::Peer(asio::io_context& io, PeerConfig config)
    : io_(io), config_(std::move(config)), revocations_(config_.trust.crl_grace), pause_(io) {}

Result<std::unique_ptr<Peer>> Peer::Create(asio::io_context& io, PeerConfig config) {
  std::unique_ptr<Peer> peer(new Peer(io, std::move(config)));
  // First: the kernel keeps cleartext back from then on, whatever else is wrong.
  if (auto opened = peer->OpenDatapath(); !opened) return tl::unexpected(opened.error());
  if (auto loaded = peer->Load(); !loaded) return tl::unexpected(loaded.error());
  return peer;
}

Result<void> Peer::OpenDatapath() {
  if (!config_.dataplane_socket.empty()) {
    datapath_ = std::make_unique<DataplanePath>(io_.get_executor(), config_.dataplane_socket,
                                                AllSelectors(config_));
    return {};
  }
  auto kernel = XfrmPath::Open(io_.get_executor(), config_);
  if (!kernel) return tl::unexpected(kernel.error());
  datapath_ = *std::move(kernel);
  return {};
}

Result<void> Peer::Load() {
  const auto executor = io_.get_executor();
  if (config_.mode == guard::Mode::certificate) {
    auto authorities = identity::Authorities::Load(config_.trust.authorities);
    if (!authorities) return tl::unexpected(authorities.error());
    auto verifier = identity::CertificateVerifier::Create(*authorities, config_.profile);
    if (!verifier) return tl::unexpected(verifier.error());
    verifier_ = *std::move(verifier);
    for (const auto& location : config_.trust.crls) {
      identity::CrlFollowerSettings settings{location, {}, kListsEvery};
      lists_.push_back(std::make_unique<identity::CrlFollower>(executor, std::move(settings),
                                                               *authorities, revocations_));
    }
  } else {
    auto key = identity::ProofKey::Load(config_.proof_key, "psk.proof_key");
    if (!key) return tl::unexpected(key.error());
    proof_key_ = std::make_shared<const identity::ProofKey>(*std::move(key));
    spdlog::info("proofs of possession are made with the key {}", proof_key_->thumbprint());
  }
  if (const auto client = NewClient(); !client) return tl::unexpected(client.error());
  auto tokens = TokenSource::Create(executor, config_.token_endpoint, proof_key_);
  if (!tokens) return tl::unexpected(tokens.error());
  tokens_ = *std::move(tokens);
  identity_.emplace(Identity{config_, [this] { return NewClient(); }, *tokens_, proof_key_});
  for (const auto& settings : config_.sessions) {
    sessions_.push_back(
        std::make_unique<Session>(executor, *identity_, *datapath_, revocations_, settings));
  }
  return {};
}

// The files are read each time: a renewed certificate needs no restart.
Result<std::shared_ptr<const TlsClient>> Peer::NewClient() const {
  if (config_.mode == guard::Mode::certificate) {
    auto client = TlsClient::ForCertificates(
        config_.own, config_.tls_1_2, CheckGate(*verifier_, revocations_, config_.gate_identity),
        "certificate");
    if (!client) return tl::unexpected(client.error());
    return *std::move(client);
  }
  auto keys = identity::PskStore::Load({config_.psk}, "psk");
  if (!keys) return tl::unexpected(keys.error());
  return TlsClient::ForPsk(std::make_shared<const identity::PskStore>(*std::move(keys)),
                           config_.psk.identity, config_.psk.use);
}

void Peer::Start() {
  // Lists first: files are there before the first handshake.
  for (auto& list : lists_) asio::co_spawn(io_, list->Run(), Rethrow);
  asio::co_spawn(io_, WatchLists(), Rethrow);
  asio::co_spawn(io_, datapath_->Run(), Rethrow);
  for (auto& session : sessions_) asio::co_spawn(io_, RunSession(*session), Rethrow);
}

asio::awaitable<void> Peer::RunSession(Session& session) {
  co_await session.Run();
  const bool all = std::ranges::all_of(sessions_, [](const auto& one) { return one->over(); });
  if (all) datapath_->Stop();
}

void Peer::RefreshLists() {
  for (auto& list : lists_) list->RefreshNow();
}

void Peer::Stop() {
  stopping_ = true;
  pause_.cancel();
  for (auto& list : lists_) list->Stop();
  for (auto& session : sessions_) session->Stop();
}

// Followers say how they fare when they are asked; the log is told once per change.
asio::awaitable<void> Peer::WatchLists() {
  std::map<std::string, std::string> told;
  while (!stopping_) {
    for (const auto& list : lists_) {
      const identity::CrlStatus status = list->status();
      std::string& before = told[status.location];
      if (status.error == before) continue;
      if (status.error.empty()) {
        spdlog::info("revocation list {}: in force again", status.location);
      } else {
        spdlog::warn("revocation list {}: {}", status.location, status.error);
      }
      before = status.error;
    }
    pause_.expires_after(kWatchListsEvery);
    co_await pause_.async_wait(kAwait);
  }
}

}  // namespace portcullis::peer
