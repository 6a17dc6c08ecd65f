#include "bench/row.hpp"

#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "bench/limit.hpp"
#include "bench/rig.hpp"
#include "dataplane/pipeline/pipeline.hpp"

namespace portcullis::bench {
namespace {

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// A multiple of a burst, so that no burst holds the end of one lap and the beginning of the next.
uint32_t LapLength(const Case& test) {
  return std::max<uint32_t>(4096, std::bit_ceil(test.layout.sas));
}

struct PcapFile {
  std::string path = fmt::format("/dev/shm/portcullis-bench-{}.pcap", getpid());
  explicit PcapFile(const Lap& lap) { WritePcap(path, lap.frames); }
  ~PcapFile() { std::remove(path.c_str()); }
  PcapFile(const PcapFile&) = delete;
  PcapFile& operator=(const PcapFile&) = delete;
};

// Frames that a gate sends by it arrive where another gate listens.
class Loop {
 public:
  Loop() {
    static unsigned serial = 0;
    const std::string name = "loop" + std::to_string(serial++);
    ring_ = rte_ring_create(name.c_str(), 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    const int port = rte_eth_from_rings(name.c_str(), &ring_, 1, &ring_, 1, SOCKET_ID_ANY);
    if (ring_ == nullptr || port < 0) Die("no ring port");
    id_ = static_cast<uint16_t>(port);
  }
  void Start(rte_mempool* pool) const {
    rte_eth_conf conf{};
    if (rte_eth_dev_configure(id_, 1, 1, &conf) != 0 ||
        rte_eth_rx_queue_setup(id_, 0, 64, SOCKET_ID_ANY, nullptr, pool) != 0 ||
        rte_eth_tx_queue_setup(id_, 0, 64, SOCKET_ID_ANY, nullptr) != 0 ||
        rte_eth_dev_start(id_) != 0) {
      Die("the ring port does not start");
    }
  }
  ~Loop() {
    rte_eth_dev_stop(id_);
    rte_eth_dev_close(id_);
    rte_ring_free(ring_);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  [[nodiscard]] uint16_t id() const { return id_; }

 private:
  rte_ring* ring_;
  uint16_t id_ = 0;
};

// What a packet of this case must become, at least in the end.
Verdict Expected(const Case& test) {
  switch (test.attack) {
    case Attack::none:
      return Verdict::accepted;
    case Attack::unknown_spi:
      return Verdict::unknown_spi;
    case Attack::replay:
      return Verdict::replayed;
    case Attack::bad_icv:
      return Verdict::auth_failed;
    case Attack::selector_miss:
      return Verdict::selector_mismatch;
    case Attack::no_policy:
      return Verdict::no_policy;
  }
  return Verdict::accepted;
}

// The ports and gates of one case.
class Bench {
 public:
  Bench(const Case& test, rte_mempool* pool)
      : test_(test),
        lap_(test.way == Way::inbound
                 ? MakeInbound(test.layout, test.sizes, LapLength(test), test.attack)
                 : MakeOutbound(ClientLayout(), test.sizes, LapLength(test), test.attack)),
        pcap_(lap_),
        rx_("net_pcap", fmt::format("rx_pcap={},infinite_rx=1", pcap_.path), pool),
        tx_("net_null", "no-rx=1", pool) {
    if (test.way == Way::round_trip) {
      loop_ = std::make_unique<Loop>();
      loop_->Start(pool);
      client_layout_ = ClientLayout();
      client_ = std::make_unique<Rig>(client_layout_, loop_->id(), rx_.id(), 1, pool);
      client_->AddSas(Direction::outbound);
      gate_ = std::make_unique<Rig>(test.layout, loop_->id(), tx_.id(), 1, pool);
      gate_->AddSas(Direction::inbound);
    } else if (test.way == Way::inbound) {
      gate_ = std::make_unique<Rig>(test.layout, rx_.id(), tx_.id(), 1, pool);
      gate_->AddSas(Direction::inbound);
    } else {
      gate_ = std::make_unique<Rig>(test.layout, tx_.id(), rx_.id(), 1, pool);
      gate_->AddSas(Direction::outbound);
    }
  }

  /// Nanoseconds a packet. Fails unless every packet became what it had to.
  double Measure(double seconds) {
    uint64_t cycles = 0;
    uint64_t packets = 0;
    const uint64_t before = gate_->Count(Expected(test_));
    const auto limit = static_cast<uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
    if (test_.attack == Attack::replay) RunLap();  // that which is replayed
    const uint64_t replayed = gate_->Count(Expected(test_));
    while (cycles < limit) {
      if (test_.way == Way::inbound && test_.attack != Attack::replay) gate_->ResetWindows();
      const uint64_t begin = rte_rdtsc();
      packets += RunLap();
      cycles += rte_rdtsc() - begin;
    }
    const uint64_t judged =
        gate_->Count(Expected(test_)) - (test_.attack == Attack::replay ? replayed : before);
    if (judged != packets) {
      Die(fmt::format("{}: {} of {} packets were {}", test_.name, judged, packets,
                      Info(Expected(test_)).name));
    }
    return Nanoseconds(cycles) / static_cast<double>(packets);
  }

  double MeasureIo(double seconds) {
    const size_t lap = lap_.frames.size();
    return loop_ ? bench::MeasureIo(rx_.id(), loop_->id(), tx_.id(), lap, seconds)
                 : bench::MeasureIo(rx_.id(), tx_.id(), lap, seconds);
  }
  [[nodiscard]] const Lap& lap() const { return lap_; }
  [[nodiscard]] Rig& gate() { return *gate_; }
  [[nodiscard]] uint16_t rx() const { return rx_.id(); }

 private:
  Layout ClientLayout() const {
    Layout layout = test_.layout;
    layout.client = test_.way == Way::round_trip;
    return layout;
  }
  uint64_t RunLap() {
    uint64_t packets = 0;
    while (packets < lap_.frames.size()) {
      if (client_) client_->worker().Round();
      packets += gate_->worker().Round();
    }
    return packets;
  }

  const Case& test_;
  Lap lap_;
  PcapFile pcap_;
  Device rx_;
  Device tx_;
  std::unique_ptr<Loop> loop_;
  Layout client_layout_;
  std::unique_ptr<Rig> client_;
  std::unique_ptr<Rig> gate_;
};

}  // namespace

Row Measure(const Case& test, const Options& options, rte_mempool* pool) {
  Bench bench(test, pool);
  std::vector<std::unique_ptr<CryptoLimit>> limits;
  if (test.way != Way::outbound) {
    limits.push_back(std::make_unique<CryptoLimit>(test.layout, bench.lap(), bench.gate().sas(),
                                                   Direction::inbound, pool));
  }
  if (test.way != Way::inbound) {
    limits.push_back(std::make_unique<CryptoLimit>(test.layout, bench.lap(), bench.gate().sas(),
                                                   Direction::outbound, pool));
  }
  bench.Measure(options.seconds / 4);  // warm
  std::vector<double> gate, crypto, io, ratios;
  for (unsigned i = 0; i < options.repeats; ++i) {
    crypto.push_back(0);
    for (const auto& limit : limits) crypto.back() += limit->Measure(options.seconds / 2);
    gate.push_back(bench.Measure(options.seconds));
    double ports = bench.MeasureIo(options.seconds / 2);
    if (options.testpmd_ns > 0) ports = std::min(ports, options.testpmd_ns);
    io.push_back(ports);
    ratios.push_back((crypto.back() + io.back()) / gate.back());
  }
  const auto [least, most] = std::ranges::minmax(ratios);
  return {.ns = Median(gate),
          .crypto_ns = Median(crypto),
          .io_ns = Median(io),
          .ratio = Median(ratios),
          .spread = most - least,
          .inner_bytes = bench.lap().inner_bytes,
          .repeats = options.repeats};
}

void ProfileStages(const Case& test, rte_mempool* pool) {
  Bench bench(test, pool);
  Worker& worker = bench.gate().worker();
  const auto stages = test.way == Way::inbound ? InboundStages() : OutboundStages();
  // Of each part the least over the laps: what others do to this core is not the stage's.
  constexpr uint64_t kNever = UINT64_MAX;
  std::vector<uint64_t> least(stages.size() + 2, kNever);
  const size_t packets = bench.lap().frames.size();
  static Burst burst;
  worker.Round();  // the snapshot that the stages read
  for (int lap = 0; lap < 200; ++lap) {
    bench.gate().ResetWindows();
    std::vector<uint64_t> cycles(least.size());
    for (size_t done = 0; done < packets;) {
      rte_mbuf* frames[Burst::kMost];
      uint64_t at = rte_rdtsc();
      const auto lapse = [&at](uint64_t& to) {
        const uint64_t now = rte_rdtsc();
        to += now - at;
        at = now;
      };
      const uint16_t count = rte_eth_rx_burst(bench.rx(), 0, frames, Burst::kMost);
      lapse(cycles[0]);
      burst.Begin({frames, count});
      for (size_t s = 0; s < stages.size() && !burst.empty(); ++s) {
        stages[s].run(worker, burst);
        lapse(cycles[s + 1]);
      }
      worker.Flush();
      lapse(cycles.back());
      done += count;
    }
    for (size_t i = 0; i < least.size(); ++i) least[i] = std::min(least[i], cycles[i]);
  }
  const auto print = [&](std::string_view name, uint64_t all) {
    std::printf("  %-14s %7.1f cycles %7.2f ns\n", std::string(name).c_str(),
                static_cast<double>(all) / static_cast<double>(packets),
                Nanoseconds(all) / static_cast<double>(packets));
  };
  std::printf("%s, a packet:\n", test.name.c_str());
  print("receive", least.front());
  for (size_t s = 0; s < stages.size(); ++s) print(stages[s].name, least[s + 1]);
  print("send", least.back());
  print("all", std::accumulate(least.begin(), least.end(), uint64_t{0}));
  CryptoLimit limit(test.layout, bench.lap(), bench.gate().sas(),
                    test.way == Way::inbound ? Direction::inbound : Direction::outbound, pool);
  double crypto = 1e9;
  double io = 1e9;
  for (int i = 0; i < 100; ++i) {
    crypto = std::min(crypto, limit.Measure(0.0003));
    io = std::min(io, bench.MeasureIo(0.0003));
  }
  std::printf("  %-14s %26.2f ns\n  %-14s %26.2f ns\n", "crypto alone", crypto, "ports alone", io);
}

}  // namespace portcullis::bench
