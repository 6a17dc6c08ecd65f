// The certificate listener, with real handshakes over loopback.
#include <gtest/gtest.h>

#include "control/guard/session/test_gate.hpp"

namespace portcullis::guard {
namespace {

using identity::Reason;
using identity::Refusal;

// One CA and what it signed; RSA keys take a while to make.
struct Pki {
  Credential ca = Issue("Test CA", MakeEcKey(), nullptr);
  Credential other_ca = Issue("Other CA", MakeEcKey(), nullptr);
  Credential gate_ec = Issue("gate.example", MakeEcKey(), &ca);
  Credential gate_rsa = Issue("gate.example", MakeRsaKey(), &ca);
  Credential peer_ec = Issue("csmf.example", MakeEcKey(), &ca);
  Credential peer_rsa = Issue("csmf.example", MakeRsaKey(), &ca);
  Credential stranger = Issue("csmf.example", MakeEcKey(), &other_ca);

  static const Pki& Get() {
    static const Pki kPki;
    return kPki;
  }
};

// The least that a verification can be: signed by the CA, or not.
tl::expected<void, Refusal> SignedByTheCa(X509* leaf, STACK_OF(X509) * /*chain*/) {
  if (X509_verify(leaf, Pki::Get().ca.key.get()) == 1) return {};
  return tl::unexpected(Refusal{Reason::cert_chain_fail, "not by the test's CA"});
}

std::shared_ptr<TlsServer> MakeServer(bool tls_1_2 = true, VerifyPeer verify = SignedByTheCa) {
  const TestFolder folder;
  const Pki& pki = Pki::Get();
  const CertificateProfile profile{{{folder.Write("ec.crt", PemOf(pki.gate_ec, false)),
                                     folder.Write("ec.key", PemOf(pki.gate_ec, true))},
                                    {folder.Write("rsa.crt", PemOf(pki.gate_rsa, false)),
                                     folder.Write("rsa.key", PemOf(pki.gate_rsa, true))}},
                                   tls_1_2};
  auto server = TlsServer::ForCertificates(profile, std::move(verify), "/tls");
  if (!server) throw std::runtime_error(server.error().Text());
  return *server;
}

CtxPtr ClientWith(const Credential* credential, int least = TLS1_2_VERSION,
                  int most = TLS1_3_VERSION) {
  CtxPtr context = AnyClient(least, most);
  if (credential != nullptr) {
    SSL_CTX_use_certificate(context.get(), credential->certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), credential->key.get());
  }
  return context;
}

class CertificateListener : public testing::Test {
 protected:
  // The twin of each refusal.
  void ExpectAdmitted(SSL_CTX* context) {
    Client client(gate_.port(), context);
    const bool admitted = client.ConnectsAndEchoes();
    ASSERT_TRUE(admitted) << ErrorsOfClient();
    EXPECT_EQ(gate_.TakeAuthenticated().mode, Mode::certificate);
  }
  // Returns the alert that the client saw.
  int ExpectRefused(SSL_CTX* context, Reason reason) {
    Client client(gate_.port(), context);
    EXPECT_FALSE(client.ConnectsAndEchoes());
    const Refusal refusal = gate_.TakeRefusal();
    EXPECT_EQ(refusal.reason, reason) << refusal.Text();
    EXPECT_GE(gate_.Refused(reason), 1U);
    return client.alert();
  }
  TestGate gate_{MakeServer()};
};

// ---- what is admitted

struct Suite {
  int version;
  const char* name;      // OpenSSL's
  const char* standard;  // IANA's
};

class AdmittedSuite : public CertificateListener, public testing::WithParamInterface<Suite> {};

TEST_P(AdmittedSuite, Passes) {
  const Suite& suite = GetParam();
  for (const Credential* peer : {&Pki::Get().peer_ec, &Pki::Get().peer_rsa}) {
    const CtxPtr context = ClientWith(peer, suite.version, suite.version);
    if (suite.version == TLS1_3_VERSION) {
      SSL_CTX_set_ciphersuites(context.get(), suite.name);
    } else {
      SSL_CTX_set_cipher_list(context.get(), suite.name);
    }
    Client client(gate_.port(), context.get());
    ASSERT_TRUE(client.ConnectsAndEchoes());
    const Authenticated who = gate_.TakeAuthenticated();
    EXPECT_EQ(who.mode, Mode::certificate);
    EXPECT_EQ(who.tls_version, suite.version);
    EXPECT_EQ(who.cipher, suite.standard);
    EXPECT_EQ(X509_cmp(who.certificate.get(), peer->certificate.get()), 0);
    EXPECT_TRUE(who.psk_identity.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, AdmittedSuite,
    testing::Values(
        Suite{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"},
        Suite{TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"},
        Suite{TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
        Suite{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256",
              "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
        Suite{TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384",
              "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        Suite{TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305",
              "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
        Suite{TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256",
              "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
        Suite{TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384",
              "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        Suite{TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305",
              "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
        Suite{TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256", "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"}),
    [](const auto& info) { return std::string(info.param.standard); });

TEST_F(CertificateListener, DheIsOfAtLeast2048Bits) {
  const CtxPtr context = ClientWith(&Pki::Get().peer_ec, TLS1_2_VERSION, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context.get(), "DHE-RSA-AES128-GCM-SHA256");
  Client client(gate_.port(), context.get());
  ASSERT_TRUE(client.ConnectsAndEchoes());
  EVP_PKEY* share = nullptr;
  ASSERT_EQ(SSL_get_peer_tmp_key(client.ssl(), &share), 1);
  EXPECT_GE(EVP_PKEY_get_bits(share), 2048);
  EVP_PKEY_free(share);
}

TEST_F(CertificateListener, GroupsOfTheProfileOnly) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    // RSA on both sides: in TLS 1.2 the list says, too, which curves an ECDSA key may be on.
    const CtxPtr context = ClientWith(&Pki::Get().peer_rsa, version, version);
    SSL_CTX_set_cipher_list(context.get(), "ECDHE-RSA-AES128-GCM-SHA256");
    for (const char* group : {"P-256", "P-384", "X25519"}) {
      ASSERT_EQ(SSL_CTX_set1_groups_list(context.get(), group), 1);
      ExpectAdmitted(context.get());
    }
    for (const char* group : {"P-521", "X448"}) {
      ASSERT_EQ(SSL_CTX_set1_groups_list(context.get(), group), 1);
      ExpectRefused(context.get(), Reason::tls_cipher_denied);
    }
  }
}

// ---- what is not

TEST_F(CertificateListener, OldVersionsAreRefused) {
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    const CtxPtr old = ClientWith(&Pki::Get().peer_ec, version, version);
    EXPECT_EQ(ExpectRefused(old.get(), Reason::tls_version_denied), SSL_AD_PROTOCOL_VERSION);
  }
  const CtxPtr too_low = ClientWith(&Pki::Get().peer_ec, TLS1_VERSION, TLS1_3_VERSION);
  ExpectAdmitted(too_low.get());  // it offers better, too
}

TEST(CertificateListener13, Tls12IsRefusedUnlessTheProfileAdmitsIt) {
  TestGate gate(MakeServer(false));
  const CtxPtr tls12 = ClientWith(&Pki::Get().peer_ec, TLS1_2_VERSION, TLS1_2_VERSION);
  Client refused(gate.port(), tls12.get());
  EXPECT_FALSE(refused.ConnectsAndEchoes());
  EXPECT_EQ(refused.alert(), SSL_AD_PROTOCOL_VERSION);
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::tls_version_denied);
  const CtxPtr tls13 = ClientWith(&Pki::Get().peer_ec);
  EXPECT_TRUE(Client(gate.port(), tls13.get()).ConnectsAndEchoes());
}

TEST_F(CertificateListener, OtherSuitesAreRefused) {
  const CtxPtr tls12 = ClientWith(&Pki::Get().peer_ec, TLS1_2_VERSION, TLS1_2_VERSION);
  for (const char* suite :
       {"ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384", "ADH-AES128-GCM-SHA256", "ECDHE-ECDSA-NULL-SHA",
        "ECDHE-ECDSA-AES128-CCM"}) {
    ASSERT_EQ(SSL_CTX_set_cipher_list(tls12.get(), suite), 1) << suite;
    ExpectRefused(tls12.get(), Reason::tls_cipher_denied);
  }
  const CtxPtr tls13 = ClientWith(&Pki::Get().peer_ec, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(tls13.get(), "TLS_AES_128_CCM_SHA256");
  ExpectRefused(tls13.get(), Reason::tls_cipher_denied);
  SSL_CTX_set_ciphersuites(tls13.get(), "TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256");
  ExpectAdmitted(tls13.get());
}

TEST_F(CertificateListener, Sha1SignaturesAreRefused) {
  const CtxPtr context = ClientWith(&Pki::Get().peer_ec, TLS1_2_VERSION, TLS1_2_VERSION);
  SSL_CTX_set1_sigalgs_list(context.get(), "ECDSA+SHA1:RSA+SHA1");
  ExpectRefused(context.get(), Reason::weak_alg_refused);
  SSL_CTX_set1_sigalgs_list(context.get(), "ECDSA+SHA1:ECDSA+SHA256");
  ExpectAdmitted(context.get());
}

TEST_F(CertificateListener, Tls12NeedsExtendedMasterSecret) {
  const CtxPtr context = ClientWith(&Pki::Get().peer_ec, TLS1_2_VERSION, TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_EXTENDED_MASTER_SECRET);
  ExpectRefused(context.get(), Reason::tls_version_denied);
  SSL_CTX_clear_options(context.get(), SSL_OP_NO_EXTENDED_MASTER_SECRET);
  ExpectAdmitted(context.get());
}

TEST_F(CertificateListener, CertificateIsRequired) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const CtxPtr without = ClientWith(nullptr, version, version);
    ExpectRefused(without.get(), Reason::cert_missing);
    const CtxPtr with = ClientWith(&Pki::Get().peer_ec, version, version);
    ExpectAdmitted(with.get());
  }
}

TEST_F(CertificateListener, VerificationDecidesAndThePeerIsToldLittle) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const CtxPtr stranger = ClientWith(&Pki::Get().stranger, version, version);
    EXPECT_EQ(ExpectRefused(stranger.get(), Reason::cert_chain_fail), SSL_AD_BAD_CERTIFICATE);
    const CtxPtr known = ClientWith(&Pki::Get().peer_rsa, version, version);
    ExpectAdmitted(known.get());
  }
}

TEST(CertificateVerification, SeesLeafAndChainAndMayThrow) {
  const Pki& pki = Pki::Get();
  int calls = 0;
  TestGate gate(
      MakeServer(true, [&](X509* leaf, STACK_OF(X509) * chain) -> tl::expected<void, Refusal> {
        if (++calls > 1) throw std::runtime_error("the verifier is broken");
        EXPECT_EQ(X509_cmp(leaf, pki.peer_ec.certificate.get()), 0);
        EXPECT_EQ(sk_X509_num(chain), 2);
        return {};
      }));
  const CtxPtr context = ClientWith(&pki.peer_ec);
  SSL_CTX_add1_chain_cert(context.get(), pki.ca.certificate.get());
  EXPECT_TRUE(Client(gate.port(), context.get()).ConnectsAndEchoes());
  EXPECT_FALSE(Client(gate.port(), context.get()).ConnectsAndEchoes());
  EXPECT_EQ(gate.TakeRefusal().detail, "the verifier is broken");
}

// ---- nothing is resumed, replayed or renegotiated

// A session with ticket from a server of ours that is no gate, and that admits early data.
SSL_SESSION* ForeignSession() {
  const CtxPtr server(SSL_CTX_new(TLS_server_method()));
  const CtxPtr client(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_use_certificate(server.get(), Pki::Get().gate_ec.certificate.get());
  SSL_CTX_use_PrivateKey(server.get(), Pki::Get().gate_ec.key.get());
  constexpr uint32_t kEarlyBytes = 1024;
  SSL_CTX_set_max_early_data(server.get(), kEarlyBytes);
  const SslPtr one(SSL_new(server.get()));
  const SslPtr other(SSL_new(client.get()));
  BIO* a = nullptr;
  BIO* b = nullptr;
  BIO_new_bio_pair(&a, 0, &b, 0);
  SSL_set_bio(one.get(), a, a);
  SSL_set_bio(other.get(), b, b);
  SSL_set_accept_state(one.get());
  SSL_set_connect_state(other.get());
  constexpr int kEnoughFlights = 5;
  char ignored = 0;
  for (int i = 0; i < kEnoughFlights; ++i) {
    SSL_do_handshake(other.get());
    SSL_do_handshake(one.get());
    SSL_read(other.get(), &ignored, 1);  // the tickets
  }
  // OpenSSL forgets the session of a connection that is not shut down.
  SSL_set_shutdown(other.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_SESSION* session = SSL_get1_session(other.get());
  EXPECT_EQ(SSL_SESSION_is_resumable(session), 1);
  return session;
}

TEST_F(CertificateListener, EarlyDataIsRefusedAndCounted) {
  const CtxPtr context = ClientWith(&Pki::Get().peer_ec, TLS1_3_VERSION);
  const OpensslPtr<SSL_SESSION, SSL_SESSION_free> session(ForeignSession());
  {
    Client early(gate_.port(), context.get());
    SSL_set_session(early.ssl(), session.get());
    size_t written = 0;
    ASSERT_EQ(SSL_write_early_data(early.ssl(), "GET /", 5, &written), 1) << ErrorsOfClient();
    EXPECT_FALSE(early.Connect());
    EXPECT_EQ(early.alert(), SSL_AD_HANDSHAKE_FAILURE);
    EXPECT_EQ(gate_.TakeRefusal().reason, Reason::tls_early_data_denied);
    EXPECT_EQ(gate_.Refused(Reason::tls_early_data_denied), 1U);
  }
  // The same ClientHello without early data is admitted, by its certificate and not by the ticket.
  Client late(gate_.port(), context.get());
  SSL_set_session(late.ssl(), session.get());
  EXPECT_TRUE(late.ConnectsAndEchoes());
  EXPECT_EQ(SSL_session_reused(late.ssl()), 0);
  EXPECT_NE(gate_.TakeAuthenticated().certificate, nullptr);
}

TEST_F(CertificateListener, NothingCanBeResumed) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const CtxPtr context = ClientWith(&Pki::Get().peer_ec, version, version);
    Client first(gate_.port(), context.get());
    ASSERT_TRUE(first.ConnectsAndEchoes());
    const OpensslPtr<SSL_SESSION, SSL_SESSION_free> session(SSL_get1_session(first.ssl()));
    EXPECT_EQ(SSL_SESSION_is_resumable(session.get()), 0);
    EXPECT_EQ(SSL_SESSION_has_ticket(session.get()), 0);
    Client second(gate_.port(), context.get());
    SSL_set_session(second.ssl(), session.get());
    ASSERT_TRUE(second.ConnectsAndEchoes());
    EXPECT_EQ(SSL_session_reused(second.ssl()), 0);
    // Whoever has only the session has nothing.
    const CtxPtr thief = ClientWith(nullptr, version, version);
    Client third(gate_.port(), thief.get());
    SSL_set_session(third.ssl(), session.get());
    EXPECT_FALSE(third.ConnectsAndEchoes());
    EXPECT_EQ(gate_.TakeRefusal().reason, Reason::cert_missing);
  }
}

TEST_F(CertificateListener, Tls12CannotBeRenegotiated) {
  const CtxPtr context = ClientWith(&Pki::Get().peer_ec, TLS1_2_VERSION, TLS1_2_VERSION);
  Client client(gate_.port(), context.get());
  ASSERT_TRUE(client.ConnectsAndEchoes());
  EXPECT_TRUE(client.Echoes("again"));
  ASSERT_EQ(SSL_renegotiate(client.ssl()), 1);
  EXPECT_NE(SSL_do_handshake(client.ssl()), 1);
  EXPECT_EQ(client.alert(), SSL_AD_NO_RENEGOTIATION);
}

TEST_F(CertificateListener, AuthenticationIsNeverPutOff) {
  const auto requests = [](SSL* ssl, int& count) {
    SSL_set_msg_callback_arg(ssl, &count);
    SSL_set_msg_callback(
        ssl, [](int write, int, int type, const void* bytes, size_t size, SSL*, void* arg) {
          const bool handshake = type == SSL3_RT_HANDSHAKE && write == 0 && size > 0;
          if (handshake && *static_cast<const uint8_t*>(bytes) == SSL3_MT_CERTIFICATE_REQUEST) {
            ++*static_cast<int*>(arg);
          }
        });
  };
  const CtxPtr without = ClientWith(nullptr, TLS1_3_VERSION);
  Client later(gate_.port(), without.get());
  SSL_set_post_handshake_auth(later.ssl(), 1);
  EXPECT_FALSE(later.ConnectsAndEchoes());
  EXPECT_EQ(gate_.TakeRefusal().reason, Reason::cert_missing);

  const CtxPtr with = ClientWith(&Pki::Get().peer_ec, TLS1_3_VERSION);
  Client now(gate_.port(), with.get());
  int asked = 0;
  requests(now.ssl(), asked);
  SSL_set_post_handshake_auth(now.ssl(), 1);
  EXPECT_TRUE(now.ConnectsAndEchoes());
  EXPECT_TRUE(now.Echoes("again"));
  EXPECT_EQ(asked, 1);  // in the handshake, and not again
}

TEST_F(CertificateListener, WhatIsNotTlsIsRefused) {
  const Socket http(gate_.port());
  EXPECT_TRUE(http.Send("GET / HTTP/1.1\r\nHost: gate\r\n\r\n"));
  EXPECT_TRUE(http.WaitForEnd());
  EXPECT_EQ(gate_.TakeRefusal().reason, Reason::tls_failed);
}

// ---- configuration

TEST(CertificateSettings, WrongFilesAreNamed) {
  const TestFolder folder;
  const Pki& pki = Pki::Get();
  const std::string chain = folder.Write("a.crt", PemOf(pki.gate_ec, false));
  const std::string key = folder.Write("a.key", PemOf(pki.gate_ec, true));
  const auto refused = [](const std::vector<OwnCertificate>& own) {
    const auto server = TlsServer::ForCertificates({own, false}, SignedByTheCa, "/tls");
    EXPECT_FALSE(server);
    return server ? "" : server.error().Text();
  };
  EXPECT_NE(refused({}).find("no certificate"), std::string::npos);
  EXPECT_NE(refused({{folder.Write("b.crt", "nonsense"), key}}).find("/tls/certificates/0/chain"),
            std::string::npos);
  EXPECT_NE(refused({{chain, folder.Write("b.key", "nonsense")}}).find("/tls/certificates/0/key"),
            std::string::npos);
  EXPECT_NE(
      refused({{chain, folder.Write("c.key", PemOf(pki.gate_ec, true), 0644)}}).find("mode 0644"),
      std::string::npos);
  EXPECT_NE(refused({{chain, key}, {chain, folder.Write("d.key", PemOf(pki.peer_ec, true))}})
                .find("/tls/certificates/1/key: the key does not belong"),
            std::string::npos);
  EXPECT_TRUE(TlsServer::ForCertificates({{{chain, key}}, false}, SignedByTheCa, "/tls"));
}

}  // namespace
}  // namespace portcullis::guard
