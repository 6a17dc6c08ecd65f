// The session interface as a peer meets it: real listeners, sockets, certificates, keys and tokens;
// only control is a stand-in, at the other end of its real socket.
#pragma once

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "control/guard/session/peer_certificate.hpp"
#include "control/guard/session/service.hpp"
#include "control/guard/session/test_gate.hpp"
#include "control/guard/test_control.hpp"
#include "control/identity/test_pki.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::guard {

using identity::Reason;
using nlohmann::json;
namespace pki = identity::test;

inline constexpr const char* kGateName = "gate.example";
inline constexpr const char* kOtherInterface = "scef";
inline constexpr const char* kOtherAudience = "https://gate.operator.example/scef";
inline constexpr const char* kUrl = "https://gate.example:4434";
inline constexpr const char* kPskIdentity = "k-7f";

inline std::string DerOf(X509* certificate) {
  unsigned char* bytes = nullptr;
  const int size = i2d_X509(certificate, &bytes);
  std::string der(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

struct Reply {          // NOLINT(bugprone-exception-escape): a test's, which may end
  unsigned status = 0;  // 0: none
  std::multimap<std::string, std::string> headers;
  json body;
  [[nodiscard]] std::string Header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

using Headers = std::vector<std::pair<std::string, std::string>>;

inline bool Write(Client& client, const std::string& text) {
  ERR_clear_error();
  return SSL_write(client.ssl(), text.data(), static_cast<int>(text.size())) ==
         static_cast<int>(text.size());
}

inline Reply ReadReply(Client& client) {
  namespace http = boost::beast::http;
  http::response_parser<http::string_body> parser;
  parser.eager(true);  // the body as well
  std::string pending;
  boost::system::error_code error;
  while (!parser.is_done()) {
    std::array<char, 4096> bytes{};
    const int got = SSL_read(client.ssl(), bytes.data(), static_cast<int>(bytes.size()));
    if (got <= 0) return {};
    pending.append(bytes.data(), static_cast<size_t>(got));
    pending.erase(0, parser.put(boost::asio::buffer(pending), error));
    if (error == http::error::need_more) error = {};
    if (error) return {};
  }
  Reply reply;
  reply.status = parser.get().result_int();
  for (const auto& field : parser.get()) {
    reply.headers.emplace(std::string(field.name_string()), std::string(field.value()));
  }
  if (!parser.get().body().empty()) reply.body = json::parse(parser.get().body());
  return reply;
}

inline Reply Ask(Client& client, const std::string& method, const std::string& target,
                 const Headers& headers, const std::string& body = "") {
  namespace http = boost::beast::http;
  http::request<http::string_body> request;
  request.method_string(method);
  request.target(target);
  request.version(11);
  request.set(http::field::host, kGateName);
  for (const auto& [name, value] : headers) request.insert(name, value);
  request.body() = body;
  request.prepare_payload();
  std::ostringstream text;
  text << request;
  return Write(client, text.str()) ? ReadReply(client) : Reply{};
}

/// True once the gate has closed the connection; what it still says is ignored.
inline bool Closed(Client& client) {
  std::array<char, 4096> away{};
  while (SSL_read(client.ssl(), away.data(), static_cast<int>(away.size())) > 0) {
  }
  return true;  // else the socket's own time-out would have ended the test
}

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() : ServiceTest(std::chrono::seconds(30)) {}
  explicit ServiceTest(std::chrono::milliseconds confirm_time) : confirm_time_(confirm_time) {
    log_ = std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text_);
    spdlog::default_logger()->sinks().push_back(log_);
    issuer_->Replace(
        *identity::KeySet::Parse(json({{"keys", {pki::With(as_key_.Jwk(), "es256-1")}}}).dump(),
                                 issuer_->config().algorithms),
        identity::Moment::Now());
    context_.tokens = std::make_shared<identity::TokenVerifier>(
        std::vector<std::shared_ptr<const identity::Issuer>>{issuer_}, denied_);
    control_.OnRequest([this](const auto& request) { return Decide(request); });
    boost::asio::co_spawn(io_, link_.Run(), boost::asio::detached);
    for (Listener* listener : {&by_certificate_, &by_psk_}) {
      boost::asio::co_spawn(io_, listener->Run(), boost::asio::detached);
    }
    thread_ = std::thread([this] { io_.run(); });
    WaitForControl(true);
  }

  ~ServiceTest() override {  // NOLINT(bugprone-exception-escape)
    End();
    auto& sinks = spdlog::default_logger()->sinks();
    sinks.erase(std::remove(sinks.begin(), sinks.end(), log_), sinks.end());
    for (const auto& secret : secrets_) {
      EXPECT_EQ(log_text_.str().find(secret), std::string::npos) << "a secret is in the log";
    }
  }

  /// What ends something on the guard's thread, in End().
  void AtEnd(std::function<void()> stop) { stops_.push_back(std::move(stop)); }
  /// Ends all that runs there, and the thread. Each destructor begins with it: no member may go
  /// before what uses it.
  void End() {
    if (!thread_.joinable()) return;
    boost::asio::post(io_, [this] {
      for (const auto& stop : stops_) stop();
      by_certificate_.Stop();
      by_psk_.Stop();
      link_.Stop();
    });
    thread_.join();
    control_.OnRequest(TestControl::Agree);  // what answered refers to a test that ends
  }

  /// Runs `ask` on the guard's thread.
  template <class Ask>
  auto On(Ask ask) {
    std::promise<decltype(ask())> answer;
    boost::asio::post(io_, [&] { answer.set_value(ask()); });
    return answer.get_future().get();
  }

  // ---- control

  /// As control would: admits everybody. Runs on the stand-in's thread.
  std::optional<admission::Response> Decide(const admission::Request& request) {
    const std::lock_guard lock(deciding_);
    auto response = TestControl::Agree(request);
    if (refusals_.contains(request.kind_case())) {
      *response->mutable_refusal() = refusals_.at(request.kind_case());
    } else if (request.has_admit()) {
      admission::Admitted& admitted = *response->mutable_admitted();
      admitted.set_session(request.admit().session().empty() ? "s-1" : request.admit().session());
      admitted.set_generation(++generation_);
      admitted.set_peer("csmf-1");
      admitted.set_gate_spi(0x10000000 + static_cast<uint32_t>(generation_));
      admitted.set_algorithm(request.admit().algorithms(0));
      admitted.set_esn(true);
      admitted.set_replay_window(1024);
      admitted.set_seconds(900);
      auto& selector = *admitted.add_selectors();
      selector.mutable_gate()->set_address(std::string("\xc0\x00\x02\x00", 4));
      selector.mutable_gate()->set_length(24);
      selector.mutable_peer()->set_address(std::string("\xc6\x33\x64\x07", 4));
      selector.mutable_peer()->set_length(32);
      selector.set_protocol(6);
      selector.mutable_gate_ports()->set_first(443);
      selector.mutable_gate_ports()->set_last(443);
    }
    return response;
  }
  /// From now on control refuses requests of this kind.
  static constexpr const char* kReference = "00c0ffee00c0ffee";
  void Refuse(admission::Request::KindCase kind, const std::string& reason) {
    const std::lock_guard lock(deciding_);
    refusals_[kind].set_reason(reason);
    refusals_[kind].set_detail("control's own words");
    refusals_[kind].set_reference(kReference);
  }
  void Relent() {
    const std::lock_guard lock(deciding_);
    refusals_.clear();
  }
  void WaitForControl(bool there) {
    const auto end = std::chrono::steady_clock::now() + kLongest;
    while (On([&] { return link_.ready(); }) != there) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "control's state did not change";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  std::vector<admission::Request> Asked(admission::Request::KindCase kind) {
    auto all = control_.asked();
    std::erase_if(all, [&](const auto& request) { return request.kind_case() != kind; });
    return all;
  }

  // ---- peers

  uint64_t Refused(Reason reason) {
    return On([&] { return notes_.counters().Of(reason); });
  }

  std::unique_ptr<Client> Connected(const pki::Issued& who) {
    const CtxPtr context = AnyClient(TLS1_3_VERSION, TLS1_3_VERSION);
    SSL_CTX_use_certificate(context.get(), who.certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), who.key.get());
    auto client = std::make_unique<Client>(by_certificate_.port(), context.get());
    EXPECT_TRUE(client->Connect()) << ErrorsOfClient();
    return client;
  }

  static int64_t Now() {
    return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  }
  /// Sound, bound to `binding` ("x5t#S256" or "jkt" and its value), but for what `change` says.
  std::string Token(const json& binding, const json& change = json::object()) {
    json claims = pki::Claims();
    claims.update({{"iat", Now() - 60}, {"nbf", Now() - 60}, {"exp", Now() + 840}});
    claims["cnf"] = binding;
    claims.update(change);
    for (const auto& [name, value] : change.items()) {
      if (value.is_null()) claims.erase(name);
    }
    secrets_.push_back(
        as_key_.Jws(identity::Algorithm::es256, pki::Header().dump(), claims.dump()));
    return secrets_.back();
  }
  static json BoundTo(const pki::Issued& who) {
    return {
        {"x5t#S256", identity::EncodeBase64Url(identity::DigestOf(DerOf(who.certificate.get())))}};
  }
  Headers Bearer(const pki::Issued& who, const json& change = json::object()) {
    return {{"Authorization", "Bearer " + Token(BoundTo(who), change)}};
  }

  static json Body() {
    return {{"interface", pki::kInterface},
            {"spi", 0x20000001},
            {"algorithms", {"aes-256-gcm-16", "aes-128-gcm-16"}},
            {"nonce", identity::EncodeBase64Url(std::vector<uint8_t>(kNonceBytes, 7))}};
  }

  /// What the peer at `client` agreed to with this answer.
  static KeyContext ContextOf(Client& client, Mode mode, const json& body, const json& answer) {
    KeyContext context;
    context.tls_version = static_cast<uint16_t>(SSL_version(client.ssl()));
    context.mode = mode;
    context.gate_identity = answer.at("gate_identity");
    context.peer_identity = answer.at("peer_identity");
    context.interface = answer.at("interface");
    context.session_id = answer.at("session");
    context.generation = answer.at("generation");
    context.to_gate = Spi{answer.at("spi").get<uint32_t>()};
    context.to_peer = Spi{body.at("spi").get<uint32_t>()};
    context.algorithm = answer.at("algorithm") == "aes-256-gcm-16" ? Algorithm::aes_256_gcm_16
                                                                   : Algorithm::aes_128_gcm_16;
    context.esn = answer.at("esn");
    for (const auto& selector : answer.at("selectors")) {
      context.selectors.push_back({*Prefix::Parse(selector.at("gate").get<std::string>()),
                                   *Prefix::Parse(selector.at("peer").get<std::string>()),
                                   selector.at("protocol"),
                                   {selector.at("gate_ports")[0], selector.at("gate_ports")[1]},
                                   {selector.at("peer_ports")[0], selector.at("peer_ports")[1]}});
    }
    const auto nonce = [](const json& from, auto& to) {
      const auto bytes = identity::DecodeBase64Url(from.at("nonce").get<std::string>());
      ASSERT_TRUE(bytes && bytes->size() == to.size());
      std::copy(bytes->begin(), bytes->end(), to.begin());
    };
    nonce(answer, context.gate_nonce);
    nonce(body, context.peer_nonce);
    return context;
  }

  /// The keys that the peer derives are those that control was given.
  void ExpectSameKeys(Client& client, Mode mode, const json& body, const json& answer) {
    const KeyContext context = ContextOf(client, mode, body, answer);
    const auto master = MasterKey::Export(client.ssl(), context);
    ASSERT_TRUE(master) << master.error().Text();
    const auto to_gate = master->Expand(Direction::inbound, context.to_gate, context.algorithm);
    const auto to_peer = master->Expand(Direction::outbound, context.to_peer, context.algorithm);
    const auto text = [](const auto& secret) {
      return std::string(secret->bytes().begin(), secret->bytes().end());
    };
    const auto installs = Asked(admission::Request::kInstall);
    ASSERT_FALSE(installs.empty());
    const admission::Install& install = installs.back().install();
    EXPECT_EQ(install.session(), context.session_id);
    EXPECT_EQ(install.generation(), context.generation);
    EXPECT_EQ(install.inbound_key(), text(to_gate));
    EXPECT_EQ(install.outbound_key(), text(to_peer));
    EXPECT_NE(install.inbound_key(), install.outbound_key());
    EXPECT_EQ(install.inbound_key().size(), Info(context.algorithm).key_bytes);
    secrets_.push_back(install.inbound_key());
    secrets_.push_back(install.outbound_key());
  }

  /// Another one for certificates, that serves what `make(limits)` handles, at a device of its own.
  template <class MakeHandler>
  Listener ListenFor(const MakeHandler& make, const std::string& device = {}) {
    return Listen(CertificateServer(), make, device);
  }
  template <class MakeHandler>
  Listener ListenByKeyFor(const MakeHandler& make) {
    return Listen(PskServer(), make);
  }

  // ---- what there is

  std::chrono::milliseconds confirm_time_;
  TestFolder folder_;
  std::vector<std::function<void()>> stops_;
  std::ostringstream log_text_;
  std::shared_ptr<spdlog::sinks::ostream_sink_mt> log_;
  std::vector<std::string> secrets_;  // that no log may show

  pki::Issued ca_ = pki::Issue(pki::CaSpec("ca"));
  pki::Issued peer_ = pki::Issue(pki::ClientSpec("csmf-1.tenant-a.example"), &ca_);
  pki::Issued other_ = pki::Issue(pki::ClientSpec("csmf-2.tenant-a.example"), &ca_);
  pki::TestKey as_key_ = pki::TestKey::Ec();
  std::shared_ptr<identity::Issuer> issuer_ = MakeIssuer();
  identity::DenyList denied_;
  identity::Revocations revocations_{std::chrono::seconds(0)};
  identity::ReplayCache proofs_{1000, identity::ProofRules().Life()};

  std::mutex deciding_;  // guards the next two
  std::map<admission::Request::KindCase, admission::Refusal> refusals_;
  uint64_t generation_ = 0;
  std::string socket_ = folder_.Write("place", "") + ".sock";
  TestControl control_{socket_};

  boost::asio::io_context io_{1};
  ControlLink link_{io_.get_executor(), socket_, getuid()};
  Refusals notes_{link_};
  SessionContext context_{
      link_, revocations_, proofs_, notes_, kGateName, {kOtherInterface, pki::kInterface}, nullptr};
  Listener by_certificate_ = Listen(CertificateServer());
  Listener by_psk_ = Listen(PskServer());
  std::thread thread_;

 private:
  static std::shared_ptr<identity::Issuer> MakeIssuer() {
    auto config = pki::Config();
    config.claims.audiences[kOtherInterface] = kOtherAudience;
    return std::make_shared<identity::Issuer>(config);
  }

  template <class T>
  static T Sound(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().Text());
    return *std::move(result);
  }

  std::shared_ptr<TlsServer> CertificateServer() {
    const auto gate = pki::Issue(pki::ServerSpec(kGateName), &ca_);
    const identity::AnchorFile anchor{folder_.Write("ca.pem", pki::Pem(ca_.certificate.get())), "",
                                      false};
    auto verifier =
        std::make_shared<identity::CertificateVerifier>(Sound(identity::CertificateVerifier::Create(
            Sound(identity::Authorities::Load({{anchor}, {}})), {})));
    const CertificateProfile profile{{{folder_.Write("gate.pem", pki::Pem(gate.certificate.get())),
                                       folder_.Write("gate.key", pki::Pem(gate.key.get()))}},
                                     false};
    return Sound(
        TlsServer::ForCertificates(profile, CertificateCheck(verifier, revocations_), "/tls"));
  }

  std::shared_ptr<TlsServer> PskServer() {
    const std::string key = fmt::format("{:064x}", 7);
    secrets_.push_back(key);
    auto keys = Sound(identity::PskStore::Load(
        {{kPskIdentity, "gateway-7", {}, folder_.Write("psk", key)}}, "/keys"));
    return Sound(
        TlsServer::ForPsk({}, std::make_shared<const identity::PskStore>(std::move(keys))));
  }

  Listener Listen(const std::shared_ptr<TlsServer>& tls) {
    const bool psk = tls->mode() == Mode::psk;
    return Listen(tls, [&](const ListenerLimits& limits) {
      return ServeSessions(context_, {psk ? kUrl : "", limits, confirm_time_});
    });
  }
  template <class MakeHandler>
  Listener Listen(const std::shared_ptr<TlsServer>& tls, const MakeHandler& make,
                  const std::string& device = {}) {
    ListenerLimits limits;
    limits.handshake_time = limits.request_time = kLongest;
    return Sound(Listener::Listen(
        io_.get_executor(), {"127.0.0.1", 0, limits, device}, tls, make(limits), notes_.counters(),
        [this](const identity::Refusal& refusal, const auto& from) {
          notes_.NoteCounted(refusal, {from});
        },
        "/test"));
  }
};

}  // namespace portcullis::guard
