#include "control/guard/config.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "control/guard/session/test_pki.hpp"

namespace portcullis::guard {
namespace {

constexpr const char* kGood = R"(identity: gate.example
control: { socket: admission.sock, user: root }
listeners:
  certificate:
    - address: 192.0.2.1
      port: 4433
      tls_1_2: true
      certificates: [{ chain: guard.pem, key: guard.key }]
  psk:
    - { address: "2001:db8::1", port: 4434, url: "https://gate.example:4434", hash: sha384 }
limits: { half_open: 100, source_v6: 56, handshake_seconds: 5 }
keys:
  - { identity: k-7f, peer: gateway-7, tls: "1.3", hash: sha384, file: /keys/7f.psk }
anchors:
  - { path: ca.pem, sha256: 00ff, crl_required: true }
intermediates: [sub.pem]
crls: { locations: ["http://crl.example/a.crl", b.crl], grace_seconds: 3600 }
profile: { names: [uri], roots: ["urn:l3g-gw"], most_intermediates: 1 }
interfaces:
  - { name: nsmf, audience: "https://gate.example/nsmf" }
  - { name: scef, audience: "https://gate.example/scef" }
issuers:
  - issuer: https://as.example
    keys: https://as.example/jwks
    keys_ca: as-ca.pem
    algorithms: [ES256, RS256]
  - { issuer: "https://old.example", keys: old.jwks }
  - issuer: https://opaque.example
    introspection: { url: "https://opaque.example/i", ca: as-ca.pem, client_id: gate,
                     client_secret: as.secret, interfaces: [scef], cache_seconds: 5 }
)";

class GuardConfigTest : public testing::Test {
 protected:
  // The good configuration with one piece replaced.
  Result<GuardConfig> With(const std::string& piece = "", const std::string& instead = "") {
    std::string text = kGood;
    if (!piece.empty()) {
      EXPECT_NE(text.find(piece), std::string::npos) << piece;
      text.replace(text.find(piece), piece.size(), instead);
    }
    path_ = folder_.Write("guard.yaml", text);
    return LoadGuardConfig(path_);
  }
  [[nodiscard]] std::string Here(const std::string& name) const {
    return std::filesystem::path(path_).parent_path() / name;
  }

