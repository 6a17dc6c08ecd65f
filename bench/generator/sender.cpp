#include "bench/generator/sender.hpp"

#include <netinet/in.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/frame.hpp"
#include "dataplane/crypto/iv.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis::generator {
namespace {

constexpr uint16_t kClientPort = 40000;
constexpr uint16_t kNatPort = 4500;  // RFC 3948
constexpr size_t kIp = sizeof(rte_ipv4_hdr);
constexpr size_t kUdp = sizeof(rte_udp_hdr);

// The buffers have room for the largest frame (Devices).
uint8_t* Extend(rte_mbuf* frame, uint32_t bytes) noexcept {
  frame->data_len = static_cast<uint16_t>(bytes);
  frame->pkt_len = bytes;
  return rte_pktmbuf_mtod(frame, uint8_t*);
}

}  // namespace

void Sent::Add(const Sent& other) {
  scheduled += other.scheduled;
  skipped += other.skipped;
  for (size_t k = 0; k < kKinds; ++k) kinds[k] += other.kinds[k];
  inner_bytes += other.inner_bytes;
  frame_bytes += other.frame_bytes;
  if (first_tsc == 0 || (other.first_tsc != 0 && other.first_tsc < first_tsc)) {
    first_tsc = other.first_tsc;
  }
  last_tsc = std::max(last_tsc, other.last_tsc);
  highest_sequence = std::max(highest_sequence, other.highest_sequence);
}

uint64_t Sent::Packets() const {
  uint64_t all = 0;
  for (const uint64_t k : kinds) all += k;
  return all;
}

Sender::Sender(const SenderConfig& c)
    : config_(c),
      options_(c.options),
      port_(c.options.direction == Direction::inbound ? c.devices.wire.id : c.devices.core.id),
      own_mac_(c.options.direction == Direction::inbound ? c.devices.wire.mac : c.devices.core.mac),
      sas_((c.options.sas - c.index + c.devices.senders - 1) / c.devices.senders),
      packets_((c.options.packets - c.index + c.devices.senders - 1) / c.devices.senders),
      per_cycle_(c.options.rate / c.devices.senders / static_cast<double>(rte_get_tsc_hz())),
      end_after_(static_cast<uint64_t>(c.options.seconds * static_cast<double>(rte_get_tsc_hz()))),
      // 10 ms, or a burst: a sender that was away longer must not make up for it all at once, which
      // would be a burst that the rate does not have.
      most_late_(std::max<uint64_t>(
          1024, static_cast<uint64_t>(c.options.rate / c.devices.senders / 100))),
      sequences_(sas_, c.first_sequence),
      counters_(sas_),
      random_(0x9e3779b97f4a7c15U * (c.index + 1)) {
  auto engine = MakeIpsecMbEngine();
  if (!engine) Die(engine.error().Text());
  engine_ = std::move(*engine);
  saved_.bytes.resize(c.options.MaxFrame());
  sent_.highest_sequence = c.first_sequence - 1;
}

Sender::~Sender() {
  for (unsigned i = pending_first_; i < pending_end_; ++i) rte_pktmbuf_free(pending_[i].frame);
}

bool Sender::Poll() noexcept {
  const uint64_t now = rte_rdtsc();
  if (now < start_) return true;
  if (now - start_ >= end_after_) return false;
  if (pending_first_ < pending_end_) {
    Flush();
    return true;
  }
  if (sent_.scheduled >= packets_) return false;
  uint64_t due = std::min(Due(now), packets_ - sent_.scheduled);
  if (due > most_late_) {
    sent_.scheduled += due - most_late_;
    sent_.skipped += due - most_late_;
    due = most_late_;
  }
  if (due == 0) return true;
  Make(static_cast<unsigned>(std::min<uint64_t>(due, kBurst)), now);
  Flush();
  return true;
}

uint64_t Sender::Due(uint64_t now) const noexcept {
  if (per_cycle_ == 0) return kBurst;
  // The first packet is due at the start.
  const auto by_now = static_cast<uint64_t>(static_cast<double>(now - start_) * per_cycle_) + 1;
  return by_now > sent_.scheduled ? by_now - sent_.scheduled : 0;
}

