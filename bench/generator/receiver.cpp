#include "bench/generator/receiver.hpp"

#include <netinet/in.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include <algorithm>
#include <cstring>

#include "bench/generator/neighbour.hpp"
#include "dataplane/esp/header.hpp"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/packet/rewrite.hpp"

namespace portcullis::generator {
namespace {

constexpr uint16_t kNatPort = 4500;
constexpr size_t kIp = sizeof(rte_ipv4_hdr);
constexpr size_t kUdp = sizeof(rte_udp_hdr);

template <class T>
T Load(const uint8_t* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace

Receiver::Receiver(const Options& options, const Devices& devices, const Keys& keys, uint32_t run)
    : options_(options),
      devices_(devices),
      keys_(keys),
      run_(run),
      ns_per_cycle_(1e9 / static_cast<double>(rte_get_tsc_hz())),
      streams_(options.sas),
      highest_(options.sas) {
  auto engine = MakeIpsecMbEngine();
  if (!engine) Die(engine.error().Text());
  engine_ = std::move(*engine);
}

void Receiver::Poll() noexcept {
  const bool inbound = options_.direction == Direction::inbound;
  const bool one = devices_.OnePort();
  // Both ports are read in any case: ARP comes on both.
  PollPort(devices_.wire, options_.wire, one || !inbound);
  if (!one) PollPort(devices_.core, options_.server, inbound);
}

void Receiver::PollPort(const Device& device, uint32_t own, bool counts) noexcept {
  rte_mbuf* frames[kBurst];
  const uint16_t count = rte_eth_rx_burst(device.id, 0, frames, kBurst);
  if (count == 0) return;
  const uint64_t now = rte_rdtsc();
  Inner inner[kBurst];
  Inner opened[kBurst];
  CryptoOp ops[kBurst];
  uint32_t sas[kBurst];
  unsigned clear = 0;
  unsigned sealed = 0;
  for (uint16_t i = 0; i < count; ++i) {
    rte_mbuf* frame = frames[i];
    bool answer = false;
    if (HandleArp(frame, own, device.mac, answer)) {
      frame->port = device.id;
      if (!answer || rte_ring_enqueue(devices_.replies, frame) != 0) rte_pktmbuf_free(frame);
      continue;
    }
    Inner found{.frame = frame};
    CryptoOp op;
    uint32_t sa = 0;
    if (!counts || options_.send_only || !Classify(frame, found, op, sa)) {
      ++received_.foreign;
      rte_pktmbuf_free(frame);
    } else if (op.esp != nullptr) {
      sas[sealed] = sa;
      ops[sealed] = op;
      opened[sealed++] = found;
    } else {
      inner[clear++] = found;
    }
  }
  engine_->Open({ops, sealed});
  for (unsigned i = 0; i < sealed; ++i) {
    const uint32_t offset = EspPayloadOffset(ops[i].algorithm);
    const auto icv = Info(ops[i].algorithm).icv_bytes;
    EspPayload payload;
    if (!ops[i].ok ||
        !ReadEspTrailer({ops[i].esp + offset, ops[i].length - offset - icv}, payload) ||
        payload.next_header != kNextHeaderIpv4) {
      ++received_.damaged;
      continue;
    }
    const uint32_t low = Load<EspHeader>(ops[i].esp).sequence.host();
    highest_[sas[i]] = std::max(highest_[sas[i]], uint64_t{ops[i].esn_high} << 32U | low);
    opened[i].packet = ops[i].esp + offset;
    opened[i].room = payload.length;
    Account(opened[i], now);
  }
  for (unsigned i = 0; i < clear; ++i) Account(inner[i], now);
  for (unsigned i = 0; i < sealed; ++i) rte_pktmbuf_free(opened[i].frame);
  for (unsigned i = 0; i < clear; ++i) rte_pktmbuf_free(inner[i].frame);
}

bool Receiver::Classify(rte_mbuf* frame, Inner& inner, CryptoOp& op, uint32_t& sa) noexcept {
  constexpr uint32_t kLeast = RTE_ETHER_HDR_LEN + kIp + kUdp;
  if (frame->nb_segs != 1 || frame->data_len < kLeast) return false;
  uint8_t* at = rte_pktmbuf_mtod(frame, uint8_t*);
  if (Load<be16>(at + 12).host() != RTE_ETHER_TYPE_IPV4) return false;
  at += RTE_ETHER_HDR_LEN;
  const auto ip = Load<rte_ipv4_hdr>(at);
  if (ip.version_ihl != RTE_IPV4_VHL_DEF) return false;
  // A short frame is padded to 60 bytes: the length field counts (IEEE 802.3 3.2.8).
  const uint32_t length = rte_be_to_cpu_16(ip.total_length);
  if (length + RTE_ETHER_HDR_LEN > frame->data_len || length < kIp + kUdp) return false;
  uint8_t* esp = at + kIp;
  uint32_t esp_length = length - kIp;
  if (ip.next_proto_id == IPPROTO_UDP) {
    const auto udp = Load<rte_udp_hdr>(esp);
    if (udp.dst_port != RTE_BE16(kNatPort) || udp.src_port != RTE_BE16(kNatPort)) {
      inner.packet = at;
      inner.room = length;
      return true;
    }
    esp += kUdp;
    esp_length -= kUdp;
  } else if (ip.next_proto_id != IPPROTO_ESP) {
    return false;
  }
  if (esp_length < EspMinLength(options_.algorithm)) return false;
  const auto header = Load<EspHeader>(esp);
  const uint32_t number =
      header.spi.host() - Value(SpiOf(0, options_.direction));  // a foreign SPI gives a huge one
  if (number % 2 != 0 || number / 2 >= options_.sas) return false;
  sa = number / 2;
  op = {.key = &keys_.of(sa),
        .esp = esp,
        .length = esp_length,
        .esn_high = HighOf(sa, header.sequence.host()),
        .algorithm = options_.algorithm,
        .esn = options_.esn};
  return true;
}

uint32_t Receiver::HighOf(uint32_t sa, uint32_t low) noexcept {
  return High(InferSequence(highest_[sa], 0, options_.esn, low));
}

void Receiver::Account(const Inner& inner, uint64_t now) noexcept {
  constexpr uint32_t kTagAt = kIp + kUdp;
  if (inner.room < kTagAt + sizeof(Tag)) {
    ++received_.foreign;
    return;
  }
  const auto tag = Load<Tag>(inner.packet + kTagAt);
  if (tag.magic != Tag::kMagic || tag.run != run_ || tag.stream >= options_.sas) {
    ++received_.foreign;
    return;
  }
  const auto ip = Load<rte_ipv4_hdr>(inner.packet);
  if (rte_be_to_cpu_16(ip.total_length) != inner.room || !Ipv4ChecksumValid(inner.packet)) {
    ++received_.damaged;
    return;
  }
  if (tag.kind != Kind::good) {
    ++received_.leaked;
    return;
  }
  switch (streams_[tag.stream].Arrive(tag.counter)) {
    case Stream::Arrival::duplicate:
      ++received_.duplicates;
      return;
    case Stream::Arrival::late:
      ++received_.late;
      return;
    case Stream::Arrival::reordered:
      ++received_.reordered;
      break;
    case Stream::Arrival::in_order:
      break;
  }
  ++received_.packets;
  received_.inner_bytes += inner.room;
  if (received_.first_tsc == 0) received_.first_tsc = now;
  received_.last_tsc = now;
  // The clocks of two cores may differ by less than a burst takes.
  const uint64_t cycles = now > tag.tsc ? now - tag.tsc : 0;
  received_.latency.Add(static_cast<uint64_t>(static_cast<double>(cycles) * ns_per_cycle_));
}

Received Receiver::Result() const {
  Received result = received_;
  const bool inbound = options_.direction == Direction::inbound;
  rte_eth_stats stats{};
  if (rte_eth_stats_get(inbound ? devices_.core.id : devices_.wire.id, &stats) == 0) {
    result.missed = stats.imissed + stats.rx_nombuf;
  }
  return result;
}

}  // namespace portcullis::generator