  TestFolder folder_;
  std::string path_;
};

TEST_F(GuardConfigTest, GoodOne) {
  const auto config = With();
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->identity, "gate.example");
  EXPECT_EQ(config->control_socket, Here("admission.sock"));
  EXPECT_EQ(config->control_user, 0U);
  ASSERT_EQ(config->certificate_listeners.size(), 1U);
  const CertificateListener& certificate = config->certificate_listeners[0];
  EXPECT_EQ(certificate.at.address, "192.0.2.1");
  EXPECT_EQ(certificate.at.port, 4433);
  EXPECT_EQ(certificate.at.limits.half_open, 100U);
  EXPECT_EQ(certificate.at.limits.open, ListenerLimits().open);
  EXPECT_EQ(certificate.at.limits.source_v6, 56U);
  EXPECT_EQ(certificate.at.limits.handshake_time, std::chrono::seconds(5));
  EXPECT_TRUE(certificate.tls.tls_1_2);
  EXPECT_EQ(certificate.tls.own[0].key, Here("guard.key"));
  ASSERT_EQ(config->psk_listeners.size(), 1U);
  EXPECT_EQ(config->psk_listeners[0].url, "https://gate.example:4434");
  EXPECT_EQ(config->psk_listeners[0].tls.hash, identity::PskHash::sha384);
  EXPECT_FALSE(config->psk_listeners[0].tls.tls_1_2);
  ASSERT_EQ(config->keys.size(), 1U);
  EXPECT_EQ(config->keys[0].peer, "gateway-7");
  EXPECT_EQ(config->keys[0].file, "/keys/7f.psk");
  EXPECT_EQ(config->keys[0].use.peer, identity::PeerRole::client);
  EXPECT_EQ(config->authorities.anchors[0].path, Here("ca.pem"));
  EXPECT_EQ(config->authorities.anchors[0].sha256, "00ff");
  EXPECT_EQ(config->authorities.intermediates[0], Here("sub.pem"));
  ASSERT_EQ(config->crls.size(), 2U);
  EXPECT_TRUE(config->crls[0].is_http());
  EXPECT_EQ(config->crls[1].text(), Here("b.crl"));
  EXPECT_EQ(config->crl_grace, std::chrono::hours(1));
  EXPECT_EQ(config->profile.name_kinds, std::vector{identity::NameKind::uri});
  EXPECT_EQ(config->profile.name_roots[0], "urn:l3g-gw");
  EXPECT_EQ(config->profile.most_intermediates, 1);
  ASSERT_EQ(config->issuers.size(), 2U);
  EXPECT_EQ(config->issuers[0].algorithms.size(), 2U);
  EXPECT_EQ(config->issuers[0].keys_ca, Here("as-ca.pem"));
  EXPECT_EQ(config->issuers[1].keys, Here("old.jwks"));
  EXPECT_EQ(config->issuers[1].algorithms, std::vector{identity::Algorithm::es256});
  EXPECT_EQ(config->issuers[1].claims.audiences.at("scef"), "https://gate.example/scef");
  ASSERT_EQ(config->introspections.size(), 1U);
  const identity::IntrospectionConfig& asked = config->introspections[0];
  EXPECT_EQ(asked.claims.issuer, "https://opaque.example");
  EXPECT_EQ(asked.claims.audiences.size(), 1U);
  EXPECT_EQ(asked.claims.audiences.at("scef"), "https://gate.example/scef");
  EXPECT_EQ(asked.endpoint.tls.ca, Here("as-ca.pem"));
  EXPECT_EQ(asked.endpoint.client_secret, Here("as.secret"));
  EXPECT_EQ(asked.cache_for, std::chrono::seconds(5));
  EXPECT_EQ(config->interfaces, (std::vector<std::string>{"nsmf", "scef"}));
}

TEST_F(GuardConfigTest, AKeyMayBeInAToken) {
  const std::string uri = "\"pkcs11:token=gate;object=tls?pin-source=file:/pin\"";
  const auto config = With("key: guard.key", "key: " + uri);
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->certificate_listeners[0].tls.own[0].key, uri.substr(1, uri.size() - 2));
}

TEST_F(GuardConfigTest, OneIssuerOfOpaqueTokensForEachInterface) {
  const std::string second =
      "keys: old.jwks, introspection: { url: \"https://o.example/i\", ca: a.pem, client_id: g, "
      "client_secret: s, interfaces: [";
  EXPECT_TRUE(With("keys: old.jwks", second + "nsmf] }"));
  const auto both = With("keys: old.jwks", second + "nsmf, scef] }");
  ASSERT_FALSE(both);
  EXPECT_NE(both.error().Text().find("another issuer is asked"), std::string::npos);
}

TEST_F(GuardConfigTest, OneKindOfListenerIsEnough) {
  EXPECT_TRUE(
      With("  psk:\n    - { address: \"2001:db8::1\", port: 4434, url: "
           "\"https://gate.example:4434\", hash: sha384 }\nlimits: { half_open: 100, "
           "source_v6: 56, handshake_seconds: 5 }\nkeys:\n  - { identity: k-7f, peer: "
           "gateway-7, tls: \"1.3\", hash: sha384, file: /keys/7f.psk }\n"));
}