uint32_t Sender::Random() noexcept {
  random_ ^= random_ << 13U;  // xorshift64
  random_ ^= random_ >> 7U;
  random_ ^= random_ << 17U;
  return static_cast<uint32_t>(random_ >> 32U);
}

Kind Sender::Draw() noexcept {
  const unsigned bad = options_.forge_icv + options_.replay + options_.unknown_spi;
  if (bad == 0) return Kind::good;
  const auto lot = static_cast<unsigned>(uint64_t{Random()} * 1000 >> 32U);
  if (lot < options_.forge_icv) return Kind::forged;
  if (lot < options_.forge_icv + options_.unknown_spi) return Kind::unknown;
  if (lot < bad && saved_.size != 0) return Kind::replay;
  return Kind::good;
}

uint32_t Sender::FrameBytes(uint16_t size) const noexcept {
  if (options_.direction == Direction::outbound) return RTE_ETHER_HDR_LEN + size;
  return static_cast<uint32_t>(RTE_ETHER_HDR_LEN + kIp + (options_.udp_encap ? kUdp : 0)) +
         EspLength(options_.algorithm, size);
}

void Sender::Make(unsigned count, uint64_t now) noexcept {
  rte_mbuf* frames[kBurst];
  // An empty pool means that the port still holds everything; these packets are late, not lost.
  if (rte_pktmbuf_alloc_bulk(config_.devices.pool, frames, count) != 0) return;
  CryptoOp ops[kBurst];
  unsigned sealing = 0;
  uint8_t* to_save = nullptr;
  bool replayed = false;
  pending_first_ = 0;
  pending_end_ = count;
  sent_.scheduled += count;
  for (unsigned i = 0; i < count; ++i) {
    const Kind kind = Draw();
    Pending& packet = pending_[i];
    packet = {frames[i], saved_.size, kind};
    if (kind == Kind::replay) {
      const uint32_t bytes = FrameBytes(saved_.size);
      std::memcpy(Extend(frames[i], bytes), saved_.bytes.data(), bytes);
      replayed = true;
      continue;
    }
    const uint32_t own = sas_ == 1 ? 0 : static_cast<uint32_t>(uint64_t{Random()} * sas_ >> 32U);
    const uint32_t sa = own * config_.devices.senders + config_.index;
    packet.size = options_.sizes[next_size_];
    if (++next_size_ == options_.sizes.size()) next_size_ = 0;
    uint8_t* frame = Extend(frames[i], FrameBytes(packet.size));
    WriteEthernet(frame);
    if (options_.direction == Direction::outbound) {
      WriteInner(frame + RTE_ETHER_HDR_LEN, sa, packet.size, kind, now);
      continue;
    }
    ops[sealing++] = WriteEsp(frame, sa, packet.size, kind, now);
    if (kind == Kind::good) to_save = frame;
  }
  engine_->Seal({ops, sealing});
  for (unsigned i = 0; i < count; ++i) {
    rte_mbuf* frame = pending_[i].frame;
    if (pending_[i].kind == Kind::forged) {
      *rte_pktmbuf_mtod_offset(frame, uint8_t*, frame->data_len - 1) ^= 1;
    }
    // What is replayed next is a packet of this burst, which certainly goes out first.
    if (options_.replay != 0 && rte_pktmbuf_mtod(frame, uint8_t*) == to_save &&
        (replayed || saved_.size == 0)) {
      saved_.size = pending_[i].size;
      std::memcpy(saved_.bytes.data(), to_save, frame->data_len);
    }
  }
}

void Sender::WriteEthernet(uint8_t* frame) const noexcept {
  std::memcpy(frame, config_.gate.data(), 6);
  std::memcpy(frame + 6, own_mac_.data(), 6);
  const be16 type(RTE_ETHER_TYPE_IPV4);
  std::memcpy(frame + 12, &type, sizeof(type));
}

