// The source keeps a schedule: packet i is due at begin + i * interval, by the TSC. It is a
// callback of the port that the gate polls, and answers each poll with the packets that are due by
// then, as a NIC does with those that have come in. So it needs no core of its own, whose own
// pauses would look like the gate's, and it never waits for the gate: what a slow moment delays is
// delivered late and counts from when it was due (no coordinated omission). Its queue has no end,
// so nothing is lost and every delay is seen. What it costs, a copy into a fresh buffer, is what
// net_pcap costs too.
//
// The other end is a callback of the port that is sent to. The moment at which a packet was due
// travels in a field of its buffer that only this file knows.
#include "bench/latency.hpp"

#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf_dyn.h>

#include <algorithm>
#include <cmath>

#include "bench/limit.hpp"
#include "bench/rig.hpp"
#include "bench/setup.hpp"

namespace portcullis::bench {
namespace {

constexpr uint32_t kLap = 4096;
constexpr std::array kLoads = {0.1, 0.5, 0.9};

int DueField() {
  static const int kOffset = [] {
    const rte_mbuf_dynfield field = {
        .name = "portcullis_bench_due", .size = sizeof(uint64_t), .align = sizeof(uint64_t)};
    return rte_mbuf_dynfield_register(&field);
  }();
  if (kOffset < 0) Die("no room in a packet buffer for the time that it is due");
  return kOffset;
}

class Source {
 public:
  Source(const Lap& lap, uint16_t port, rte_mempool* pool) : lap_(lap), pool_(pool), port_(port) {
    callback_ = rte_eth_add_rx_callback(port, 0, Deliver, this);
    if (callback_ == nullptr) Die("no callback for the source");
  }
  ~Source() { rte_eth_remove_rx_callback(port_, 0, callback_); }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  /// `count` packets from now on, `interval` cycles apart.
  void Start(double interval, uint64_t count) {
    interval_ = interval;
    begin_ = rte_rdtsc();
    sent_ = 0;
    count_ = count;
    position_ = 0;
  }
  /// Between two laps: the next packet is the lap's first.
  [[nodiscard]] bool at_start() const { return position_ == 0; }
  [[nodiscard]] bool done() const { return sent_ == count_; }

 private:
  static uint16_t Deliver(uint16_t /*port*/, uint16_t /*queue*/, rte_mbuf** frames, uint16_t count,
                          uint16_t most, void* self) {
    return count + static_cast<Source*>(self)->Take(frames + count, most - count);
  }
  [[nodiscard]] uint64_t DueAt(uint64_t packet) const {
    return begin_ + static_cast<uint64_t>(static_cast<double>(packet) * interval_);
  }
  uint16_t Take(rte_mbuf** frames, unsigned most) {
    const uint64_t now = rte_rdtsc();
    // Never the end of one lap and the beginning of the next.
    most = std::min<uint64_t>({most, count_ - sent_, lap_.frames.size() - position_});
    unsigned due = 0;
    while (due < most && DueAt(sent_ + due) <= now) ++due;
    if (due == 0) return 0;
    if (rte_pktmbuf_alloc_bulk(pool_, frames, due) != 0) return 0;  // they stay due
    for (unsigned i = 0; i < due; ++i) {
      const Frame& frame = lap_.frames[position_ + i];
      rte_memcpy(rte_pktmbuf_append(frames[i], static_cast<uint16_t>(frame.size())), frame.data(),
                 frame.size());
      *RTE_MBUF_DYNFIELD(frames[i], field_, uint64_t*) = DueAt(sent_ + i);
    }
    sent_ += due;
    position_ = (position_ + due) % lap_.frames.size();
    return static_cast<uint16_t>(due);
  }

  const Lap& lap_;
  rte_mempool* pool_;
  uint16_t port_;
  const rte_eth_rxtx_callback* callback_;
  const int field_ = DueField();
  double interval_ = 0;
  uint64_t begin_ = 0;
  uint64_t sent_ = 0;
  uint64_t count_ = 0;
  size_t position_ = 0;
};

class Sink {
 public:
  explicit Sink(uint16_t port) : port_(port) {
    callback_ = rte_eth_add_tx_callback(port, 0, Note, this);
    if (callback_ == nullptr) Die("no callback for the sink");
  }
  ~Sink() { rte_eth_remove_tx_callback(port_, 0, callback_); }
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  void Start(uint64_t count) {
    delays_.clear();
    delays_.reserve(count);
  }
  [[nodiscard]] std::vector<uint32_t>& delays() { return delays_; }  // cycles, in order of sending

 private:
  static uint16_t Note(uint16_t /*port*/, uint16_t /*queue*/, rte_mbuf** frames, uint16_t count,
                       void* self) {
    Sink& sink = *static_cast<Sink*>(self);
    const uint64_t now = rte_rdtsc();
    for (uint16_t i = 0; i < count; ++i) {
      const uint64_t due = *RTE_MBUF_DYNFIELD(frames[i], sink.field_, uint64_t*);
      sink.delays_.push_back(static_cast<uint32_t>(std::min<uint64_t>(now - due, UINT32_MAX)));
    }
    return count;
  }