TEST_F(GuardConfigTest, RefusalsNameFileLineFieldExpectedAndFound) {
  struct Case {
    const char* piece;
    const char* instead;
    const char* where;
    const char* text;
  };
  const Case cases[] = {
      {"identity: gate.example\n", "", ":1: identity", "by which name peers know this gate"},
      {"control: {", "contrl: {", ":2: contrl", "\"control\"?"},
      {"control: { socket: admission.sock, user: root }\n", "", "control", "socket and user"},
      {"socket: admission.sock, ", "", ":2: control.socket", "path"},
      {"user: root", "user: nobody-at-all", ":2: control.user", "no such user"},
      {"192.0.2.1", "gate.example", ":5: listeners.certificate[0].address", "IP address"},
      {"port: 4433", "port: 65536", ":6: listeners.certificate[0].port", "65535"},
      {"      port: 4433\n", "", "listeners.certificate[0].port", "missing"},
      {"certificates: [{ chain: guard.pem, key: guard.key }]", "certificates: []",
       ":8: listeners.certificate[0].certificates", "{chain, key}"},
      {", key: guard.key", "", ":8: listeners.certificate[0].certificates[0].key", "PEM"},
      {"https://gate.example:4434", "http://gate.example:4434", ":10: listeners.psk[0].url",
       "https"},
      {"https://gate.example:4434", "https://gate.example/a", ":10: listeners.psk[0].url",
       "without a path"},
      {"hash: sha384 }\nl", "hash: md5 }\nl", ":10: listeners.psk[0].hash", "sha256, sha384"},
      {"half_open: 100", "half_open: 0", ":11: limits.half_open", "1 to"},
      {"hash: sha384, file", "hash: sha256, file", ":13: keys[0].identity", "no PSK listener"},
      {"tls: \"1.3\"", "tls: \"1.2\"", ":13: keys[0].identity", "no PSK listener"},
      {"tls: \"1.3\"", "tls: \"1.1\"", ":13: keys[0].tls", "1.3, 1.2"},
      {"peer: gateway-7, ", "", ":13: keys[0].peer", "peer in policy"},
      {"path: ca.pem, ", "", ":15: anchors[0].path", "PEM"},
      {"http://crl", "ldap://crl", ":17: crls.locations[0]", "path or http"},
      {"crls: { locations: [\"http://crl.example/a.crl\", b.crl], grace_seconds: 3600 }\n", "",
       "crls", "nobody could come in"},
      {"names: [uri]", "names: [email]", ":18: profile.names[0]", "dns, uri, ip"},
      {"name: scef", "name: nsmf", ":21: interfaces[1].name", "twice"},
      {"name: scef", "name: Scef!", ":21: interfaces[1].name", "a-z"},
      {"gate.example/scef", "gate.example/nsmf", "issuers[0]", "another interface"},
      {"https://as.example/jwks", "http://as.example/jwks", ":23: issuers[0]", "keys"},
      {"    keys_ca: as-ca.pem\n", "", ":23: issuers[0]", "keys_ca"},
      {"[ES256, RS256]", "[HS256]", ":26: issuers[0].algorithms[0]", "ES256"},
      {"https://old.example", "https://as.example", ":27: issuers[1].issuer", "twice"},
      {"keys: old.jwks", "keys_ca: a.pem", "issuers[1].keys", "missing"},
      {"\"https://opaque.example/i\"", "\"http://opaque.example/i\"",
       ":29: issuers[2].introspection.url", "https"},
      {"ca: as-ca.pem, client", "client", "issuers[2].introspection.ca", "missing"},
      {"client_id: gate,\n", "\n", "issuers[2].introspection.client_id", "missing"},
      {"client_id: gate,", "key: a.key, client_id: gate,", "issuers[2].introspection.url",
       "either"},
      {"cache_seconds: 5", "cache_seconds: 301", ":30: issuers[2].introspection.cache_seconds",
       "300"},
      {"interfaces: [scef]", "interfaces: [none]", "introspection.interfaces[0]",
       "no such interface"},
  };
  for (const Case& c : cases) {
    const auto config = With(c.piece, c.instead);
    ASSERT_FALSE(config) << c.piece << " -> " << c.instead;
    const std::string text = config.error().Text();
    EXPECT_NE(text.find(path_), std::string::npos) << text;
    EXPECT_NE(text.find(c.where), std::string::npos) << text << "\nwanted: " << c.where;
    EXPECT_NE(text.find(c.text), std::string::npos) << text << "\nwanted: " << c.text;
  }
}