void Sender::WriteInner(uint8_t* at, uint32_t sa, uint16_t size, Kind kind, uint64_t now) noexcept {
  const bool inbound = options_.direction == Direction::inbound;
  const uint32_t client = options_.clients + sa;
  const auto flow = static_cast<uint32_t>(uint64_t{Random()} * options_.flows >> 32U);
  const auto service = static_cast<uint16_t>(options_.service_port + flow);
  bench::WriteIpv4(at, size, inbound ? client : options_.server, inbound ? options_.server : client,
                   IPPROTO_UDP);
  bench::WriteUdp(at + kIp, size - kIp, inbound ? kClientPort : service,
                  inbound ? service : kClientPort);
  Tag tag{.run = config_.run, .stream = sa, .kind = kind, .tsc = now};
  if (kind == Kind::good) tag.counter = ++counters_[sa / config_.devices.senders];
  std::memcpy(at + kIp + kUdp, &tag, sizeof(tag));
  std::memset(at + kIp + kUdp + sizeof(tag), 0, size - kIp - kUdp - sizeof(tag));
}

CryptoOp Sender::WriteEsp(uint8_t* frame, uint32_t sa, uint16_t size, Kind kind,
                          uint64_t now) noexcept {
  const Algorithm algorithm = options_.algorithm;
  const uint32_t length = EspLength(algorithm, size);
  uint8_t* outer = frame + RTE_ETHER_HDR_LEN;
  uint8_t* esp = outer + kIp;
  if (options_.udp_encap) {
    bench::WriteUdp(esp, kUdp + length, kNatPort, kNatPort);
    esp += kUdp;
  }
  bench::WriteIpv4(outer, static_cast<size_t>(esp - outer) + length, options_.wire,
                   options_.gate_wire, options_.udp_encap ? IPPROTO_UDP : IPPROTO_ESP);
  // Forgeries take a number of their own as well: no number is ever sealed twice.
  const uint64_t sequence = sequences_[sa / config_.devices.senders]++;
  sent_.highest_sequence = std::max(sent_.highest_sequence, sequence);
  const uint32_t spi = Value(SpiOf(sa, Direction::inbound));
  const EspHeader header{be32(kind == Kind::unknown ? spi ^ kUnknownBit : spi),
                         be32(static_cast<uint32_t>(sequence))};
  std::memcpy(esp, &header, sizeof(header));
  const KeySchedule& key = config_.keys.of(sa);
  WriteIv(algorithm, key, Sequence{sequence}, esp + sizeof(header));
  uint8_t* inner = esp + EspPayloadOffset(algorithm);
  WriteInner(inner, sa, size, kind, now);
  WriteEspTrailer(inner + size, EspPadLength(algorithm, size), kNextHeaderIpv4);
  return {.key = &key,
          .esp = esp,
          .length = length,
          .esn_high = static_cast<uint32_t>(sequence >> 32U),
          .algorithm = algorithm,
          .esn = options_.esn};
}

void Sender::Flush() noexcept {
  rte_mbuf* frames[kBurst];
  const auto count = static_cast<uint16_t>(pending_end_ - pending_first_);
  for (uint16_t i = 0; i < count; ++i) frames[i] = pending_[pending_first_ + i].frame;
  const uint16_t done =
      rte_eth_tx_burst(port_, static_cast<uint16_t>(config_.index), frames, count);
  if (done == 0) return;
  sent_.last_tsc = rte_rdtsc();
  if (sent_.first_tsc == 0) sent_.first_tsc = sent_.last_tsc;
  for (uint16_t i = 0; i < done; ++i) {
    const Pending& packet = pending_[pending_first_ + i];
    ++sent_.kinds[static_cast<size_t>(packet.kind)];
    sent_.inner_bytes += packet.size;
    sent_.frame_bytes += FrameBytes(packet.size);
  }
  pending_first_ += done;
}

void Sender::SendReplies() noexcept {
  void* reply = nullptr;
  while (rte_ring_dequeue(config_.devices.replies, &reply) == 0) {
    auto* frame = static_cast<rte_mbuf*>(reply);
    if (rte_eth_tx_burst(frame->port, 0, &frame, 1) == 0) rte_pktmbuf_free(frame);
  }
}

}  // namespace portcullis::generator
