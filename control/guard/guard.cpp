#include "control/guard/guard.hpp"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <utility>

#include "control/coroutines.hpp"
#include "control/guard/session/peer_certificate.hpp"
#include "control/profiles/load.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;

namespace {

// As many as a gate's peers make in the time that a proof could be used again.
constexpr size_t kMostProofs = 100'000;
constexpr std::chrono::seconds kFarewellTime{3};
constexpr std::chrono::milliseconds kFarewellPause{20};

Error At(Error error, const std::string& where) {
  error.where = error.where.empty() ? where : where + ": " + error.where;
  return error;
}

Result<std::shared_ptr<const profiles::Profile>> SharedProfile(const std::string& file) {
  auto profile = profiles::LoadProfile(file);
  if (!profile) return tl::unexpected(profile.error());
  return std::make_shared<const profiles::Profile>(*std::move(profile));
}

bool SamePlace(const ListenerSettings& a, const ListenerSettings& b) {
  return a.address == b.address && a.port == b.port && a.device == b.device;
}

// Whether `b` can replace `a` in a running guard.
bool SamePlaces(const GuardConfig& a, const GuardConfig& b) {
  if (a.control_socket != b.control_socket || a.control_user != b.control_user ||
      a.certificate_listeners.size() != b.certificate_listeners.size() ||
      a.psk_listeners.size() != b.psk_listeners.size() || a.requests.size() != b.requests.size() ||
      a.egress.size() != b.egress.size() || a.decisions.size() != b.decisions.size()) {
    return false;
  }
  for (size_t i = 0; i < a.decisions.size(); ++i) {
    const DecisionSetting& one = a.decisions[i];
    const DecisionSetting& other = b.decisions[i];
    if (!SamePlace(one.listener.at, other.listener.at) || one.socket != other.socket ||
        one.users != other.users || one.interface != other.interface) {
      return false;
    }
  }
  for (size_t i = 0; i < a.requests.size(); ++i) {
    const RequestSetting& one = a.requests[i];
    const RequestSetting& other = b.requests[i];
    if (!SamePlace(one.at(), other.at()) || one.interface != other.interface ||
        one.url != other.url) {
      return false;
    }
  }
  for (size_t i = 0; i < a.egress.size(); ++i) {
    if (!SamePlace(a.egress[i].listener.at, b.egress[i].listener.at) ||
        a.egress[i].interface != b.egress[i].interface) {
      return false;
    }
  }
  for (size_t i = 0; i < a.certificate_listeners.size(); ++i) {
    if (!SamePlace(a.certificate_listeners[i].at, b.certificate_listeners[i].at)) return false;
  }
  for (size_t i = 0; i < a.psk_listeners.size(); ++i) {
    if (!SamePlace(a.psk_listeners[i].at, b.psk_listeners[i].at) ||
        a.psk_listeners[i].url != b.psk_listeners[i].url) {
      return false;
    }
  }
  return true;
}

}  // namespace

Guard::Guard(asio::io_context& io, GuardConfig config)
    : io_(io),
      config_(std::move(config)),
      control_(io.get_executor(), config_.control_socket, config_.control_user),
      revocations_(config_.crl_grace),
      proofs_(kMostProofs, identity::ProofRules().Life()),
      refusals_(control_),
      context_{control_,         revocations_,       proofs_, refusals_,
               config_.identity, config_.interfaces, nullptr, {}},
      permits_(io.get_executor(), control_),
      outcomes_(io.get_executor(), control_),
      carried_(io.get_executor(), control_, permits_),
      review_(io.get_executor(), control_, revocations_),
      background_(revocations_, [this](const std::string& issuer,
                                       const auto& kids) { review_.Vanished(issuer, kids); }),
      until_report_(io) {}

Result<std::unique_ptr<Guard>> Guard::Create(asio::io_context& io, GuardConfig config) {
  std::unique_ptr<Guard> guard(new Guard(io, std::move(config)));
  const auto loaded = guard->Load(guard->config_);
  if (!loaded) return tl::unexpected(loaded.error());
  if (auto used = guard->UseIssuers(guard->config_); !used) return tl::unexpected(used.error());
  if (auto listening = guard->Listen(*loaded); !listening) {
    return tl::unexpected(listening.error());
  }
  guard->authorities_ = loaded->authorities;
  guard->background_.FollowLists(guard->config_.crls, loaded->authorities);
  return guard;
}