TEST_F(GuardConfigTest, WhatServersSendHasAListenerOfItsOwn) {
  const std::string good =
      "egress:\n"
      "  - { interface: nsmf, profile: nsmf.yaml, address: 10.2.0.1, port: 4480,\n"
      "      certificates: [{ chain: out.pem, key: out.key }],\n"
      "      servers: { ca: servers.pem, names: [nsmf.example] },\n"
      "      peers: { ca: peers.pem, certificate: gate.pem, key: gate.key } }\n";
  const auto with = [&](const std::string& piece, const std::string& instead) {
    std::string text = good;
    if (!piece.empty()) text.replace(text.find(piece), piece.size(), instead);
    return With("issuers:\n", text + "issuers:\n");
  };
  const auto config = with("", "");
  ASSERT_TRUE(config) << config.error().Text();
  ASSERT_EQ(config->egress.size(), 1U);
  const EgressSetting& egress = config->egress[0];
  EXPECT_EQ(egress.interface, "nsmf");
  EXPECT_EQ(egress.profile, Here("nsmf.yaml"));
  EXPECT_EQ(egress.listener.at.port, 4480);
  EXPECT_EQ(egress.server_ca, Here("servers.pem"));
  EXPECT_EQ(egress.servers, std::vector<std::string>{"nsmf.example"});
  EXPECT_EQ(egress.peers.ca, Here("peers.pem"));
  EXPECT_EQ(egress.peers.key, Here("gate.key"));
  for (const auto& [piece, instead, where] :
       {std::tuple{"names: [nsmf.example]", "names: []", "egress[0].servers.names"},
        std::tuple{"servers: { ca: servers.pem, names: [nsmf.example] },", "", "egress[0].servers"},
        std::tuple{"ca: servers.pem, ", "", "egress[0].servers.ca"},
        std::tuple{", certificate: gate.pem", "", "egress[0].peers.certificate"},
        std::tuple{"ca: peers.pem, ", "", "egress[0].peers.ca"},
        std::tuple{"interface: nsmf", "interface: NSMF", "egress[0].interface"},
        std::tuple{"profile: nsmf.yaml, ", "", "egress[0].profile"},
        std::tuple{"address: 10.2.0.1, ", "", "egress[0].address"}}) {
    const auto refused = with(piece, instead);
    ASSERT_FALSE(refused) << piece;
    EXPECT_NE(refused.error().Text().find(where), std::string::npos) << refused.error().Text();
  }
}

