#include "dataplane/packet/flow.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "dataplane/packet/rewrite.hpp"

namespace portcullis {
namespace {

using Bytes = std::vector<uint8_t>;

// 10.1.0.2:0x1234 → 10.2.0.10:8080, 8 bytes of TCP ports and sequence.
Bytes Ipv4(uint8_t protocol, Bytes payload) {
  const auto length = static_cast<uint8_t>(20 + payload.size());
  Bytes packet = {0x45, 0, 0, length, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 1, 0, 2, 10, 2, 0, 10};
  packet.insert(packet.end(), payload.begin(), payload.end());
  SetIpv4Checksum(packet.data());
  return packet;
}

// Changed where the checksum covers it, and made right again.
Bytes Summed(Bytes packet) {
  if (packet[0] >> 4U == 4) SetIpv4Checksum(packet.data());
  return packet;
}

Bytes Ipv6(uint8_t next, Bytes payload) {
  Bytes packet(40);
  packet[0] = 0x60;
  packet[5] = static_cast<uint8_t>(payload.size());
  packet[6] = next;
  packet[7] = 64;
  packet[8] = packet[24] = 0x20;
  packet[23] = 1;  // 2000::1 → 2000::2
  packet[39] = 2;
  packet.insert(packet.end(), payload.begin(), payload.end());
  return packet;
}

const Bytes kTcp = {0x12, 0x34, 0x1f, 0x90, 0, 0, 0, 1};

TEST(Flow, ReadsAddressesAndPorts) {
  Flow flow;
  ASSERT_EQ(ReadFlow(Ipv4(6, kTcp), flow), Verdict::accepted);
  EXPECT_EQ(flow.source.Text(), "10.1.0.2");
  EXPECT_EQ(flow.destination.Text(), "10.2.0.10");
  EXPECT_EQ(flow.source_port, 0x1234);
  EXPECT_EQ(flow.destination_port, 8080);
  EXPECT_TRUE(flow.has_ports && flow.dont_fragment && flow.is_v4);
}

TEST(Flow, WalksExtensionHeaders) {
  Bytes payload = {6, 0, 0, 0, 0, 0, 0, 0};  // hop-by-hop options, then TCP
  payload.insert(payload.end(), kTcp.begin(), kTcp.end());
  Flow flow;
  ASSERT_EQ(ReadFlow(Ipv6(0, payload), flow), Verdict::accepted);
  EXPECT_EQ(flow.protocol, 6);
  EXPECT_EQ(flow.destination_port, 8080);
  EXPECT_EQ(ReadFlow(Ipv6(43, payload), flow), Verdict::accepted);  // a routing header that arrived
  EXPECT_EQ(flow.destination_port, 8080);
  payload[3] = 1;  // one that leads on (RFC 5095)
  EXPECT_EQ(ReadFlow(Ipv6(43, payload), flow), Verdict::malformed);
  payload[3] = 0;
  ASSERT_EQ(ReadFlow(Ipv6(44, payload), flow), Verdict::accepted);  // atomic: whole (RFC 6946)
  EXPECT_TRUE(!flow.fragment && flow.has_ports);
  for (const size_t at : {2U, 3U}) {  // an offset; its last bits, or more to come
    payload[at] = 1;
    ASSERT_EQ(ReadFlow(Ipv6(44, payload), flow), Verdict::accepted);
    EXPECT_TRUE(flow.fragment && !flow.has_ports);
    payload[at] = 0;
  }
}

TEST(Flow, NeverReadsPortsFromFragments) {
  Bytes packet = Ipv4(6, kTcp);
  packet[6] = 0x20;  // more fragments
  Flow flow;
  ASSERT_EQ(ReadFlow(Summed(packet), flow), Verdict::accepted);
  EXPECT_TRUE(flow.fragment);
  EXPECT_FALSE(flow.has_ports);
}

TEST(Flow, RefusesLengthsThatLie) {
  for (const Bytes& good : {Ipv4(6, kTcp), Ipv6(6, kTcp)}) {
    const size_t low_byte = good[0] >> 4U == 4 ? 3 : 5;
    Flow flow;
    Bytes packet = good;
    packet[low_byte] += 1;  // one byte more than there is
    EXPECT_EQ(ReadFlow(Summed(packet), flow), Verdict::malformed);
    packet.push_back(0);  // and now it is there
    EXPECT_EQ(ReadFlow(Summed(packet), flow), Verdict::accepted);
  }
  Bytes short_header = Ipv4(6, kTcp);
  short_header[0] = 0x44;
  Flow flow;
  EXPECT_EQ(ReadFlow(Summed(short_header), flow), Verdict::malformed);
}

TEST(Flow, RefusesHeadersThatDoNotAddUp) {
  Bytes with_options = Ipv4(6, kTcp);
  with_options.insert(with_options.begin() + 20, {1, 1, 1, 0});
  with_options[0] = 0x46;
  with_options[3] += 4;
  for (const Bytes& good : {Ipv4(6, kTcp), Ipv4(50, kTcp), Summed(with_options)}) {
    const size_t header = (good[0] & 0x0fU) * 4;
    Flow flow;
    ASSERT_EQ(ReadFlow(good, flow), Verdict::accepted);
    for (size_t bit = 0; bit < header * 8; ++bit) {
      Bytes packet = good;
      packet[bit / 8] = static_cast<uint8_t>(packet[bit / 8] ^ 1U << bit % 8);
      EXPECT_EQ(ReadFlow(packet, flow), Verdict::malformed) << bit;
    }
  }
}

TEST(Flow, SurvivesEveryTruncationAndEveryByte) {
  const Bytes icmp = Ipv4(1, [] {
    Bytes error = {3, 4, 0, 0, 0, 0, 5, 0};
    Bytes quote = Ipv4(6, kTcp);
    std::swap_ranges(quote.begin() + 12, quote.begin() + 16, quote.begin() + 16);
    error.insert(error.end(), quote.begin(), quote.end());
    return error;
  }());
  for (const Bytes& good : {Ipv4(6, kTcp), Ipv6(0, Bytes(64)), icmp}) {
    for (size_t cut = 0; cut <= good.size(); ++cut) {
      const Bytes packet(good.begin(), good.begin() + static_cast<long>(cut));
      Flow flow;
      const Verdict verdict = ReadFlow(packet, flow);
      EXPECT_TRUE(verdict != Verdict::accepted || flow.length <= cut);
    }
    for (size_t at = 0; at < good.size(); ++at) {
      for (int value = 0; value < 256; ++value) {
        Bytes packet = good;
        packet[at] = static_cast<uint8_t>(value);
        if (packet[0] >> 4U == 4 && (packet[0] & 0x0fU) == 5) SetIpv4Checksum(packet.data());
        Flow flow;
        if (ReadFlow(packet, flow) == Verdict::accepted) {
          ASSERT_LE(flow.header_length, flow.length);
          ASSERT_LE(flow.length, packet.size());
        }
      }
    }
  }
}

TEST(Flow, IcmpErrorBelongsToTheFlowThatItQuotes) {
  Bytes quote = Ipv4(6, kTcp);  // 10.1.0.2:0x1234 → 10.2.0.10:8080
  Bytes payload = {11, 0, 0, 0, 0, 0, 0, 0};
  payload.insert(payload.end(), quote.begin(), quote.end());
  Bytes error = Ipv4(1, payload);
  error[12] = 192;  // from some router, told to 10.1.0.2
  error[16] = 10, error[17] = 1, error[18] = 0, error[19] = 2;
  Flow flow;
  ASSERT_EQ(ReadFlow(Summed(error), flow), Verdict::accepted);
  EXPECT_TRUE(flow.icmp_error);
  EXPECT_EQ(flow.source.Text(), "10.2.0.10");
  EXPECT_EQ(flow.destination.Text(), "10.1.0.2");
  EXPECT_EQ(flow.source_port, 8080);
  EXPECT_EQ(flow.protocol, 6);
  error[19] = 3;  // told to somebody who did not send it
  EXPECT_EQ(ReadFlow(Summed(error), flow), Verdict::malformed);
}

}  // namespace
}  // namespace portcullis
