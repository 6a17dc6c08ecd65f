// The peer's end of TLS against the guard's own listener, and against servers that are none.
#include "control/peer/gate_connection.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "control/guard/session/test_gate.hpp"

namespace portcullis::peer {
namespace {

using guard::TestGate;
using guard::TlsServer;
using identity::PeerRole;
using identity::PskHash;
using identity::PskStore;
using identity::PskUse;
using identity::Reason;
using identity::TlsVersion;

constexpr const char* kKey = "00112233445566778899aabbccddeeff";
constexpr const char* kOtherKey = "ff112233445566778899aabbccddeeff";

Result<std::unique_ptr<GateConnection>> Open(uint16_t port, std::shared_ptr<const TlsClient> tls) {
  boost::asio::io_context io(1);
  const std::string url = fmt::format("https://127.0.0.1:{}", port);
  GateAddress gate{url, *identity::ParseWebAddress(url, ""), {}};
  auto opened = boost::asio::co_spawn(
      io, GateConnection::Open(io.get_executor(), std::move(gate), std::move(tls), guard::kLongest),
      boost::asio::use_future);
  // The deadline of a connection that is open is still to come.
  while (opened.wait_for(std::chrono::seconds(0)) != std::future_status::ready) io.run_one();
  auto connection = opened.get();
  if (!connection) return tl::unexpected(connection.error());
  // It must not outlive the context: what is asked is asked here.
  EXPECT_EQ((*connection)->remote().Text(), "127.0.0.1");
  const bool psk = (*connection)->gate().mode == guard::Mode::psk;
  EXPECT_EQ((*connection)->gate().certificate.names.empty(), psk);
  connection->reset();
  return connection;
}

void ExpectRefused(const Result<std::unique_ptr<GateConnection>>& opened, const char* said) {
  ASSERT_FALSE(opened) << said;
  EXPECT_EQ(opened.error().kind, ErrorKind::kForbidden);
  EXPECT_NE(opened.error().Text().find(said), std::string::npos) << opened.error().Text();
}

// ---- pre-shared keys

class PskTest : public testing::Test {
 protected:
  std::shared_ptr<const PskStore> Store(PskUse use, PeerRole peer, const char* key,
                                        const char* identity) const {
    use.peer = peer;
    auto store = PskStore::Load({{identity, "p", use, folder_.Write("psk", key)}}, "psk");
    EXPECT_TRUE(store) << store.error().Text();
    return std::make_shared<const PskStore>(*std::move(store));
  }
  std::shared_ptr<const TlsServer> Server(PskUse use) const {
    return *TlsServer::ForPsk({use.hash, true}, Store(use, PeerRole::client, kKey, "k-7f"));
  }
  std::shared_ptr<const TlsClient> Client(PskUse use, const char* key = kKey,
                                          const char* identity = "k-7f") const {
    auto store = Store(use, PeerRole::server, key, identity);
    use.peer = PeerRole::server;
    return TlsClient::ForPsk(std::move(store), identity, use);
  }

  guard::TestFolder folder_;
};

TEST_F(PskTest, EachVersionAndHash) {
  for (const auto version : {TlsVersion::v1_3, TlsVersion::v1_2}) {
    for (const auto hash : {PskHash::sha256, PskHash::sha384}) {
      const PskUse use{PeerRole::client, version, hash};
      const TestGate gate(Server(use));
      const auto opened = Open(gate.port(), Client(use));
      EXPECT_TRUE(opened) << opened.error().Text();
    }
  }
}

TEST_F(PskTest, AnotherKeyIdentityOrHash) {
  const PskUse use{PeerRole::client, TlsVersion::v1_3, PskHash::sha256};
  const TestGate gate(Server(use));
  ExpectRefused(Open(gate.port(), Client(use, kOtherKey)), "TLS handshake");
  ExpectRefused(Open(gate.port(), Client(use, kKey, "k-80")), "TLS handshake");
  PskUse other = use;
  other.hash = PskHash::sha384;
  ExpectRefused(Open(gate.port(), Client(other)), "TLS handshake");
  EXPECT_TRUE(Open(gate.port(), Client(use)));
}

// ---- certificates

class CertificateTest : public testing::Test {
 protected:
  identity::OwnCertificate Files(const std::string& name, const guard::Credential& credential) {
    return {folder_.Write(name + ".pem", PemOf(credential, false)),
            folder_.Write(name + ".key", PemOf(credential, true))};
  }
  // What the verifier says is its own tests' matter: here, that its word counts.
  std::shared_ptr<const TlsClient> Client(bool believes, bool tls_1_2 = false) {
    auto client = TlsClient::ForCertificates(
        peer_, tls_1_2,
        [believes](X509* leaf, STACK_OF(X509)*)
            -> tl::expected<identity::CertificateIdentity, identity::Refusal> {
          if (!believes || leaf == nullptr) {
            return tl::unexpected(identity::Refusal{Reason::cert_revoked, "that one"});
          }
          return identity::Read(leaf, {{identity::NameKind::dns, "gate.example"}});
        },
        "certificate");
    EXPECT_TRUE(client) << client.error().Text();
    return *client;
  }
  std::shared_ptr<const TlsServer> Server() {
    auto server = TlsServer::ForCertificates(
        {{gate_}, true},
        [](X509*, STACK_OF(X509)*) { return tl::expected<void, identity::Refusal>{}; }, "listener");
    EXPECT_TRUE(server) << server.error().Text();
    return *server;
  }

