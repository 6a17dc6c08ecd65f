#include "bench/limit.hpp"

#include <intel-ipsec-mb.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include <array>
#include <cstring>
#include <span>

#include "bench/core_clock.hpp"
#include "bench/rig.hpp"
#include "bench/row.hpp"
#include "dataplane/crypto/key_layout.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis::bench {
namespace {

constexpr size_t kIcvBytes = 16;
constexpr size_t kOuter = 14 + 20;  // Ethernet, IPv4

bool IsGcm(Algorithm algorithm) {
  return algorithm == Algorithm::aes_128_gcm_16 || algorithm == Algorithm::aes_256_gcm_16;
}

// The lines that a packet of this size touches; see docs/performance.md.
void Prefetch(const KeySchedule& key, size_t length) {
  for (const size_t line : {0, 1, 2, 14, 15}) __builtin_prefetch(key.data.data() + line * 64);
  if (length < 256) return;
  for (size_t line = 3; line < 14; ++line) __builtin_prefetch(key.data.data() + line * 64);
}

}  // namespace

double Nanoseconds(uint64_t cycles) {
  return static_cast<double>(cycles) * 1e9 / static_cast<double>(rte_get_tsc_hz());
}

struct CryptoLimit::Manager {
  IMB_MGR* library = alloc_mb_mgr(0);
  gcm_context_data context{};
  Manager() { init_mb_mgr_auto(library, nullptr); }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;
  ~Manager() { free_mb_mgr(library); }
};

CryptoLimit::CryptoLimit(const Layout& layout, const Lap& lap, const std::vector<Sa*>& sas,
                         Direction direction, rte_mempool* pool)
    : layout_(layout),
      direction_(direction),
      buffers_(kBurst),
      engine_(*MakeIpsecMbEngine()),
      manager_(std::make_unique<Manager>()) {
  if (rte_pktmbuf_alloc_bulk(pool, buffers_.data(), kBurst) != 0) Die("no buffers");
  for (size_t i = 0; i < lap.frames.size(); ++i) {
    const auto frame = static_cast<uint32_t>(lap.frames[i].size());
    // A cleartext frame is still to grow by what ESP adds.
    const uint32_t esp =
        lap.esp ? frame - kOuter : EspLength(layout.algorithm, frame - RTE_ETHER_HDR_LEN);
    ops_.push_back({kOuter, esp, sas[lap.sa[i]]->key});
  }
}

CryptoLimit::~CryptoLimit() {
  rte_pktmbuf_free_bulk(buffers_.data(), kBurst);
}

void CryptoLimit::RunGcm(size_t first) {
  constexpr size_t kAhead = 8;
  const bool short_key = layout_.algorithm == Algorithm::aes_128_gcm_16;
  const auto* library = manager_->library;
  const auto seal = short_key ? library->gcm128_enc : library->gcm256_enc;
  const auto open = short_key ? library->gcm128_dec : library->gcm256_dec;
  const auto run = direction_ == Direction::outbound ? seal : open;
  for (size_t i = first; i < first + kBurst; ++i) {
    if (layout_.sas > 1 && i + kAhead < ops_.size()) {
      Prefetch(*ops_[i + kAhead].key, ops_[i + kAhead].length);
    }
    const Op& op = ops_[i];
    uint8_t* esp = rte_pktmbuf_mtod_offset(buffers_[i - first], uint8_t*, op.esp);
    uint8_t* text = esp + EspPayloadOffset(layout_.algorithm);
    // Salt || IV and SPI || sequence number are taken from where they happen to stand: 12 bytes
    // each, and their values change nothing about the time.
    alignas(16) uint8_t icv[kIcvBytes];
    run(&As<GcmSchedule>(*op.key).keys, &manager_->context, text, text,
        op.length - EspPayloadOffset(layout_.algorithm) - kIcvBytes, esp - 16, esp - 32,
        layout_.esn ? 12 : 8, direction_ == Direction::outbound ? esp + op.length - kIcvBytes : icv,
        kIcvBytes);
    __asm__ volatile("" : : "r"(icv) : "memory");
  }
}

uint64_t CryptoLimit::RunEngine(size_t first) {
  std::array<CryptoOp, kBurst> ops;
  for (size_t i = 0; i < kBurst; ++i) {
    const Op& op = ops_[first + i];
    ops[i] = {.key = op.key,
              .esp = rte_pktmbuf_mtod_offset(buffers_[i], uint8_t*, op.esp),
              .length = op.length,
              .esn_high = 0,
              .algorithm = layout_.algorithm,
              .esn = layout_.esn};
  }
  if (direction_ == Direction::inbound) engine_->Seal(ops);  // something genuine to open, untimed
  const uint64_t begin = rte_rdtsc();
  direction_ == Direction::inbound ? engine_->Open(ops) : engine_->Seal(ops);
  return rte_rdtsc() - begin;
}

double CryptoLimit::Measure(double seconds) {
  return IsGcm(layout_.algorithm) ? MeasureGcm(seconds) : MeasureEngine(seconds);
}

double CryptoLimit::MeasureGcm(double seconds) {
  CoreClock clock;
  uint64_t packets = 0;
  while (clock.ns() < seconds * 1e9) {
    clock.Start();
    for (size_t i = 0; i + kBurst <= ops_.size(); i += kBurst) RunGcm(i);
    clock.Stop();
    packets += ops_.size() / kBurst * kBurst;
  }
  return clock.ns() / static_cast<double>(packets);
}

// What is timed is a burst at a time, so the median takes the place of a clock that stands still
// while others have the core.
double CryptoLimit::MeasureEngine(double seconds) {
  std::vector<double> bursts;
  double ns = 0;
  while (ns < seconds * 1e9) {
    const size_t first = bursts.size() % (ops_.size() / kBurst) * kBurst;
    bursts.push_back(Nanoseconds(RunEngine(first)));
    ns += bursts.back();
  }
  return Median(std::move(bursts)) / kBurst;
}

namespace {

void Forward(uint16_t from, uint16_t to, uint64_t& received) {
  rte_mbuf* frames[Burst::kMost];
  const uint16_t count = rte_eth_rx_burst(from, 0, frames, Burst::kMost);
  if (count == 0) return;
  const uint16_t sent = rte_eth_tx_burst(to, 0, frames, count);
  if (sent < count) rte_pktmbuf_free_bulk(frames + sent, count - sent);
  received += count;
}

template <class Round>
double MeasureRounds(size_t lap, double seconds, Round&& round) {
  CoreClock clock;
  uint64_t packets = 0;
  while (clock.ns() < seconds * 1e9) {
    uint64_t received = 0;
    clock.Start();
    while (received < lap) round(received);
    clock.Stop();
    packets += received;
  }
  return clock.ns() / static_cast<double>(packets);
}

}  // namespace

double MeasureIo(uint16_t rx, uint16_t tx, size_t lap, double seconds) {
  return MeasureRounds(lap, seconds, [&](uint64_t& received) { Forward(rx, tx, received); });
}

double MeasureIo(uint16_t rx, uint16_t ring, uint16_t tx, size_t lap, double seconds) {
  return MeasureRounds(lap, seconds, [&](uint64_t& received) {
    uint64_t once = 0;
    Forward(rx, ring, once);
    Forward(ring, tx, received);
  });
}

}  // namespace portcullis::bench
