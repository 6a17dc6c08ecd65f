// What somebody may try who knows the source: each case is a way that once led past a check, made a
// check cost what it should save, or turned a defence against the one whom it should defend.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

constexpr uint16_t kWire = TestGate::kWire;
constexpr uint16_t kCore = TestGate::kCore;
constexpr uint32_t kSpi = 0x1001;
constexpr size_t kIpAt = 14;

inline Bytes Ipv6Packet(const char* from, const char* to, uint8_t next, const Bytes& payload,
                        uint8_t hop_limit = 64) {
  Bytes packet(40);
  packet[0] = 0x60;
  packet[4] = static_cast<uint8_t>(payload.size() >> 8U);
  packet[5] = static_cast<uint8_t>(payload.size());
  packet[6] = next;
  packet[7] = hop_limit;
  std::ranges::copy(Address::Parse(from)->bytes(), packet.begin() + 8);
  std::ranges::copy(Address::Parse(to)->bytes(), packet.begin() + 24);
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}
const Bytes kUdp = {0x9c, 0x40, 0x1f, 0x90, 0, 12, 0, 0, 1, 2, 3, 4};  // 40000 → 8080

/// The same packet, as if from elsewhere.
inline Bytes From(Bytes frame, const char* source) {
  std::memcpy(&frame[kIpAt + 12], Address::Parse(source)->wire().data(), 4);
  SetIpv4Checksum(&frame[kIpAt]);
  return frame;
}
/// ESP in UDP (RFC 3948) from `port` to 4500.
inline Bytes InUdp(const Bytes& frame, uint16_t port) {
  const auto length = static_cast<uint16_t>(frame.size() - kIpAt - 20 + 8);
  Bytes out(frame.begin(), frame.begin() + kIpAt + 20);
  for (const uint16_t word : {port, uint16_t{4500}, length, uint16_t{0}}) {
    out.push_back(static_cast<uint8_t>(word >> 8U));
    out.push_back(static_cast<uint8_t>(word));
  }
  out.insert(out.end(), frame.begin() + kIpAt + 20, frame.end());
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(&out[kIpAt]);
  ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(20 + length));
  ip->next_proto_id = 17;
  SetIpv4Checksum(&out[kIpAt]);
  return out;
}
inline Bytes Forged(Bytes frame) {
  frame.back() ^= 1;
  return frame;
}

struct Hostile : ::testing::Test {
  TestGate gate;
  std::unique_ptr<TestSender> sender;

  void Start(const TestGate::SaOptions& options = {}) {
    gate.Policy();
    const Bytes key = gate.AddSa("in", Direction::inbound, kSpi, options);
    sender = std::make_unique<TestSender>(options.algorithm, key, kSpi, options.esn);
  }
};

// Removing an SA waits for a worker that naps while a packet of that SA waits for its neighbour.
TEST_F(Hostile, RemovalWaitsForPacketsThatWait) {
  gate.Policy();
  gate.Resolve(kCore, false);
  gate.Start();
  for (uint32_t i = 1; i <= 20; ++i) {
    const std::vector<std::string> id = {"in"};
    const Bytes key = gate.AddSa(id[0], Direction::inbound, kSpi + i, {});
    TestSender from(Algorithm::aes_128_gcm_16, key, kSpi + i, true);
    ASSERT_TRUE(gate.Offer(kWire, from.Seal(InnerPacket(64), 1)));
    for (int tries = 0; gate.Told().empty(); ++tries) {
      ASSERT_LT(tries, 2000);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_EQ(gate.state().RemoveSas(id), 1U);
    ASSERT_EQ(gate.Count(Verdict::no_neighbour), i);
  }
}

}  // namespace
}  // namespace portcullis