Result<Guard::Loaded> Guard::Load(const GuardConfig& config) {
  Loaded loaded;
  std::shared_ptr<const identity::CertificateVerifier> verifier;
  if (TakesCertificates(config)) {
    auto authorities = identity::Authorities::Load(config.authorities);
    if (!authorities) return tl::unexpected(authorities.error());
    loaded.authorities = *std::move(authorities);
    auto made = identity::CertificateVerifier::Create(loaded.authorities, config.profile);
    if (!made) return tl::unexpected(At(made.error(), "profile"));
    verifier = std::make_shared<identity::CertificateVerifier>(*std::move(made));
  }
  const auto load = [&](const CertificateListener& listener,
                        const std::string& where) -> Result<void> {
    auto tls =
        TlsServer::ForCertificates(listener.tls, CertificateCheck(verifier, revocations_), where);
    if (!tls) return tl::unexpected(tls.error());
    loaded.tls.push_back(*std::move(tls));
    return {};
  };
  for (size_t i = 0; i < config.certificate_listeners.size(); ++i) {
    const auto where = fmt::format("listeners.certificate[{}]", i);
    if (auto r = load(config.certificate_listeners[i], where); !r) return tl::unexpected(r.error());
  }
  std::shared_ptr<const identity::PskStore> shared;
  if (HasPskListener(config)) {
    auto keys = identity::PskStore::Load(config.keys, "keys");
    if (!keys) return tl::unexpected(keys.error());
    shared = std::make_shared<const identity::PskStore>(*std::move(keys));
  }
  const auto load_psk = [&](const PskListener& listener) -> Result<void> {
    auto tls = TlsServer::ForPsk(listener.tls, shared);
    if (!tls) return tl::unexpected(tls.error());
    loaded.tls.push_back(*std::move(tls));
    return {};
  };
  for (const auto& listener : config.psk_listeners) {
    if (auto r = load_psk(listener); !r) return tl::unexpected(r.error());
  }
  for (size_t i = 0; i < config.requests.size(); ++i) {
    const auto where = fmt::format("requests[{}]", i);
    const RequestSetting& one = config.requests[i];
    auto door = one.psk ? load_psk(*one.psk) : load(one.listener, where);
    if (!door) return tl::unexpected(door.error());
    auto interface = LoadInterface(config.requests[i], where);
    if (!interface) return tl::unexpected(interface.error());
    loaded.interfaces.push_back(*std::move(interface));
  }
  for (size_t i = 0; i < config.egress.size(); ++i) {
    if (auto r = LoadEgress(config, i, loaded); !r) return tl::unexpected(r.error());
  }
  for (size_t i = 0; i < config.decisions.size(); ++i) {
    const auto where = fmt::format("decisions[{}]", i);
    const auto verify = CertificateCheck(verifier, revocations_);
    if (auto r = LoadDecisions(config.decisions[i], verify, where, loaded); !r) {
      return tl::unexpected(r.error());
    }
  }
  return loaded;
}

// A listener for servers or gateways of the operator's own.
Result<std::shared_ptr<TlsServer>> Guard::LoadNamed(const CertificateListener& listener,
                                                    const std::string& ca,
                                                    const std::set<std::string>& names,
                                                    const std::string& where, const char* whom) {
  identity::AuthorityFiles files;
  files.anchors.push_back({ca, "", false});
  auto authorities = identity::Authorities::Load(files);
  if (!authorities)
    return tl::unexpected(At(authorities.error(), fmt::format("{}.{}.ca", where, whom)));
  // They are known by name, whatever their CA says of lists.
  identity::CertificateProfile profile;
  profile.distribution_point_required = false;
  auto verifier = identity::CertificateVerifier::Create(*std::move(authorities), profile);
  if (!verifier) return tl::unexpected(At(verifier.error(), where));
  auto check = NamedCheck(std::make_shared<identity::CertificateVerifier>(*std::move(verifier)),
                          revocations_, names);
  return TlsServer::ForCertificates(listener.tls, std::move(check), where);
}

// The listener and what lies behind it.
Result<void> Guard::LoadEgress(const GuardConfig& config, size_t index, Loaded& loaded) {
  const EgressSetting& setting = config.egress[index];
  const auto where = fmt::format("egress[{}]", index);
  auto profile = SharedProfile(setting.profile);
  if (!profile) return tl::unexpected(profile.error());
  const std::set<std::string> names(setting.servers.begin(), setting.servers.end());
  auto tls = LoadNamed(setting.listener, setting.server_ca, names, where, "servers");
  if (!tls) return tl::unexpected(tls.error());
  loaded.tls.push_back(*std::move(tls));
  auto callees = Callees::Create(io_.get_executor(), context_, setting.peers, config.profile,
                                 where + ".peers");
  if (!callees) return tl::unexpected(callees.error());
  loaded.egress.push_back({setting.interface, *std::move(profile), names, *std::move(callees)});
  return {};
}

