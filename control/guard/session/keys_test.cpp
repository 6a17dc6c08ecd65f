#include "control/guard/session/keys.hpp"

#include <gtest/gtest.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "control/guard/session/test_pki.hpp"

namespace portcullis::guard {
namespace {

using nlohmann::json;

// ---- the vectors of docs/session-keys.md

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  }
  return out;
}

std::array<uint8_t, kNonceBytes> Nonce(const std::string& hex) {
  std::array<uint8_t, kNonceBytes> out{};
  const auto bytes = FromHex(hex);
  EXPECT_EQ(bytes.size(), out.size());
  std::copy_n(bytes.begin(), out.size(), out.begin());
  return out;
}

std::optional<Prefix> PrefixOf(const json& text) {
  if (text.is_null()) return std::nullopt;
  return *Prefix::Parse(text.get<std::string>());
}

Algorithm AlgorithmNamed(const std::string& name) {
  for (size_t i = 0; i < kAlgorithms.size(); ++i) {
    if (kAlgorithms[i].name == name) return static_cast<Algorithm>(i);
  }
  throw std::invalid_argument(name);
}

KeyContext ContextOf(const json& v) {
  KeyContext c;
  c.tls_version = v["tls_version"];
  c.mode = static_cast<Mode>(v["mode"].get<int>());
  c.gate_identity = v["gate"];
  c.peer_identity = v["peer"];
  c.interface = v["interface"];
  c.session_id = v["session"];
  c.generation = v["generation"];
  c.to_gate = Spi{v["to_gate"].get<uint32_t>()};
  c.to_peer = Spi{v["to_peer"].get<uint32_t>()};
  c.algorithm = AlgorithmNamed(v["algorithm"]);
  c.esn = v["esn"];
  for (const json& s : v["selectors"]) {
    c.selectors.push_back({PrefixOf(s["gate"]),
                           PrefixOf(s["peer"]),
                           s["protocol"],
                           {s["gate_ports"][0], s["gate_ports"][1]},
                           {s["peer_ports"][0], s["peer_ports"][1]}});
  }
  c.gate_nonce = Nonce(v["gate_nonce"]);
  c.peer_nonce = Nonce(v["peer_nonce"]);
  return c;
}

std::string ReadPage() {
  std::ostringstream all;
  all << std::ifstream(PORTCULLIS_DOCS "/session-keys.md").rdbuf();
  return all.str();
}

std::vector<uint8_t> Copy(const Result<Secret>& secret) {
  EXPECT_TRUE(secret);
  return {secret->bytes().begin(), secret->bytes().end()};
}

TEST(KeyVectors, HoldForTheCode) {
  const std::string page = ReadPage();
  const auto begin = page.find("```json") + std::string("```json").size();
  const json vectors = json::parse(page.substr(begin, page.find("```", begin) - begin));
  ASSERT_GE(vectors.size(), 2U);
  for (const json& v : vectors) {
    const KeyContext context = ContextOf(v);
    const auto encoded = Encode(context);
    EXPECT_EQ(encoded, FromHex(v["context"]));
    std::vector<uint8_t> hash(SHA256_DIGEST_LENGTH);
    SHA256(encoded.data(), encoded.size(), hash.data());
    EXPECT_EQ(hash, FromHex(v["hash"]));
    const MasterKey master(Secret(FromHex(v["master"])));
    EXPECT_EQ(Copy(master.Expand(Direction::inbound, context.to_gate, context.algorithm)),
              FromHex(v["key_to_gate"]));
    EXPECT_EQ(Copy(master.Expand(Direction::outbound, context.to_peer, context.algorithm)),
              FromHex(v["key_to_peer"]));
  }
}

TEST(KeyVectors, PageNamesLabelAndLengths) {
  const std::string page = ReadPage();
  EXPECT_NE(page.find("\"" + std::string(kExporterLabel) + "\""), std::string::npos);
  for (const AlgorithmInfo& a : kAlgorithms) {
    EXPECT_NE(page.find(fmt::format("| {} | {} |", a.name, a.key_bytes)), std::string::npos)
        << a.name;
  }
}

// ---- what the context binds

KeyContext SomeContext() {
  KeyContext c;
  c.tls_version = TLS1_3_VERSION;
  c.gate_identity = "gate.example";
  c.peer_identity = "csmf.example";
  c.interface = "nsmf";
  c.session_id = "s-1";
  c.generation = 1;
  c.to_gate = Spi{0x1001};
  c.to_peer = Spi{0x1002};
  c.selectors = {{*Prefix::Parse("192.0.2.0/24"), *Prefix::Parse("10.0.0.0/8"), 6, {443, 443}, {}}};
  return c;
}

