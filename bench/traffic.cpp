#include "bench/traffic.hpp"

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>

#include <bit>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>

#include "bench/frame.hpp"
#include "bench/rig.hpp"
#include "dataplane/crypto/iv.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis::bench {
namespace {

constexpr uint32_t kServer = RTE_IPV4(10, 2, 0, 10);
constexpr uint32_t kFirstPeer = RTE_IPV4(10, 64, 0, 1);
constexpr uint32_t kNobody = RTE_IPV4(10, 250, 0, 1);
constexpr uint16_t kFirstClientPort = 1024;

// Ethernet (all DPDK's virtual devices take any address) in front of an IPv4 packet.
Frame WithEthernet(const Frame& ip) {
  Frame frame(RTE_ETHER_HDR_LEN + ip.size(), 2);
  const be16 type(RTE_ETHER_TYPE_IPV4);
  std::memcpy(&frame[offsetof(rte_ether_hdr, ether_type)], &type, sizeof(type));
  std::copy(ip.begin(), ip.end(), frame.begin() + RTE_ETHER_HDR_LEN);
  return frame;
}

Frame InnerPacket(uint16_t size, uint32_t from, uint32_t to, uint16_t from_port, uint16_t to_port) {
  Frame packet(size, 0x5a);
  WriteIpv4(packet.data(), size, from, to, IPPROTO_UDP);
  WriteUdp(packet.data() + sizeof(rte_ipv4_hdr), size - sizeof(rte_ipv4_hdr), from_port, to_port);
  return packet;
}

// Each SA equally often, in an order that no prefetcher knows.
std::vector<uint32_t> RandomOrder(uint32_t sas, uint32_t count) {
  std::mt19937 random(20261121);  // NOLINT(cert-msc51-cpp): every run the same packets
  std::vector<uint32_t> order(count);
  for (uint32_t i = 0; i < count; ++i) order[i] = i % sas;
  if (sas > 1) std::shuffle(order.begin(), order.end(), random);
  return order;
}

class Sealer {
 public:
  explicit Sealer(const Layout& layout)
      : layout_(layout), engine_(*MakeIpsecMbEngine()), sequences_(layout.sas) {}

  Frame Seal(uint32_t sa, const Frame& inner, Attack attack) {
    const Algorithm algorithm = layout_.algorithm;
    const auto size = static_cast<uint32_t>(inner.size());
    const uint32_t length = EspLength(algorithm, size);
    constexpr size_t kOuter = sizeof(rte_ipv4_hdr);
    Frame packet(kOuter + length);
    const uint32_t source = attack == Attack::denied_source
                                ? RTE_IPV4(203, 0, 113, sequences_[sa] & UINT8_MAX)
                                : RTE_IPV4(192, 0, 2, 2);
    WriteIpv4(packet.data(), packet.size(), source, RTE_IPV4(192, 0, 2, 1), IPPROTO_ESP);
    uint8_t* esp = packet.data() + kOuter;
    uint32_t spi = Value(layout_.SpiOf(sa));
    if (attack == Attack::unknown_spi) spi ^= 0x01000000;  // the slot is taken, by another
    const uint32_t sequence = ++sequences_[sa];
    const EspHeader header{be32(spi), be32(sequence)};
    std::memcpy(esp, &header, sizeof(header));
    KeySchedule key;
    if (!engine_->Expand(algorithm, layout_.KeyOf(sa), key)) Die("key refused");
    WriteIv(algorithm, key, Sequence{sequence}, esp + sizeof(header));
    std::memcpy(esp + EspPayloadOffset(algorithm), inner.data(), inner.size());
    WriteEspTrailer(esp + EspPayloadOffset(algorithm) + size, EspPadLength(algorithm, size),
                    kNextHeaderIpv4);
    CryptoOp op{.key = &key,
                .esp = esp,
                .length = length,
                .esn_high = 0,
                .algorithm = algorithm,
                .esn = layout_.esn};
    engine_->Seal({&op, 1});
    if (attack == Attack::bad_icv) packet.back() ^= 1;
    return WithEthernet(packet);
  }

 private:
  const Layout& layout_;
  std::unique_ptr<Engine> engine_;
  std::vector<uint32_t> sequences_;
};

template <class MakeFrame>
Lap MakeLap(const Layout& layout, const Sizes& sizes, uint32_t count, MakeFrame&& make) {
  Lap lap;
  lap.sa = RandomOrder(layout.sas, count);
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp)
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint16_t size = sizes[i % sizes.size()];
    const uint32_t flow = random() % layout.flows;
    const auto server = static_cast<uint16_t>(kFirstPort + flow % layout.rules);
    const auto client = static_cast<uint16_t>(kFirstClientPort + flow / layout.rules);
    lap.frames.push_back(make(lap.sa[i], size, server, client));
    bytes += size;
  }
  lap.inner_bytes = static_cast<double>(bytes) / count;
  return lap;
}

}  // namespace

uint32_t Layout::capacity() const {
  return std::bit_ceil(std::max(sas * 2, 4096U));
}
Spi Layout::SpiOf(uint32_t sa) const {
  return Spi{0x50000000U | sa};
}
std::vector<uint8_t> Layout::KeyOf(uint32_t sa) const {
  std::vector<uint8_t> key(Info(algorithm).key_bytes, 0x11);
  std::memcpy(key.data(), &sa, sizeof(sa));
  return key;
}
Address Layout::PeerOf(uint32_t sa) const {
  const uint32_t wire = rte_cpu_to_be_32(kFirstPeer + sa);
  return Address::V4(&wire);
}

Lap MakeInbound(const Layout& layout, const Sizes& sizes, uint32_t count, Attack attack) {
  Sealer sealer(layout);
  Lap lap = MakeLap(
      layout, sizes, count, [&](uint32_t sa, uint16_t size, uint16_t server, uint16_t client) {
        if (attack == Attack::selector_miss) server = static_cast<uint16_t>(kFirstPort - 1);
        return sealer.Seal(sa, InnerPacket(size, kFirstPeer + sa, kServer, client, server), attack);
      });
  lap.esp = true;
  return lap;
}

Lap MakeOutbound(const Layout& layout, const Sizes& sizes, uint32_t count, Attack attack) {
  return MakeLap(layout, sizes, count,
                 [&](uint32_t sa, uint16_t size, uint16_t server, uint16_t client) {
                   if (layout.client) {
                     return WithEthernet(InnerPacket(size, kFirstPeer, kServer, client, server));
                   }
                   const uint32_t to = attack == Attack::no_policy ? kNobody : kFirstPeer + sa;
                   return WithEthernet(InnerPacket(size, kServer, to, server, client));
                 });
}

void WritePcap(const std::string& path, const std::vector<Frame>& frames) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) Die("cannot write " + path);
  const auto write = [&](const void* data, size_t bytes) {
    if (std::fwrite(data, 1, bytes, file) != bytes) Die("cannot write " + path);
  };
  // https://www.tcpdump.org/manpages/pcap-savefile.5.html
  const struct {
    uint32_t magic = 0xa1b2c3d4;
    uint16_t major = 2, minor = 4;
    uint32_t zone = 0, accuracy = 0, most = 65535, ethernet = 1;
  } header;
  write(&header, sizeof(header));
  for (const Frame& frame : frames) {
    const uint32_t record[4] = {0, 0, static_cast<uint32_t>(frame.size()),
                                static_cast<uint32_t>(frame.size())};
    write(record, sizeof(record));
    write(frame.data(), frame.size());
  }
  if (std::fclose(file) != 0) Die("cannot write " + path);
}

}  // namespace portcullis::bench