  guard::TestFolder folder_;
  guard::Credential ca_ = guard::Issue("ca", guard::MakeEcKey(), nullptr);
  identity::OwnCertificate gate_ = Files("gate", guard::Issue("gate", guard::MakeEcKey(), &ca_));
  identity::OwnCertificate peer_ = Files("peer", guard::Issue("peer", guard::MakeEcKey(), &ca_));
};

TEST_F(CertificateTest, TheVerifiersWordCounts) {
  TestGate gate(Server());
  const auto opened = Open(gate.port(), Client(true));
  EXPECT_TRUE(opened) << opened.error().Text();
  EXPECT_EQ(gate.TakeAuthenticated().tls_version, TLS1_3_VERSION);
  ExpectRefused(Open(gate.port(), Client(false)), "cert_revoked: that one");
}

TEST_F(CertificateTest, AGateWithoutACertificateIsNone) {
  const guard::TestFolder folder;
  auto keys = PskStore::Load({{"k", "p", {}, folder.Write("psk", kKey)}}, "psk");
  const TestGate gate(*TlsServer::ForPsk({PskHash::sha256, true},
                                         std::make_shared<const PskStore>(*std::move(keys))));
  ExpectRefused(Open(gate.port(), Client(true)), "TLS handshake");
}

// One handshake of a server with a single version of TLS.
class OldServer {
 public:
  OldServer(const identity::OwnCertificate& own, int version)
      : context_(SSL_CTX_new(TLS_server_method())), fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    SSL_CTX_set_min_proto_version(context_.get(), version);
    SSL_CTX_set_max_proto_version(context_.get(), version);
    SSL_CTX_use_certificate_chain_file(context_.get(), own.chain.c_str());
    SSL_CTX_use_PrivateKey_file(context_.get(), own.key.c_str(), SSL_FILETYPE_PEM);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(at);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(listen(fd_, 1), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] {
      const int connection = accept(fd_, nullptr, nullptr);
      const guard::SslPtr ssl(SSL_new(context_.get()));
      SSL_set_fd(ssl.get(), connection);
      SSL_accept(ssl.get());
      close(connection);
    });
  }
  ~OldServer() {
    thread_.join();
    close(fd_);
  }
  OldServer(const OldServer&) = delete;
  OldServer& operator=(const OldServer&) = delete;
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  guard::CtxPtr context_;
  int fd_;
  uint16_t port_ = 0;
  std::thread thread_;
};

TEST_F(CertificateTest, Tls12OnlyWhereItIsConfigured) {
  {
    const OldServer server(gate_, TLS1_2_VERSION);
    ExpectRefused(Open(server.port(), Client(true)), "tls_version_denied");
  }
  const OldServer server(gate_, TLS1_2_VERSION);
  const auto opened = Open(server.port(), Client(true, true));
  EXPECT_TRUE(opened) << opened.error().Text();
}

TEST_F(CertificateTest, NobodyThere) {
  uint16_t port = 0;
  {
    const OldServer server(gate_, TLS1_3_VERSION);
    port = server.port();
    EXPECT_TRUE(Open(port, Client(true)));
  }
  const auto opened = Open(port, Client(true));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kUnavailable);
}

TEST_F(CertificateTest, FilesThatCannotBeUsed) {
  const auto verify =
      [](X509*, STACK_OF(X509)*) -> tl::expected<identity::CertificateIdentity, identity::Refusal> {
    return identity::CertificateIdentity{};
  };
  const auto with = [&](const identity::OwnCertificate& own) {
    return TlsClient::ForCertificates(own, false, verify, "certificate");
  };
  EXPECT_TRUE(with(peer_));
  const auto mixed = with({peer_.chain, gate_.key});
  ASSERT_FALSE(mixed);
  EXPECT_EQ(mixed.error().where, "certificate/key");
  EXPECT_FALSE(with({"/nowhere", peer_.key}));
  EXPECT_EQ(chmod(peer_.key.c_str(), 0604), 0);
  EXPECT_FALSE(with(peer_));
}

}  // namespace
}  // namespace portcullis::peer
