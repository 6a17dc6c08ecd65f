#include "dataplane/packet/rewrite.hpp"

#include <gtest/gtest.h>
#include <rte_ip.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace portcullis {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Ipv4Tcp(Bytes options, uint8_t flags) {
  while (options.size() % 4 != 0) options.push_back(1);
  const auto tcp = static_cast<uint8_t>(20 + options.size());
  Bytes packet = {
      0x45, 0, 0, static_cast<uint8_t>(20 + tcp), 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 2, 10,
      2,    0, 10};
  Bytes header = {
      0x12,  0x34, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, static_cast<uint8_t>(tcp / 4 << 4U),
      flags, 0xff, 0xff, 0,    0, 0, 0};
  packet.insert(packet.end(), header.begin(), header.end());
  packet.insert(packet.end(), options.begin(), options.end());
  SetIpv4Checksum(packet.data());
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(packet.data());
  const uint16_t sum = rte_ipv4_udptcp_cksum(ip, packet.data() + 20);
  std::memcpy(&packet[36], &sum, 2);
  return packet;
}

bool TcpChecksumValid(const Bytes& packet) {
  Bytes zeroed = packet;
  zeroed[36] = zeroed[37] = 0;
  const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(zeroed.data());
  const uint16_t sum = rte_ipv4_udptcp_cksum(ip, zeroed.data() + 20);
  return std::memcmp(&sum, &packet[36], sizeof(sum)) == 0;
}

constexpr uint8_t kSyn = 0x02;
constexpr uint8_t kAck = 0x10;

TEST(Ttl, IsDecrementedWithTheChecksum) {
  Bytes packet = Ipv4Tcp({}, kAck);
  for (int ttl = 64; ttl > 1; --ttl) {
    ASSERT_TRUE(DecrementTtl(packet.data()));
    ASSERT_TRUE(Ipv4ChecksumValid(packet.data())) << ttl;
  }
  const Bytes before = packet;
  EXPECT_FALSE(DecrementTtl(packet.data()));
  EXPECT_EQ(packet, before);
}

TEST(TrafficClass, EveryValueKeepsTheChecksum) {
  Bytes packet = Ipv4Tcp({}, kAck);
  for (int value = 0; value < 256; ++value) {
    SetTrafficClass(packet.data(), static_cast<uint8_t>(value));
    EXPECT_EQ(packet[1], value);
    EXPECT_TRUE(Ipv4ChecksumValid(packet.data())) << value;
  }
}

// RFC 6040 figure 4: rows inner, columns outer (not-ECT, ECT(0), ECT(1), CE); -1: drop.
TEST(Ecn, CombinesAsRfc6040Says) {
  constexpr int kNot = 0, kEct1 = 1, kEct0 = 2, kCe = 3;
  struct {
    int inner, outer, result;
  } const table[] = {
      {kNot, kNot, kNot},   {kNot, kEct0, kNot},   {kNot, kEct1, kNot},   {kNot, kCe, -1},
      {kEct0, kNot, kEct0}, {kEct0, kEct0, kEct0}, {kEct0, kEct1, kEct1}, {kEct0, kCe, kCe},
      {kEct1, kNot, kEct1}, {kEct1, kEct0, kEct1}, {kEct1, kEct1, kEct1}, {kEct1, kCe, kCe},
      {kCe, kNot, kCe},     {kCe, kEct0, kCe},     {kCe, kEct1, kCe},     {kCe, kCe, kCe},
  };
  for (const auto& row : table) {
    auto inner = static_cast<uint8_t>(0xb8 | row.inner);  // DSCP EF stays
    const bool kept = CombineEcn(static_cast<uint8_t>(row.outer), inner);
    EXPECT_EQ(kept, row.result >= 0) << row.inner << row.outer;
    EXPECT_TRUE(!kept || inner == (0xb8 | row.result)) << row.inner << row.outer;
  }
}

TEST(Mss, IsLoweredInSynsWithTheChecksum) {
  for (const Bytes& options : {Bytes{2, 4, 5, 180}, Bytes{1, 2, 4, 5, 180},
                               Bytes{3, 3, 7, 2, 4, 5, 180}, Bytes{1, 1, 2, 4, 5, 180}}) {
    Bytes packet = Ipv4Tcp(options, kSyn);
    ASSERT_TRUE(TcpChecksumValid(packet));
    ClampMss(packet, 20, 1300);
    EXPECT_TRUE(TcpChecksumValid(packet));
    const Bytes wanted = {2, 4, 1300 >> 8, 1300 & 0xff};
    EXPECT_NE(std::search(packet.begin(), packet.end(), wanted.begin(), wanted.end()),
              packet.end());
  }
}

TEST(Mss, LeavesEverythingElseAlone) {
  const Bytes small = Ipv4Tcp({2, 4, 2, 0}, kSyn);       // 512 is below already
  const Bytes later = Ipv4Tcp({2, 4, 5, 180}, kAck);     // no SYN
  const Bytes broken = Ipv4Tcp({2, 200, 5, 180}, kSyn);  // the option's length lies
  for (const Bytes& good : {small, later, broken}) {
    Bytes packet = good;
    ClampMss(packet, 20, 1300);
    EXPECT_EQ(packet, good);
  }
}

}  // namespace
}  // namespace portcullis
