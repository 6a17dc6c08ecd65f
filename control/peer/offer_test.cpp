#include "control/peer/offer.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "control/guard/session/messages.hpp"
#include "control/identity/token/encoding.hpp"

namespace portcullis::peer {
namespace {

using nlohmann::json;

guard::SessionSelector Selector(const char* gate, const char* peer, uint8_t protocol,
                                guard::SessionSelector::Ports gate_ports = {}) {
  guard::SessionSelector selector;
  if (gate != nullptr) selector.behind_gate = *Prefix::Parse(gate);
  if (peer != nullptr) selector.behind_peer = *Prefix::Parse(peer);
  selector.protocol = protocol;
  selector.gate_ports = gate_ports;
  return selector;
}

Asked Request() {
  Asked asked;
  asked.interface = "nsmf";
  asked.algorithms = {Algorithm::aes_256_gcm_16, Algorithm::chacha20_poly1305};
  asked.selectors = {Selector("10.2.0.0/24", "10.1.0.0/28", 6, {400, 500}),
                     Selector("10.3.0.0/24", "10.1.0.0/28", 0)};
  asked.to_peer = Spi{0x2001};
  asked.nonce.fill(7);
  asked.gate_identity = "gate.example";
  asked.peer_identity = "csmf-1.example";
  return asked;
}

json GoodOffer() {
  const std::array<uint8_t, guard::kNonceBytes> nonce{9};
  return {{"session", "s-1"},
          {"generation", 1},
          {"interface", "nsmf"},
          {"spi", 0x10000001},
          {"algorithm", "chacha20-poly1305"},
          {"esn", true},
          {"replay_window", 1024},
          {"selectors",
           {{{"gate", "10.2.0.10/32"},
             {"peer", "10.1.0.2/32"},
             {"protocol", 6},
             {"gate_ports", {443, 443}},
             {"peer_ports", {0, 65535}}}}},
          {"expires_in", 900},
          {"nonce", identity::EncodeBase64Url(nonce)},
          {"gate_identity", "gate.example"},
          {"peer_identity", "csmf-1.example"}};
}

Result<Offer> With(const std::function<void(json&)>& change, const Asked& asked = Request()) {
  json answer = GoodOffer();
  change(answer);
  return ReadOffer(answer.dump(), asked);
}

// The answer, changed so, is refused with this kind and at this place.
void Refuses(ErrorKind kind, const char* where, const std::function<void(json&)>& change,
             const Asked& asked = Request()) {
  const auto offer = With(change, asked);
  ASSERT_FALSE(offer) << where;
  EXPECT_EQ(offer.error().kind, kind) << offer.error().Text();
  EXPECT_TRUE(offer.error().where.starts_with(where)) << offer.error().Text();
}

TEST(Offer, GoodOne) {
  const auto offer = With([](json& a) { a["later"] = "unknown members are no harm"; });
  ASSERT_TRUE(offer) << offer.error().Text();
  const guard::KeyContext& agreed = offer->agreed;
  EXPECT_EQ(agreed.session_id, "s-1");
  EXPECT_EQ(agreed.generation, 1U);
  EXPECT_EQ(agreed.to_gate, Spi{0x10000001});
  EXPECT_EQ(agreed.to_peer, Spi{0x2001});
  EXPECT_EQ(agreed.algorithm, Algorithm::chacha20_poly1305);
  EXPECT_EQ(agreed.gate_nonce[0], 9);
  EXPECT_EQ(agreed.peer_nonce[0], 7);
  ASSERT_EQ(agreed.selectors.size(), 1U);
  EXPECT_EQ(agreed.selectors[0].behind_gate->Text(), "10.2.0.10/32");
  EXPECT_EQ(offer->replay_window, 1024U);
  EXPECT_EQ(offer->life, std::chrono::seconds(900));
}

// The gate's own text is read, and gives the context that the gate has.
TEST(Offer, TheGatesOwnAnswerIsRead) {
  Asked asked = Request();
  guard::KeyContext gate;
  gate.gate_identity = asked.gate_identity;
  gate.peer_identity = asked.peer_identity;
  gate.interface = asked.interface;
  gate.session_id = "s-2";
  gate.generation = 3;
  gate.to_gate = Spi{4711};
  gate.to_peer = asked.to_peer;
  gate.algorithm = Algorithm::aes_256_gcm_16;
  gate.selectors = {Selector("10.3.0.0/25", "10.1.0.1/32", 17, {5683, 5684})};
  gate.gate_nonce.fill(1);
  gate.peer_nonce = asked.nonce;
  const auto offer = ReadOffer(guard::AnswerText(gate, 1024, std::chrono::seconds(60)), asked);
  ASSERT_TRUE(offer) << offer.error().Text();
  EXPECT_EQ(guard::Encode(offer->agreed).size(), guard::Encode(gate).size());
  guard::KeyContext read = offer->agreed;
  read.tls_version = gate.tls_version;
  read.mode = gate.mode;
  EXPECT_EQ(guard::Encode(read), guard::Encode(gate));
}

TEST(Offer, TheGateReadsTheRequest) {
  const Asked asked = Request();
  const auto request =
      guard::ParseSessionRequest(RequestText(asked, {true, true, "192.0.2.2", "192.0.2.1"}));
  ASSERT_TRUE(request) << request.error().Text();
  EXPECT_EQ(request->interface, "nsmf");
  EXPECT_EQ(request->spi, asked.to_peer);
  EXPECT_EQ(request->algorithms, asked.algorithms);
  EXPECT_EQ(request->nonce, asked.nonce);
  EXPECT_TRUE(request->initial_contact && request->udp_encap && request->session.empty());
  EXPECT_EQ(request->outer_gate->Text(), "192.0.2.1");
  Asked renewal = asked;
  renewal.session = "s-1";
  const auto second = guard::ParseSessionRequest(RequestText(renewal, {}));
  ASSERT_TRUE(second) << second.error().Text();
  EXPECT_EQ(second->session, "s-1");
  EXPECT_FALSE(second->initial_contact || second->udp_encap || second->outer_peer);
}

TEST(Offer, WhatWasNotAskedForIsRefused) {
  const auto refuses = [](const char* member, const json& value) {
    Refuses(ErrorKind::kForbidden, (std::string("/") + member).c_str(),
            [&](json& a) { a[member] = value; });
  };
  refuses("gate_identity", "other.example");
  refuses("peer_identity", "csmf-2.example");
  refuses("interface", "scef");
  refuses("session", "../s-1");
  refuses("session", std::string(65, 'a'));
  refuses("algorithm", "aes-128-gcm-16");
  refuses("algorithm", "null");
  refuses("esn", false);
}

TEST(Offer, ARenewalIsOfTheSameSessionAndLater) {
  Asked renewal = Request();
  renewal.session = "s-1";
  renewal.last_generation = 4;
  Refuses(
      ErrorKind::kForbidden, "/generation", [](json& a) { a["generation"] = 4; }, renewal);
  Refuses(
      ErrorKind::kForbidden, "/session",
      [](json& a) {
        a["generation"] = 5;
        a["session"] = "s-2";
      },
      renewal);
  EXPECT_TRUE(With([](json& a) { a["generation"] = 5; }, renewal));
}

TEST(Offer, MoreThanIsConfiguredIsRefused) {
  const auto refuses = [](const char* member, const json& value) {
    Refuses(ErrorKind::kForbidden, "/selectors",
            [&](json& a) { a["selectors"][0][member] = value; });
  };
  refuses("gate", "10.2.0.0/23");
  refuses("gate", "10.4.0.0/32");
  refuses("gate", nullptr);
  refuses("peer", "10.1.0.0/27");
  refuses("peer", nullptr);
  refuses("peer", "2001:db8::/128");
  refuses("protocol", 17);
  refuses("protocol", 0);
  refuses("gate_ports", {443, 501});
  refuses("gate_ports", {0, 65535});
  // One good one does not excuse another.
  Refuses(ErrorKind::kForbidden, "/selectors", [](json& a) {
    json second = a["selectors"][0];
    second["protocol"] = 17;
    a["selectors"].push_back(second);
  });
  EXPECT_TRUE(With([](json& a) { a["selectors"][0]["gate"] = "10.2.0.0/24"; }));
  EXPECT_TRUE(With([](json& a) {
    a["selectors"][0]["gate"] = "10.3.0.0/24";  // the second one configured admits any protocol
    a["selectors"][0]["protocol"] = 0;
    a["selectors"][0]["gate_ports"] = {0, 65535};
  }));
}

TEST(Offer, WhatIsNotOfTheFormIsRefused) {
  for (const char* member :
       {"session", "generation", "interface", "spi", "algorithm", "replay_window", "selectors",
        "expires_in", "nonce", "gate_identity", "peer_identity"}) {
    Refuses(ErrorKind::kInvalid, "/", [&](json& a) { a.erase(member); });
    Refuses(ErrorKind::kInvalid, "/", [&](json& a) { a[member] = json::object(); });
  }
  const auto refuses = [](const char* member, const json& value) {
    Refuses(ErrorKind::kInvalid, "/", [&](json& a) { a[member] = value; });
  };
  refuses("spi", 255);
  refuses("spi", 0x100000000);
  refuses("replay_window", 0);
  refuses("replay_window", 63);
  refuses("replay_window", 8193);
  refuses("expires_in", 0);
  refuses("generation", 0);
  refuses("nonce", "AAAA");
  refuses("selectors", json::array());
  for (const json& ports : {json({2, 1}), json({1}), json({0, 65536}), json("any")}) {
    Refuses(ErrorKind::kInvalid, "/selectors/0/gate_ports",
            [&](json& a) { a["selectors"][0]["gate_ports"] = ports; });
  }
  EXPECT_FALSE(ReadOffer("", Request()));
  EXPECT_FALSE(ReadOffer("[]", Request()));
  EXPECT_TRUE(With([](json&) {}));
}

}  // namespace
}  // namespace portcullis::peer