TEST_F(GuardConfigTest, GatewaysAskOnASocketOrAListener) {
  const std::string good =
      "decisions:\n"
      "  - { interface: nsmf, profile: nsmf.yaml, root: /n, protocol: auth_request,\n"
      "      socket: nsmf.sock, users: [root, daemon] }\n"
      "  - { interface: scef, profile: scef.yaml, protocol: ext_authz, address: 10.2.0.1,\n"
      "      port: 4490, certificates: [{ chain: in.pem, key: in.key }],\n"
      "      gateways: { ca: gateways.pem, names: [edge-1.example] } }\n";
  const auto with = [&](const std::string& piece, const std::string& instead) {
    std::string text = good;
    if (!piece.empty()) text.replace(text.find(piece), piece.size(), instead);
    return With("issuers:\n", text + "issuers:\n");
  };
  const auto config = with("", "");
  ASSERT_TRUE(config) << config.error().Text();
  ASSERT_EQ(config->decisions.size(), 2U);
  const DecisionSetting& local = config->decisions[0];
  EXPECT_EQ(local.protocol, DecisionProtocol::auth_request);
  EXPECT_EQ(local.socket, Here("nsmf.sock"));
  EXPECT_EQ(local.users, (std::map<uid_t, std::string>{{0, "root"}, {1, "daemon"}}));
  EXPECT_EQ(local.root, "/n");
  const DecisionSetting& remote = config->decisions[1];
  EXPECT_EQ(remote.protocol, DecisionProtocol::ext_authz);
  EXPECT_TRUE(remote.socket.empty());
  EXPECT_EQ(remote.listener.at.port, 4490);
  EXPECT_EQ(remote.gateway_ca, Here("gateways.pem"));
  EXPECT_EQ(remote.gateways, std::vector<std::string>{"edge-1.example"});
  EXPECT_TRUE(TakesCertificates(*config));
  for (const auto& [piece, instead, where] :
       {std::tuple{"interface: nsmf", "interface: other", "decisions[0].interface"},
        std::tuple{"protocol: auth_request,", "", "decisions[0].protocol"},
        std::tuple{"auth_request", "spoe", "decisions[0].protocol"},
        std::tuple{", users: [root, daemon]", "", "decisions[0].users"},
        std::tuple{"[root, daemon]", "[]", "decisions[0].users"},
        std::tuple{"[root, daemon]", "[nobody-there]", "decisions[0].users"},
        std::tuple{"socket: nsmf.sock, ", "", "decisions[0].users"},
        std::tuple{"root: /n", "root: n", "decisions[0].root"},
        std::tuple{"socket: nsmf.sock", "socket: nsmf.sock, port: 1", "decisions[0].port"},
        std::tuple{"socket: nsmf.sock", "socket: nsmf.sock, surplus: 1", "surplus"},
        std::tuple{"names: [edge-1.example]", "names: []", "decisions[1].gateways.names"},
        std::tuple{"ca: gateways.pem, ", "", "decisions[1].gateways.ca"},
        std::tuple{"address: 10.2.0.1,", "", "decisions[1].address"},
        std::tuple{"port: 4490,", "port: 4490, users: [root],", "decisions[1].users"}}) {
    const auto refused = with(piece, instead);
    ASSERT_FALSE(refused) << piece;
    EXPECT_NE(refused.error().Text().find(where), std::string::npos) << refused.error().Text();
  }
}

TEST_F(GuardConfigTest, WhatIsMissingAltogether) {
  const auto no_listener = With("listeners:\n  certificate:", "listeners:\n  psk: []\nprofile2:");
  EXPECT_FALSE(no_listener);
  const auto none = LoadGuardConfig(folder_.Write("empty.yaml", "identity: gate\n"));
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().Text().find("control"), std::string::npos);
  EXPECT_FALSE(LoadGuardConfig("/nowhere/guard.yaml"));
  EXPECT_FALSE(LoadGuardConfig(folder_.Write("broken.yaml", "identity: [")));
}

// The commented default must load, but for the user that the packages create.
TEST_F(GuardConfigTest, TheShippedOneIsSound) {
  std::ifstream file(SHIPPED_CONFIG);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string user = "user: portcullis-control";
  ASSERT_NE(text.find(user), std::string::npos);
  text.replace(text.find(user), user.size(), "user: root");
  const auto config = LoadGuardConfig(folder_.Write("guard.yaml", text));
  ASSERT_TRUE(config) << config.error().Text();
}

// One listener for requests, in place of nothing.
std::string Requests(const std::string& door, const std::string& server = "") {
  return "requests:\n  - { interface: nsmf, profile: p.yaml, address: 192.0.2.1, port: 4443, " +
         door +
         ",\n      server: { url: \"https://nsmf.example\", ca: ca.pem, certificate: c.pem, key: "
         "c.key" +
         server + " } }\nlimits:";
}