  uint16_t port_;
  const rte_eth_rxtx_callback* callback_;
  const int field_ = DueField();
  std::vector<uint32_t> delays_;
};

// Microseconds.
constexpr std::array<std::pair<const char*, double>, 4> kQuantiles = {
    {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1.0}}};
using Delays = std::array<double, kQuantiles.size()>;

Delays Quantiles(std::vector<uint32_t>& cycles) {
  std::ranges::sort(cycles);
  Delays delays{};
  for (size_t q = 0; q < delays.size(); ++q) {
    const auto rank =
        static_cast<size_t>(kQuantiles[q].second * static_cast<double>(cycles.size()));
    delays[q] = Nanoseconds(cycles[std::min(rank, cycles.size() - 1)]) / 1e3;
  }
  return delays;
}

// Of each quantile the median over the repeats; the maximum is that of all of them.
Delays Medians(const std::vector<Delays>& repeats) {
  Delays delays{};
  for (size_t q = 0; q < delays.size(); ++q) {
    std::vector<double> values;
    values.reserve(repeats.size());
    for (const Delays& repeat : repeats) values.push_back(repeat[q]);
    delays[q] = q + 1 < delays.size() ? Median(std::move(values)) : std::ranges::max(values);
  }
  return delays;
}

class Latency {
 public:
  Latency(Way way, rte_mempool* pool)
      : inbound_(way == Way::inbound),
        lap_(inbound_ ? MakeInbound(layout_, {64}, kLap, Attack::none)
                      : MakeOutbound(layout_, {64}, kLap, Attack::none)),
        rx_("net_null", "no-rx=1", pool),
        tx_("net_null", "no-rx=1", pool),
        gate_(layout_, inbound_ ? rx_.id() : tx_.id(), inbound_ ? tx_.id() : rx_.id(), 1, pool),
        source_(lap_, rx_.id(), pool),
        sink_(tx_.id()) {
    gate_.AddSas(inbound_ ? Direction::inbound : Direction::outbound);
  }

  /// Through the gate, or only from port to port. Nanoseconds a packet; delays in sink().
  double Run(bool gate, double interval, uint64_t count) {
    gate_.ResetWindows();
    sink_.Start(count);
    source_.Start(interval, count);
    const uint64_t begin = rte_rdtsc();
    while (!source_.done()) {
      if (!gate) {
        Forward();
        continue;
      }
      const bool some = gate_.worker().Round() > 0;
      if (some && inbound_ && source_.at_start()) gate_.ResetWindows();
    }
    const uint64_t cycles = rte_rdtsc() - begin;
    if (sink_.delays().size() != count) {
      Die(fmt::format("latency: {} of {} packets came out", sink_.delays().size(), count));
    }
    return Nanoseconds(cycles) / static_cast<double>(count);
  }
  [[nodiscard]] Sink& sink() { return sink_; }

 private:
  void Forward() {
    rte_mbuf* frames[Burst::kMost];
    const uint16_t count = rte_eth_rx_burst(rx_.id(), 0, frames, Burst::kMost);
    if (count > 0) rte_eth_tx_burst(tx_.id(), 0, frames, count);
  }

  const bool inbound_;
  const Layout layout_;
  const Lap lap_;
  Device rx_;
  Device tx_;
  Rig gate_;
  Source source_;
  Sink sink_;
};

nlohmann::json ToJson(const Delays& delays) {
  nlohmann::json json;
  for (size_t q = 0; q < delays.size(); ++q) {
    json[std::string(kQuantiles[q].first) + "_us"] = std::round(delays[q] * 100) / 100;
  }
  return json;
}

}  // namespace

nlohmann::json MeasureLatency(Way way, const Options& options, rte_mempool* pool) {
  Latency latency(way, pool);
  std::vector<double> fastest;
  const auto packets = [&](double ns) {
    return static_cast<uint64_t>(std::max(options.seconds * 1e9 / ns, 1e4));
  };
  latency.Run(true, 0, kLap * 16);  // warm
  for (unsigned i = 0; i < options.repeats; ++i) {
    fastest.push_back(latency.Run(true, 0, packets(100)));
  }
  const double least_ns = Median(fastest);
  auto rows = nlohmann::json::array();
  for (const double load : kLoads) {
    const double ns = least_ns / load;
    const double interval = ns * static_cast<double>(rte_get_tsc_hz()) / 1e9;
    std::vector<Delays> gate, io;
    for (unsigned i = 0; i < options.repeats; ++i) {
      latency.Run(true, interval, packets(ns));
      gate.push_back(Quantiles(latency.sink().delays()));
      latency.Run(false, interval, packets(ns));
      io.push_back(Quantiles(latency.sink().delays()));
    }
    const Delays through = Medians(gate);
    const Delays beside = Medians(io);
    fmt::print("latency {:10} at {:3.0f} % of {:5.2f} Mpps, µs:", Name(way), load * 100,
               1e3 / least_ns);
    for (size_t q = 0; q < through.size(); ++q) {
      fmt::print("  {} {:.1f} (io {:.1f})", kQuantiles[q].first, through[q], beside[q]);
    }
    fmt::print("\n");
    std::fflush(stdout);
    rows.push_back({{"name", "latency"},
                    {"direction", Name(way)},
                    {"inner_bytes", 64},
                    {"load", load},
                    {"offered_mpps", std::round(1e7 / ns) / 1e4},
                    {"highest_mpps", std::round(1e7 / least_ns) / 1e4},
                    {"gate", ToJson(through)},
                    {"io", ToJson(beside)},
                    {"repeats", options.repeats}});
  }
  return rows;
}

}  // namespace portcullis::bench