TEST(KeyContextEncoding, EveryFieldCounts) {
  using Change = void (*)(KeyContext&);
  const std::vector<Change> changes = {
      [](KeyContext& c) { c.tls_version = TLS1_2_VERSION; },
      [](KeyContext& c) { c.mode = Mode::psk; },
      [](KeyContext& c) { c.gate_identity = "gate.exampl"; },
      [](KeyContext& c) { c.peer_identity = "csmf.exampleX"; },
      [](KeyContext& c) { c.interface = ""; },
      [](KeyContext& c) { c.session_id = "s-2"; },
      [](KeyContext& c) { c.generation = 2; },
      [](KeyContext& c) { c.to_gate = Spi{0x1003}; },
      [](KeyContext& c) { c.to_peer = Spi{0x1003}; },
      [](KeyContext& c) { std::swap(c.to_gate, c.to_peer); },
      [](KeyContext& c) { c.algorithm = Algorithm::aes_256_gcm_16; },
      [](KeyContext& c) { c.esn = false; },
      [](KeyContext& c) { c.selectors.clear(); },
      [](KeyContext& c) { c.selectors.push_back(c.selectors[0]); },
      [](KeyContext& c) { c.selectors[0].behind_gate.reset(); },
      [](KeyContext& c) { std::swap(c.selectors[0].behind_gate, c.selectors[0].behind_peer); },
      [](KeyContext& c) { c.selectors[0].protocol = 17; },
      [](KeyContext& c) { std::swap(c.selectors[0].gate_ports, c.selectors[0].peer_ports); },
      [](KeyContext& c) { c.gate_nonce[31] = 1; },
      [](KeyContext& c) { c.peer_nonce[0] = 1; },
      // Bytes that move from one field to the next.
      [](KeyContext& c) { c.gate_identity += "c", c.peer_identity.erase(0, 1); },
  };
  std::vector<std::vector<uint8_t>> seen = {Encode(SomeContext())};
  EXPECT_EQ(Encode(SomeContext()), seen[0]);
  for (const Change& change : changes) {
    KeyContext changed = SomeContext();
    change(changed);
    const auto encoded = Encode(changed);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), encoded), 0) << "change " << seen.size();
    seen.push_back(encoded);
  }
}

TEST(KeyContextEncoding, AnyIpv4IsNotAnyIpv6) {
  KeyContext v4 = SomeContext();
  KeyContext v6 = SomeContext();
  v4.selectors[0].behind_peer = *Prefix::Parse("0.0.0.0/0");
  v6.selectors[0].behind_peer = *Prefix::Parse("::/0");
  EXPECT_NE(Encode(v4), Encode(v6));
}

// ---- both ends of real connections

// A client and a server that are connected through memory.
class Pair {
 public:
  explicit Pair(int version, bool extended_master_secret = true, bool finish = true) {
    const Credential self = Issue("gate.example", MakeEcKey(), nullptr);
    for (SSL_CTX* ctx : {server_ctx_.get(), client_ctx_.get()}) {
      SSL_CTX_set_min_proto_version(ctx, version);
      SSL_CTX_set_max_proto_version(ctx, version);
    }
    if (!extended_master_secret) {
      SSL_CTX_set_options(client_ctx_.get(), SSL_OP_NO_EXTENDED_MASTER_SECRET);
    }
    SSL_CTX_use_certificate(server_ctx_.get(), self.certificate.get());
    SSL_CTX_use_PrivateKey(server_ctx_.get(), self.key.get());
    gate_.reset(SSL_new(server_ctx_.get()));
    peer_.reset(SSL_new(client_ctx_.get()));
    BIO* one = nullptr;
    BIO* other = nullptr;
    BIO_new_bio_pair(&one, 0, &other, 0);
    SSL_set_bio(gate_.get(), one, one);
    SSL_set_bio(peer_.get(), other, other);
    SSL_set_accept_state(gate_.get());
    SSL_set_connect_state(peer_.get());
    constexpr int kEnoughFlights = 10;
    for (int i = 0; finish && i < kEnoughFlights; ++i) {
      SSL_do_handshake(peer_.get());
      SSL_do_handshake(gate_.get());
    }
    EXPECT_EQ(SSL_is_init_finished(gate_.get()), finish ? 1 : 0);
  }
  SSL* gate() { return gate_.get(); }
  SSL* peer() { return peer_.get(); }