TEST_F(GuardConfigTest, RequestsOfClientsWithCertificatesOrWithKeys) {
  auto config = With("limits:", Requests("certificates: [{ chain: a.pem, key: a.key }]"));
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_FALSE(config->requests[0].psk);
  EXPECT_EQ(config->requests[0].url, "");
  EXPECT_EQ(config->requests[0].at().port, 4443);
  EXPECT_TRUE(config->requests[0].at().device.empty());
  config =
      With("limits:", Requests("device: guard0, certificates: [{ chain: a.pem, key: a.key }]"));
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->requests[0].at().device, "guard0");
  config = With("limits:", Requests("psk: true, url: \"https://gate.example:4443\", hash: sha384"));
  ASSERT_TRUE(config) << config.error().Text();
  ASSERT_TRUE(config->requests[0].psk);
  EXPECT_EQ(config->requests[0].url, "https://gate.example:4443");
  EXPECT_EQ(config->requests[0].at().port, 4443);
  const std::string url = "url: \"https://gate.example:4443\"";
  config =
      With("limits:", Requests("certificates: [{ chain: a.pem, key: a.key }], dpop: true, " + url));
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_FALSE(config->requests[0].psk);
  EXPECT_EQ(config->requests[0].url, "https://gate.example:4443");
  for (const auto& [door, field] :
       {std::pair<std::string, std::string>("psk: true", "url"),
        {"psk: true, url: \"https://gate.example/path\"", "url"},
        {"psk: true, " + url + ", certificates: [{ chain: a.pem, key: a.key }]", "certificates"},
        {"certificates: [{ chain: a.pem, key: a.key }], " + url, "url"},
        {"certificates: [{ chain: a.pem, key: a.key }], dpop: true", "url"},
        {"certificates: [{ chain: a.pem, key: a.key }], dpop: false, " + url, "url"},
        {"psk: true, dpop: true, " + url, "dpop"},
        {"certificates: [{ chain: a.pem, key: a.key }], hash: sha256", "hash"},
        {"certificates: [{ chain: a.pem, key: a.key }], device: \"\"", "device"},
        {"certificates: [{ chain: a.pem, key: a.key }], device: sixteen-letters0", "device"}}) {
    config = With("limits:", Requests(door));
    ASSERT_FALSE(config) << door;
    EXPECT_NE(config.error().Text().find(field), std::string::npos) << config.error().Text();
  }
}

TEST_F(GuardConfigTest, ServersThatWantTokensOfTheirOwn) {
  const auto with = [&](const std::string& exchange) {
    return With("limits:", Requests("certificates: [{ chain: a.pem, key: a.key }]",
                                    ", exchange: { " + exchange + " }"));
  };
  const std::string place = "url: \"https://as.example/token\", ca: as.pem, client_id: gate";
  const std::string whom = ", audience: nsmf, resource: \"https://nsmf.example\"";
  EXPECT_FALSE(With("limits:", Requests("certificates: [{ chain: a.pem, key: a.key }]"))
                   ->requests[0]
                   .exchange);
  auto config = with(place + whom + ", certificate: c.pem, key: c.key, scope: \"a b\"");
  ASSERT_TRUE(config) << config.error().Text();
  const identity::TokenExchangeConfig& exchange = *config->requests[0].exchange;
  EXPECT_EQ(exchange.endpoint.url, "https://as.example/token");
  EXPECT_EQ(exchange.endpoint.tls.ca, Here("as.pem"));
  EXPECT_EQ(exchange.endpoint.tls.key, Here("c.key"));
  EXPECT_EQ(exchange.endpoint.client_id, "gate");
  EXPECT_EQ(exchange.audience, "nsmf");
  EXPECT_EQ(exchange.resource, "https://nsmf.example");
  EXPECT_EQ(exchange.scope, "a b");
  config = with(place + ", audience: nsmf, client_secret: as.secret");
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->requests[0].exchange->endpoint.client_secret, Here("as.secret"));
  const std::string by = ", client_secret: as.secret";
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {place + by, "audience"},
      {place + whom, "exchange.url"},
      {place + whom + by + ", key: c.key", "exchange.url"},
      {"url: \"https://as.example/token\", ca: as.pem" + whom + by, "client_id"},
      {"url: \"http://as.example/token\", client_id: gate" + whom + by, "exchange.url"},
      {"url: \"https://as.example/token\", client_id: gate" + whom + by, "exchange.ca"},
      {place + by + ", resource: nsmf", "resource"},
      {place + by + ", resource: \"https://nsmf.example#a\"", "resource"},
      {place + whom + by + ", actor: a", "actor"}};
  for (const auto& [text, field] : wrong) {
    config = with(text);
    ASSERT_FALSE(config) << text;
    EXPECT_NE(config.error().Text().find(field), std::string::npos) << config.error().Text();
  }
}

}  // namespace
}  // namespace portcullis::guard