Result<void> Guard::LoadDecisions(const DecisionSetting& setting, const VerifyPeer& verify,
                                  const std::string& where, Loaded& loaded) {
  auto profile = SharedProfile(setting.profile);
  if (!profile) return tl::unexpected(profile.error());
  DecisionInterface interface;
  interface.asked = {setting.interface, setting.root, *std::move(profile), nullptr};
  interface.protocol = setting.protocol;
  interface.verify = verify;
  interface.authorities = loaded.authorities;
  interface.gateways = {setting.gateways.begin(), setting.gateways.end()};
  for (const auto& [uid, name] : setting.users) interface.gateways.insert(name);
  if (setting.socket.empty()) {
    auto tls =
        LoadNamed(setting.listener, setting.gateway_ca, interface.gateways, where, "gateways");
    if (!tls) return tl::unexpected(tls.error());
    loaded.tls.push_back(*std::move(tls));
  }
  loaded.decisions.push_back(std::move(interface));
  return {};
}

Result<RequestInterface> Guard::LoadInterface(const RequestSetting& setting,
                                              const std::string& where) {
  auto profile = SharedProfile(setting.profile);
  if (!profile) return tl::unexpected(profile.error());
  auto server = Upstream::Create(io_.get_executor(), setting.server, where + ".server");
  if (!server) return tl::unexpected(server.error());
  RequestInterface made{setting.interface, setting.root, *std::move(profile), *std::move(server),
                        setting.url};
  if (!setting.exchange) return made;
  auto exchanger = identity::TokenExchanger::Create(io_.get_executor(), *setting.exchange,
                                                    where + ".server.exchange");
  if (!exchanger) return tl::unexpected(exchanger.error());
  made.exchanger = *std::move(exchanger);
  return made;
}

// Made anew by a reload, for the files behind it may be others; what is cached goes with the old
// ones, which live until nobody waits for them.
Result<Introspectors> Guard::MakeIntrospectors(const GuardConfig& config) {
  Introspectors all;
  for (const auto& one : config.introspections) {
    auto made = identity::Introspector::Create(io_.get_executor(), one, denied_,
                                               "introspection of " + one.claims.issuer);
    if (!made) return tl::unexpected(made.error());
    const auto shared = std::make_shared<identity::Introspector>(*std::move(made));
    for (const auto& [interface, audience] : one.claims.audiences) all.emplace(interface, shared);
  }
  return all;
}

Result<void> Guard::UseIssuers(const GuardConfig& config) {
  auto introspectors = MakeIntrospectors(config);
  if (!introspectors) return tl::unexpected(introspectors.error());
  auto issuers = background_.FollowIssuers(config.issuers);
  if (!issuers) return tl::unexpected(issuers.error());
  review_.Use(*issuers);
  context_.tokens = std::make_shared<const identity::TokenVerifier>(*std::move(issuers), denied_);
  context_.introspectors = *std::move(introspectors);
  return {};
}

Result<void> Guard::Listen(const Loaded& loaded) {
  size_t next = 0;
  const auto listen = [&](const ListenerSettings& at, ConnectionHandler serve,
                          const std::string& where) -> Result<void> {
    auto listener = Listener::Listen(
        io_.get_executor(), at, loaded.tls[next++], std::move(serve), refusals_.counters(),
        [this](const identity::Refusal& refusal, const auto& from) {
          refusals_.NoteCounted(refusal, {from});
        },
        where);
    if (!listener) return tl::unexpected(listener.error());
    listeners_.push_back(*std::move(listener));
    return {};
  };
  const auto sessions = [&](const ListenerSettings& at, const std::string& url) {
    return ServeSessions(context_, {url, at.limits, ServiceSettings().confirm_time});
  };
  for (size_t i = 0; i < config_.certificate_listeners.size(); ++i) {
    const auto& at = config_.certificate_listeners[i].at;
    const auto where = fmt::format("listeners.certificate[{}]", i);
    if (auto r = listen(at, sessions(at, ""), where); !r) return r;
  }
  for (size_t i = 0; i < config_.psk_listeners.size(); ++i) {
    const auto& one = config_.psk_listeners[i];
    const auto where = fmt::format("listeners.psk[{}]", i);
    if (auto r = listen(one.at, sessions(one.at, one.url), where); !r) return r;
  }
  for (size_t i = 0; i < config_.requests.size(); ++i) {
    const auto& at = config_.requests[i].at();
    interfaces_.push_back(std::make_shared<RequestInterface>(loaded.interfaces[i]));
    auto serve = ServeRequests(requests_, interfaces_.back(), at.limits);
    if (auto r = listen(at, std::move(serve), fmt::format("requests[{}]", i)); !r) return r;
  }
  for (size_t i = 0; i < config_.egress.size(); ++i) {
    const auto& at = config_.egress[i].listener.at;
    egress_.push_back(std::make_shared<EgressInterface>(loaded.egress[i]));
    auto serve = ServeEgress(requests_, egress_.back(), at.limits);
    if (auto r = listen(at, std::move(serve), fmt::format("egress[{}]", i)); !r) return r;
  }
  for (size_t i = 0; i < config_.decisions.size(); ++i) {
    const DecisionSetting& one = config_.decisions[i];
    decisions_.push_back(std::make_shared<DecisionInterface>(loaded.decisions[i]));
    if (!one.socket.empty()) {
      if (auto r = ListenLocally(i); !r) return r;
      continue;
    }
    const auto& at = one.listener.at;
    auto serve = ServeGatewaysByTls(requests_, decisions_.back(), at.limits);
    if (auto r = listen(at, std::move(serve), fmt::format("decisions[{}]", i)); !r) return r;
  }
  return {};
}

