// The listener for pre-shared keys, with real handshakes over loopback.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "control/guard/session/test_gate.hpp"

namespace portcullis::guard {
namespace {

using identity::PeerRole;
using identity::PskHash;
using identity::PskSetting;
using identity::PskStore;
using identity::PskUse;
using identity::Reason;
using identity::TlsVersion;

constexpr PskUse kTls13{PeerRole::client, TlsVersion::v1_3, PskHash::sha256};
constexpr PskUse kTls12{PeerRole::client, TlsVersion::v1_2, PskHash::sha256};
constexpr PskUse kTls13Sha384{PeerRole::client, TlsVersion::v1_3, PskHash::sha384};
constexpr PskUse kTls12Sha384{PeerRole::client, TlsVersion::v1_2, PskHash::sha384};
constexpr PskUse kServerRole{PeerRole::server, TlsVersion::v1_3, PskHash::sha256};

// A different key for each number.
std::string HexKey(int number) {
  return fmt::format("{:064x}", number);
}

std::shared_ptr<const PskStore> StoreOf(const std::vector<std::pair<std::string, PskUse>>& keys) {
  const TestFolder folder;
  std::vector<PskSetting> settings;
  for (const auto& [identity, use] : keys) {
    const int number = static_cast<int>(settings.size()) + 1;
    settings.push_back(
        {identity, "peer of " + identity, use, folder.Write(identity, HexKey(number))});
  }
  auto store = PskStore::Load(settings, "/psk");
  if (!store) throw std::runtime_error(store.error().Text());
  return std::make_shared<const PskStore>(std::move(*store));
}

// In this order the keys have the numbers 1, 2 …
std::shared_ptr<const PskStore> AllKeys() {
  return StoreOf({{"k13", kTls13},
                  {"k12", kTls12},
                  {"k13-384", kTls13Sha384},
                  {"k12-384", kTls12Sha384},
                  {"server", kServerRole}});
}

std::shared_ptr<TlsServer> MakeServer(std::shared_ptr<const PskStore> keys,
                                      PskHash hash = PskHash::sha256, bool tls_1_2 = true) {
  auto server = TlsServer::ForPsk({hash, tls_1_2}, std::move(keys));
  if (!server) throw std::runtime_error(server.error().Text());
  return *server;
}

// A client with one key, for either version.
struct PskClient {
  std::string identity;
  std::vector<uint8_t> key;
  std::array<uint8_t, 2> suite{0x13, 0x01};  // of the key's hash, for TLS 1.3
  uint32_t early_bytes = 0;
  CtxPtr context;

  PskClient(std::string name, int number, int version)
      : identity(std::move(name)), key(32), context(AnyClient(version, version)) {
    key.back() = static_cast<uint8_t>(number);
    SSL_CTX_set_app_data(context.get(), this);
    SSL_CTX_set_cipher_list(context.get(), "PSK");
    if (version == TLS1_3_VERSION) {
      SSL_CTX_set_psk_use_session_callback(context.get(), Session);
    } else {
      SSL_CTX_set_psk_client_callback(context.get(), Key);
    }
  }
  PskClient(const PskClient&) = delete;
  PskClient& operator=(const PskClient&) = delete;

 private:
  static const PskClient& Of(SSL* ssl) {
    return *static_cast<const PskClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  }
  static int Session(SSL* ssl, const EVP_MD* /*md*/, const unsigned char** id, size_t* id_size,
                     SSL_SESSION** session) {
    const PskClient& self = Of(ssl);
    *session = SSL_SESSION_new();
    SSL_SESSION_set1_master_key(*session, self.key.data(), self.key.size());
    SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, self.suite.data()));
    SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
    SSL_SESSION_set_max_early_data(*session, self.early_bytes);
    *id = reinterpret_cast<const unsigned char*>(self.identity.data());
    *id_size = self.identity.size();
    return 1;
  }
  static unsigned Key(SSL* ssl, const char* /*hint*/, char* id, unsigned id_size,
                      unsigned char* out, unsigned size) {
    const PskClient& self = Of(ssl);
    if (self.identity.size() >= id_size || self.key.size() > size) return 0;
    std::memcpy(id, self.identity.c_str(), self.identity.size() + 1);
    std::copy(self.key.begin(), self.key.end(), out);
    return static_cast<unsigned>(self.key.size());
  }
};

// What somebody outside can see of a refusal.
struct Seen {
  int alert = -1;
  std::vector<std::pair<int, size_t>> records;  // type and length of what the gate sent
  bool operator==(const Seen&) const = default;
};