 private:
  CtxPtr server_ctx_{SSL_CTX_new(TLS_server_method())};
  CtxPtr client_ctx_{SSL_CTX_new(TLS_client_method())};
  SslPtr gate_;
  SslPtr peer_;
};

std::vector<uint8_t> KeyOf(SSL* connection, const KeyContext& context) {
  const auto master = MasterKey::Export(connection, context);
  if (!master) {
    ADD_FAILURE() << master.error().Text();
    return {};
  }
  return Copy(master->Expand(Direction::inbound, context.to_gate, context.algorithm));
}

class KeyExport : public testing::TestWithParam<int> {
 protected:
  static KeyContext Context() {
    KeyContext c = SomeContext();
    c.tls_version = static_cast<uint16_t>(GetParam());
    return c;
  }
};

TEST_P(KeyExport, BothEndsGetTheSameKey) {
  Pair pair(GetParam());
  const auto key = KeyOf(pair.gate(), Context());
  EXPECT_EQ(key.size(), Info(Context().algorithm).key_bytes);
  EXPECT_EQ(key, KeyOf(pair.peer(), Context()));
}

TEST_P(KeyExport, AnotherOpinionGivesAnotherKey) {
  Pair pair(GetParam());
  KeyContext talked_into = Context();
  talked_into.peer_identity = "somebody else";
  EXPECT_NE(KeyOf(pair.gate(), Context()), KeyOf(pair.peer(), talked_into));
}

TEST_P(KeyExport, AnotherConnectionGivesAnotherKey) {
  Pair first(GetParam());
  Pair second(GetParam());
  EXPECT_NE(KeyOf(first.gate(), Context()), KeyOf(second.gate(), Context()));
}

TEST_P(KeyExport, SecondTimeIsRefused) {
  Pair pair(GetParam());
  for (SSL* end : {pair.gate(), pair.peer()}) {
    EXPECT_TRUE(MasterKey::Export(end, Context()));
    KeyContext next = Context();
    next.generation = 2;
    const auto again = MasterKey::Export(end, next);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().kind, ErrorKind::kConflict);
  }
}

TEST_P(KeyExport, BeforeTheHandshakeIsRefused) {
  Pair pair(GetParam(), true, false);
  EXPECT_FALSE(MasterKey::Export(pair.gate(), Context()));
}

TEST_P(KeyExport, WrongVersionInTheContextIsRefused) {
  Pair pair(GetParam());
  KeyContext wrong = Context();
  wrong.tls_version = GetParam() == TLS1_3_VERSION ? TLS1_2_VERSION : TLS1_3_VERSION;
  EXPECT_FALSE(MasterKey::Export(pair.gate(), wrong));
  EXPECT_TRUE(MasterKey::Export(pair.gate(), Context()));
}

INSTANTIATE_TEST_SUITE_P(Versions, KeyExport, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& info) {
                           return info.param == TLS1_3_VERSION ? "Tls13" : "Tls12";
                         });

TEST(KeyExport12, WithoutExtendedMasterSecretIsRefused) {
  KeyContext context = SomeContext();
  context.tls_version = TLS1_2_VERSION;
  Pair without(TLS1_2_VERSION, false);
  EXPECT_FALSE(MasterKey::Export(without.gate(), context));
  Pair with(TLS1_2_VERSION, true);
  EXPECT_TRUE(MasterKey::Export(with.gate(), context));
}

TEST(MasterKeyTest, DirectionSpiAndAlgorithmSeparateKeys) {
  const MasterKey master(Secret(std::vector<uint8_t>(kMasterBytes, 7)));
  const auto key = [&](Direction d, uint32_t spi) {
    return Copy(master.Expand(d, Spi{spi}, Algorithm::aes_128_gcm_16));
  };
  EXPECT_EQ(key(Direction::inbound, 256), key(Direction::inbound, 256));
  EXPECT_NE(key(Direction::inbound, 256), key(Direction::outbound, 256));
  EXPECT_NE(key(Direction::inbound, 256), key(Direction::inbound, 257));
  for (size_t a = 0; a < kAlgorithms.size(); ++a) {
    EXPECT_EQ(Copy(master.Expand(Direction::inbound, Spi{256}, static_cast<Algorithm>(a))).size(),
              kAlgorithms[a].key_bytes);
  }
}

}  // namespace
}  // namespace portcullis::guard
