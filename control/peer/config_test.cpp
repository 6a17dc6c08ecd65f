#include "control/peer/config.hpp"

#include <gtest/gtest.h>

#include "control/guard/session/test_pki.hpp"

namespace portcullis::peer {
namespace {

constexpr const char* kGood = R"(gate:
  identity: gate.example
  url: https://gate.example:4433
  address: 192.0.2.1
  tls_1_2: true
certificate: { identity: csmf-1.example, chain: peer.pem, key: /keys/peer.key }
anchors: [{ path: ca.pem }]
crls: { locations: [ca.crl], grace_seconds: 60 }
profile: { names: [dns, uri], roots: [gate.example] }
token_endpoint: { url: "https://as.example/token", ca: as.pem, certificate: peer.pem, key: peer.key, client_id: csmf-1 }
sessions:
  - interface: nsmf
    algorithms: [chacha20-poly1305, aes-128-gcm-16]
    selectors:
      - { gate: 10.2.0.10/32, peer: 10.1.0.0/28, protocol: tcp, gate_ports: [443, 444] }
      - { gate: "2001:db8::/32", peer: "2001:db8:1::/48" }
    token_file: token
  - interface: scef
    selectors: [{ gate: 10.2.0.20/32, peer: 10.1.0.1/32, protocol: icmp }]
    audience: https://gate.example/scef
    scope: t8
udp_encap: true
outer: { peer: 192.0.2.2, gate: 192.0.2.1 }
dataplane: { socket: steer.sock }
liveness_seconds: 5
)";

constexpr const char* kPsk = R"(gate: { identity: gate.example, url: "https://192.0.2.1:4434" }
psk: { identity: 7f, file: gate.psk, tls: "1.2", hash: sha384, proof_key: proof.key }
sessions:
  - interface: nsmf
    selectors: [{ gate: 10.2.0.10/32, peer: 10.1.0.1/32 }]
    token_file: token
dataplane: { socket: /run/steer.sock }
)";

class PeerConfigTest : public testing::Test {
 protected:
  // The configuration with one piece replaced.
  Result<PeerConfig> With(const std::string& piece, const std::string& instead,
                          std::string text = kGood) {
    EXPECT_NE(text.find(piece), std::string::npos) << piece;
    text.replace(text.find(piece), piece.size(), instead);
    path_ = folder_.Write("peer.yaml", text);
    return LoadPeerConfig(path_);
  }
  void Refuses(const std::string& piece, const std::string& instead, const std::string& said,
               const char* text = kGood) {
    const auto config = With(piece, instead, text);
    ASSERT_FALSE(config) << instead;
    EXPECT_TRUE(config.error().where.starts_with(path_ + ":")) << config.error().Text();
    EXPECT_NE(config.error().Text().find(said), std::string::npos) << config.error().Text();
  }
  [[nodiscard]] std::string Here(const std::string& name) const {
    return std::filesystem::path(path_).parent_path() / name;
  }

  guard::TestFolder folder_;
  std::string path_;
};

TEST_F(PeerConfigTest, GoodOne) {
  const auto config = With("", "");
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->identity, "csmf-1.example");
  EXPECT_EQ(config->gate_identity, "gate.example");
  EXPECT_EQ(config->gate.parts.port, "4433");
  EXPECT_EQ(config->gate.address->Text(), "192.0.2.1");
  EXPECT_EQ(config->mode, guard::Mode::certificate);
  EXPECT_TRUE(config->tls_1_2);
  EXPECT_EQ(config->own.chain, Here("peer.pem"));
  EXPECT_EQ(config->own.key, "/keys/peer.key");
  EXPECT_EQ(config->trust.authorities.anchors[0].path, Here("ca.pem"));
  EXPECT_EQ(config->trust.crls[0].text(), Here("ca.crl"));
  EXPECT_EQ(config->trust.crl_grace, std::chrono::seconds(60));
  EXPECT_EQ(config->profile.usage, identity::Usage::server);
  EXPECT_EQ(config->profile.name_roots, std::vector<std::string>{"gate.example"});
  EXPECT_EQ(config->token_endpoint->client_id, "csmf-1");
  ASSERT_EQ(config->sessions.size(), 2U);
  const SessionSettings& nsmf = config->sessions[0];
  EXPECT_EQ(nsmf.algorithms,
            (std::vector{Algorithm::chacha20_poly1305, Algorithm::aes_128_gcm_16}));
  EXPECT_EQ(nsmf.token_file, Here("token"));
  ASSERT_EQ(nsmf.selectors.size(), 2U);
  EXPECT_EQ(nsmf.selectors[0].protocol, 6);
  EXPECT_EQ(nsmf.selectors[0].gate_ports.last, 444);
  EXPECT_EQ(nsmf.selectors[0].peer_ports.last, 65535);
  EXPECT_EQ(nsmf.selectors[1].protocol, 0);
  EXPECT_EQ(config->sessions[1].audience, "https://gate.example/scef");
  EXPECT_EQ(config->sessions[1].algorithms.front(), Algorithm::aes_256_gcm_16);
  EXPECT_TRUE(config->udp_encap);
  EXPECT_EQ(config->outer_peer->Text(), "192.0.2.2");
  EXPECT_EQ(config->dataplane_socket, Here("steer.sock"));
  EXPECT_EQ(config->liveness, std::chrono::seconds(5));
}