class PskListener : public testing::Test {
 protected:
  Authenticated ExpectAdmitted(PskClient& psk) {
    Client client(gate_.port(), psk.context.get());
    EXPECT_TRUE(client.ConnectsAndEchoes()) << psk.identity << ": " << ErrorsOfClient();
    return gate_.TakeAuthenticated();
  }
  Seen ExpectRefused(PskClient& psk, const std::string& detail) {
    Client client(gate_.port(), psk.context.get());
    Seen seen;
    SSL_set_msg_callback_arg(client.ssl(), &seen);
    SSL_set_msg_callback(client.ssl(),
                         [](int write, int, int type, const void*, size_t size, SSL*, void* arg) {
                           if (write == 0)
                             static_cast<Seen*>(arg)->records.emplace_back(type, size);
                         });
    EXPECT_FALSE(client.ConnectsAndEchoes());
    const auto refusal = gate_.TakeRefusal();
    EXPECT_EQ(refusal.reason, Reason::psk_unknown) << refusal.Text();
    EXPECT_EQ(refusal.detail, detail);
    seen.alert = client.alert();
    return seen;
  }
  TestGate gate_{MakeServer(AllKeys())};
};

// ---- what is admitted

TEST_F(PskListener, RightKeyOfTls13) {
  for (const char* suite : {"TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
                            "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"}) {
    PskClient psk("k13", 1, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(psk.context.get(), suite);
    const Authenticated who = ExpectAdmitted(psk);
    EXPECT_EQ(who.mode, Mode::psk);
    EXPECT_EQ(who.tls_version, TLS1_3_VERSION);
    EXPECT_EQ(who.psk_identity, "k13");
    EXPECT_EQ(who.psk_peer, "peer of k13");
    EXPECT_EQ(who.psk_thumbprint, KeyFingerprint("psk", psk.key));
    EXPECT_EQ(who.certificate, nullptr);
  }
}

TEST_F(PskListener, RightKeyOfTls12) {
  for (const auto& [suite, standard] :
       {std::pair("ECDHE-PSK-CHACHA20-POLY1305", "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256"),
        std::pair("DHE-PSK-AES128-GCM-SHA256", "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256")}) {
    PskClient psk("k12", 2, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(psk.context.get(), suite);
    const Authenticated who = ExpectAdmitted(psk);
    EXPECT_EQ(who.mode, Mode::psk);
    EXPECT_EQ(who.tls_version, TLS1_2_VERSION);
    EXPECT_EQ(who.cipher, standard);
    EXPECT_EQ(who.psk_identity, "k12");
  }
}

TEST(PskListener384, HasItsOwnKeysAndSuites) {
  TestGate gate(MakeServer(AllKeys(), PskHash::sha384));
  PskClient tls13("k13-384", 3, TLS1_3_VERSION);
  tls13.suite = {0x13, 0x02};
  EXPECT_TRUE(Client(gate.port(), tls13.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeAuthenticated().cipher, "TLS_AES_256_GCM_SHA384");
  PskClient tls12("k12-384", 4, TLS1_2_VERSION);
  EXPECT_TRUE(Client(gate.port(), tls12.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeAuthenticated().cipher, "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384");

  PskClient sha256("k13", 1, TLS1_3_VERSION);
  EXPECT_FALSE(Client(gate.port(), sha256.context.get()).ConnectsAndEchoes());
}

// ---- what is not, and what can be seen of it

TEST_F(PskListener, UnknownIdentityAndWrongKeyLookTheSame) {
  for (const auto& [version, name, number] :
       {std::tuple(TLS1_3_VERSION, "k13", 1), std::tuple(TLS1_2_VERSION, "k12", 2)}) {
    PskClient wrong(name, 99, version);
    PskClient unknown("nobody", number, version);
    const Seen of_wrong =
        ExpectRefused(wrong, fmt::format("wrong key for the identity of peer of {}", name));
    const Seen of_unknown = ExpectRefused(unknown, "unknown identity");
    EXPECT_EQ(of_wrong, of_unknown);
    EXPECT_NE(of_wrong.alert, -1);
    PskClient right(name, number, version);
    EXPECT_EQ(ExpectAdmitted(right).psk_identity, name);
  }
}

TEST_F(PskListener, TimeOfARefusalIsPrinted) {
  constexpr int kRounds = 50;
  const auto median = [&](const char* name, const char* detail) {
    std::vector<double> times;
    for (int i = 0; i < kRounds; ++i) {
      PskClient psk(name, 99, TLS1_3_VERSION);
      const auto begin = std::chrono::steady_clock::now();
      ExpectRefused(psk, detail);
      times.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
              .count());
    }
    std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
    return times[kRounds / 2];
  };
  const double known = median("k13", "wrong key for the identity of peer of k13");
  const double unknown = median("nobody", "unknown identity");
  // A figure to look at: a busy machine must not decide about a test.
  RecordProperty("wrong_key_us", std::to_string(known));
  std::cout << fmt::format(
      "median time to refuse: wrong key {:.0f} us, unknown identity {:.0f} us\n", known, unknown);
}

TEST_F(PskListener, KeyForAnotherUseIsUnknown) {
  PskClient tls12_key("k12", 2, TLS1_3_VERSION);
  ExpectRefused(tls12_key, "unknown identity");
  PskClient tls13_key("k13", 1, TLS1_2_VERSION);
  ExpectRefused(tls13_key, "unknown identity");
  PskClient server_key("server", 5, TLS1_3_VERSION);
  ExpectRefused(server_key, "unknown identity");
  PskClient sha384_key("k13-384", 3, TLS1_3_VERSION);
  ExpectRefused(sha384_key, "unknown identity");
  // What its true owner would send; another length of binder, so another message.
  PskClient sha384("k13-384", 3, TLS1_3_VERSION);
  sha384.suite = {0x13, 0x02};
  Client client(gate_.port(), sha384.context.get());
  EXPECT_FALSE(client.ConnectsAndEchoes());
  gate_.TakeRefusal();
}

TEST(PskListener13, Tls12IsRefusedUnlessTheProfileAdmitsIt) {
  TestGate gate(MakeServer(AllKeys(), PskHash::sha256, false));
  PskClient tls12("k12", 2, TLS1_2_VERSION);
  EXPECT_FALSE(Client(gate.port(), tls12.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::tls_version_denied);
  PskClient tls13("k13", 1, TLS1_3_VERSION);
  EXPECT_TRUE(Client(gate.port(), tls13.context.get()).ConnectsAndEchoes());
}

TEST_F(PskListener, SuitesWithoutForwardSecrecyOrAeadAreRefused) {
  PskClient psk("k12", 2, TLS1_2_VERSION);
  for (const char* suite : {"PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256",
                            "DHE-PSK-AES256-GCM-SHA384", "RSA-PSK-AES128-GCM-SHA256"}) {
    ASSERT_EQ(SSL_CTX_set_cipher_list(psk.context.get(), suite), 1) << suite;
    Client client(gate_.port(), psk.context.get());
    EXPECT_FALSE(client.ConnectsAndEchoes()) << suite;
    const auto refusal = gate_.TakeRefusal();
    EXPECT_EQ(refusal.reason, Reason::tls_cipher_denied) << refusal.Text();
  }
  SSL_CTX_set_cipher_list(psk.context.get(), "PSK-AES128-GCM-SHA256:DHE-PSK-AES128-GCM-SHA256");
  ExpectAdmitted(psk);
}

TEST_F(PskListener, Tls12NeedsExtendedMasterSecret) {
  PskClient psk("k12", 2, TLS1_2_VERSION);
  SSL_CTX_set_options(psk.context.get(), SSL_OP_NO_EXTENDED_MASTER_SECRET);
  EXPECT_FALSE(Client(gate_.port(), psk.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate_.TakeRefusal().reason, Reason::tls_version_denied);
  SSL_CTX_clear_options(psk.context.get(), SSL_OP_NO_EXTENDED_MASTER_SECRET);
  ExpectAdmitted(psk);
}

TEST_F(PskListener, EarlyDataIsRefusedAndCounted) {
  PskClient psk("k13", 1, TLS1_3_VERSION);
  psk.early_bytes = 1024;
  {
    Client early(gate_.port(), psk.context.get());
    size_t written = 0;
    ASSERT_EQ(SSL_write_early_data(early.ssl(), "GET /", 5, &written), 1) << ErrorsOfClient();
    EXPECT_FALSE(early.Connect());
    EXPECT_EQ(early.alert(), SSL_AD_HANDSHAKE_FAILURE);
    EXPECT_EQ(gate_.TakeRefusal().reason, Reason::tls_early_data_denied);
  }
  psk.early_bytes = 0;
  ExpectAdmitted(psk);
}

TEST_F(PskListener, NothingCanBeResumed) {
  PskClient psk("k13", 1, TLS1_3_VERSION);
  Client client(gate_.port(), psk.context.get());
  ASSERT_TRUE(client.ConnectsAndEchoes());
  EXPECT_EQ(SSL_SESSION_has_ticket(SSL_get0_session(client.ssl())), 0);
}

// ---- the two ways never mix

TEST_F(PskListener, CertificateIsNoWayIn) {
  const Credential peer = Issue("csmf.example", MakeEcKey(), nullptr);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const CtxPtr context = AnyClient(version, version);
    SSL_CTX_use_certificate(context.get(), peer.certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), peer.key.get());
    Client client(gate_.port(), context.get());
    EXPECT_FALSE(client.ConnectsAndEchoes());
    EXPECT_EQ(client.alert(), SSL_AD_HANDSHAKE_FAILURE);
    const auto refusal = gate_.TakeRefusal();
    EXPECT_EQ(refusal.reason,
              version == TLS1_2_VERSION ? Reason::tls_cipher_denied : Reason::psk_unknown)
        << refusal.Text();
  }
  PskClient psk("k13", 1, TLS1_3_VERSION);
  SSL_CTX_use_certificate(psk.context.get(), peer.certificate.get());
  SSL_CTX_use_PrivateKey(psk.context.get(), peer.key.get());
  EXPECT_EQ(ExpectAdmitted(psk).certificate, nullptr);
}

TEST(CertificateListenerAndPsk, KeyIsNoWayInAndNeverBecomesOne) {
  const Credential gate_certificate = Issue("gate.example", MakeEcKey(), nullptr);
  const TestFolder folder;
  const auto server = TlsServer::ForCertificates(
      {{{folder.Write("c", PemOf(gate_certificate, false)),
         folder.Write("k", PemOf(gate_certificate, true))}},
       true},
      [](X509*, STACK_OF(X509)*) -> tl::expected<void, identity::Refusal> { return {}; }, "/tls");
  ASSERT_TRUE(server) << server.error().Text();
  TestGate gate(*server);
  PskClient tls13("k13", 1, TLS1_3_VERSION);
  EXPECT_FALSE(Client(gate.port(), tls13.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::cert_missing);
  PskClient tls12("k12", 2, TLS1_2_VERSION);
  EXPECT_FALSE(Client(gate.port(), tls12.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::tls_cipher_denied);
  const auto becomes = [&](const std::shared_ptr<TlsServer>& next) {
    return gate.On([&](Listener& listener) { return listener.Replace(next).has_value(); });
  };
  EXPECT_FALSE(becomes(MakeServer(AllKeys())));
  EXPECT_TRUE(becomes(*server));
}

// ---- keys of a session, and a roll-over of the key itself

TEST(PskSession, BothEndsExportTheSameKeyOnce) {
  const auto context_of = [](int version) {
    KeyContext c;
    c.tls_version = static_cast<uint16_t>(version);
    c.mode = Mode::psk;
    c.peer_identity = "gateway";
    c.generation = 1;
    return c;
  };
  Mailbox<std::pair<std::string, bool>> exported;
  const ConnectionHandler handler = [&](Connection& connection) -> boost::asio::awaitable<void> {
    SSL* ssl = connection.stream.native_handle();
    const auto context = context_of(connection.who.tls_version);
    const auto master = MasterKey::Export(ssl, context);
    EXPECT_TRUE(master);
    const auto key = master->Expand(Direction::inbound, Spi{300}, Algorithm::aes_256_gcm_16);
    exported.Put({KeyFingerprint("", key->bytes()), MasterKey::Export(ssl, context).has_value()});
    co_await Echo(connection);
  };
  TestGate gate(MakeServer(AllKeys()), {}, handler);
  for (const auto& [version, name, number] :
       {std::tuple(TLS1_3_VERSION, "k13", 1), std::tuple(TLS1_2_VERSION, "k12", 2)}) {
    PskClient psk(name, number, version);
    Client client(gate.port(), psk.context.get());
    ASSERT_TRUE(client.ConnectsAndEchoes());
    const auto master = MasterKey::Export(client.ssl(), context_of(version));
    ASSERT_TRUE(master) << master.error().Text();
    const auto key = master->Expand(Direction::inbound, Spi{300}, Algorithm::aes_256_gcm_16);
    const auto of_gate = exported.Take();
    ASSERT_TRUE(of_gate);
    EXPECT_EQ(of_gate->first, KeyFingerprint("", key->bytes()));
    EXPECT_FALSE(of_gate->second);
  }
}

TEST(PskRollOver, OldAndNewThenNewAloneAndNobodyIsDropped) {
  TestGate gate(MakeServer(StoreOf({{"old", kTls13}, {"new", kTls13}})));
  PskClient old_key("old", 1, TLS1_3_VERSION);
  PskClient new_key("new", 2, TLS1_3_VERSION);
  Client stays(gate.port(), old_key.context.get());
  EXPECT_TRUE(stays.ConnectsAndEchoes());
  EXPECT_TRUE(Client(gate.port(), new_key.context.get()).ConnectsAndEchoes());

  const auto next = MakeServer(StoreOf({{"unused", kTls13}, {"new", kTls13}}));
  EXPECT_TRUE(gate.On([&](Listener& listener) { return listener.Replace(next).has_value(); }));
  EXPECT_FALSE(Client(gate.port(), old_key.context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::psk_unknown);
  EXPECT_TRUE(Client(gate.port(), new_key.context.get()).ConnectsAndEchoes());
  EXPECT_TRUE(stays.Echoes("still here"));
}

}  // namespace
}  // namespace portcullis::guard