Result<void> Guard::ListenLocally(size_t index) {
  const DecisionSetting& one = config_.decisions[index];
  const auto& limits = one.listener.at.limits;
  auto serve = ServeGateways(requests_, decisions_[index], limits);
  auto socket =
      DecisionSocket::Listen(io_.get_executor(), {one.socket, one.users, limits}, std::move(serve),
                             refusals_, fmt::format("decisions[{}].socket", index));
  if (!socket) return tl::unexpected(socket.error());
  sockets_.push_back(*std::move(socket));
  return {};
}

void Guard::Start() {
  asio::co_spawn(io_, control_.Run(), Rethrow);
  asio::co_spawn(io_, review_.Run(), Rethrow);
  if (!interfaces_.empty() || !egress_.empty() || !decisions_.empty()) {
    asio::co_spawn(io_, permits_.Run(), Rethrow);
    asio::co_spawn(io_, outcomes_.Run(), Rethrow);
    asio::co_spawn(io_, carried_.Run(), Rethrow);
  }
  for (Listener& listener : listeners_) asio::co_spawn(io_, listener.Run(), Rethrow);
  for (DecisionSocket& socket : sockets_) asio::co_spawn(io_, socket.Run(), Rethrow);
  asio::co_spawn(io_, KeepReporting(), Rethrow);
}

void Guard::Stop() {
  for (Listener& listener : listeners_) listener.Stop();
  for (DecisionSocket& socket : sockets_) socket.Stop();
  review_.Stop();
  permits_.Stop();
  carried_.Stop();
  stopping_ = true;
  until_report_.cancel();
  asio::co_spawn(io_, Farewell(), Rethrow);
}

// What servers were asked to change still comes to control's books.
asio::awaitable<void> Guard::Farewell() {
  asio::steady_timer pause(io_);
  const auto end = std::chrono::steady_clock::now() + kFarewellTime;
  while (!outcomes_.idle() && control_.ready() && std::chrono::steady_clock::now() < end) {
    pause.expires_after(kFarewellPause);
    co_await pause.async_wait(kAwait);
  }
  outcomes_.Stop();
  control_.Stop();
}

Result<void> Guard::Reload(GuardConfig config) {
  if (!SamePlaces(config_, config)) {
    return Fail(ErrorKind::kConflict,
                "listeners or control's socket are others now, which needs a restart");
  }
  const auto loaded = Load(config);
  if (!loaded) return tl::unexpected(loaded.error());
  if (auto used = UseIssuers(config); !used) return used;
  for (size_t i = 0; i < listeners_.size(); ++i) {
    if (auto replaced = listeners_[i].Replace(loaded->tls[i]); !replaced) return replaced;
  }
  for (size_t i = 0; i < interfaces_.size(); ++i) *interfaces_[i] = loaded->interfaces[i];
  for (size_t i = 0; i < egress_.size(); ++i) *egress_[i] = loaded->egress[i];
  for (size_t i = 0; i < decisions_.size(); ++i) *decisions_[i] = loaded->decisions[i];
  context_.gate_identity = config.identity;
  context_.interfaces = config.interfaces;
  background_.FollowLists(config.crls, loaded->authorities);
  authorities_ = loaded->authorities;
  config_ = std::move(config);
  return {};
}

std::vector<uint16_t> Guard::ports() const {
  std::vector<uint16_t> out;
  for (const Listener& listener : listeners_) out.push_back(listener.port());
  return out;
}

}  // namespace portcullis::guard