TEST_F(PeerConfigTest, PreSharedKey) {
  const auto config = With("", "", kPsk);
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->mode, guard::Mode::psk);
  EXPECT_EQ(config->identity, "7f");
  EXPECT_EQ(config->psk.use.version, identity::TlsVersion::v1_2);
  EXPECT_EQ(config->psk.use.hash, identity::PskHash::sha384);
  EXPECT_EQ(config->psk.use.peer, identity::PeerRole::server);
  EXPECT_EQ(config->proof_key, Here("proof.key"));
  Refuses("psk:", "anchors: [{ path: a.pem }]\npsk:", "anchors: not of use with psk", kPsk);
  Refuses(", proof_key: proof.key", "", "psk.proof_key: missing", kPsk);
  Refuses("psk:", "certificate: { identity: a, chain: a, key: a }\npsk:", "found both", kPsk);
}

TEST_F(PeerConfigTest, WhatIsWrongIsSaidWithItsPlace) {
  Refuses("identity: gate.example\n", "name: gate.example\n", "gate.name: unknown key");
  Refuses("https://gate.example:4433", "http://gate.example:4433", "gate.url");
  Refuses("https://gate.example:4433", "https://gate.example:4433/", "gate.url");
  Refuses("address: 192.0.2.1", "address: gate", "gate.address");
  Refuses("certificate: { identity: csmf-1.example, chain: peer.pem, key: /keys/peer.key }\n", "",
          "either certificate or psk; found none");
  Refuses("anchors: [{ path: ca.pem }]\n", "", "anchors: missing");
  Refuses("crls: { locations: [ca.crl], grace_seconds: 60 }\n", "", "crls: missing");
  Refuses("https://as.example/token", "http://127.0.0.1/token", "client credentials need TLS");
  Refuses("interface: scef", "interface: nsmf", "the same interface twice");
  Refuses("interface: scef", "interface: SCEF", "not a name");
  Refuses("aes-128-gcm-16]", "aes-128-cbc-hmac-sha-256-128]", "not an algorithm");
  Refuses("[443, 444]", "[444, 443]", "sessions[0].selectors[0].gate_ports: not a range");
  Refuses("[443, 444]", "[443]", "not a range");
  Refuses("protocol: icmp", "protocol: icmp, peer_ports: [1, 2]", "ports without a protocol");
  Refuses("peer: 10.1.0.0/28", "peer: \"2001:db8::/32\"", "prefixes of two families");
  Refuses("peer: 10.1.0.0/28", "peer: 10.1.0.1/28", "sessions[0].selectors[0].peer");
  Refuses("    audience: https://gate.example/scef\n", "", "sessions[1].audience: missing");
  Refuses("token_file: token", "token_file: token\n    scope: a", "not of use with token_file");
  Refuses("dataplane: { socket: steer.sock }\n", "", "dataplane: one way for packets");
  Refuses("liveness_seconds: 5", "liveness_seconds: -1", "liveness_seconds");
}

TEST_F(PeerConfigTest, PacketsGoThroughADataplaneOrTheKernel) {
  const std::string dataplane = "dataplane: { socket: steer.sock }";
  const auto kernel = With(dataplane, "kernel: {}");
  ASSERT_TRUE(kernel) << kernel.error().Text();
  EXPECT_TRUE(kernel->dataplane_socket.empty());
  Refuses(dataplane, dataplane + "\nkernel: {}", "either dataplane or kernel; found both");
  Refuses(dataplane, "", "either dataplane or kernel; found none");
  Refuses(dataplane, "kernel: { socket: a }", "kernel.socket: unknown key");
  Refuses(dataplane, "kernel:", "kernel: not a section");
}

// What a dataplane tells apart by itself.
TEST_F(PeerConfigTest, TheKernelNeedsSelectorsApartAndTheGateOutsideThem) {
  std::string text = kGood;
  const std::string dataplane = "dataplane: { socket: steer.sock }";
  text.replace(text.find(dataplane), dataplane.size(), "kernel: {}");
  const std::string scef = "gate: 10.2.0.20/32, peer: 10.1.0.1/32, protocol: icmp";
  const std::string nsmf = "gate: 10.2.0.0/24, peer: 10.1.0.0/24, protocol: tcp";
  ASSERT_TRUE(With(scef, nsmf));
  const auto refuses = [&](const std::string& instead, const char* said) {
    Refuses(scef, instead, said, text.c_str());
  };
  refuses(nsmf, "kernel: selectors of two sessions overlap");
  refuses("gate: 10.2.0.0/24, peer: 10.1.0.0/24", "found nsmf and scef");
  EXPECT_TRUE(With(scef, nsmf + ", gate_ports: [445, 500]", text));
  refuses(nsmf + ", gate_ports: [444, 500]", "overlap");
  refuses("gate: 192.0.2.0/24, peer: 10.1.0.1/32", "expected selectors without 192.0.2.1");
}

TEST_F(PeerConfigTest, TokensNeedAFileOrAnEndpoint) {
  Refuses(
      "token_endpoint: { url: \"https://as.example/token\", ca: as.pem, certificate: peer.pem, "
      "key: peer.key, client_id: csmf-1 }\n",
      "", "sessions[1].token_file: missing");
}

TEST(ShippedPeerConfig, IsSound) {
  const auto config = LoadPeerConfig(SHIPPED_CONFIG);
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->sessions.size(), 1U);
}

}  // namespace
}  // namespace portcullis::peer
