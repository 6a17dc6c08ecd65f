#include "bench/setup.hpp"

#include <fmt/format.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>

#include "bench/core_clock.hpp"
#include "bench/workers.hpp"

namespace portcullis::bench {
namespace {

// A multiple of a burst, so that no burst holds the end of one lap and the beginning of the next.
uint32_t LapLength(const Case& test) {
  return std::max(test.lap, std::bit_ceil(test.layout.sas));
}

// What a packet of this case must become, at least in the end.
Verdict Expected(Attack attack) {
  switch (attack) {
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
    case Attack::denied_source:
      return Verdict::source_denied;
  }
  return Verdict::accepted;
}

Layout ClientLayout(const Case& test) {
  Layout layout = test.layout;
  layout.client = test.way == Way::round_trip;
  return layout;
}

}  // namespace

PcapFile::PcapFile(const Lap& lap) {
  static unsigned serial = 0;
  path_ = fmt::format("/dev/shm/portcullis-bench-{}-{}.pcap", getpid(), serial++);
  WritePcap(path_, lap.frames);
}

PcapFile::~PcapFile() {
  std::remove(path_.c_str());
}

// Frames that one gate sends by it arrive where another gate listens.
class Setup::Loop {
 public:
  explicit Loop(rte_mempool* pool) {
    static unsigned serial = 0;
    const std::string name = "loop" + std::to_string(serial++);
    ring_ = rte_ring_create(name.c_str(), 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    const int port = rte_eth_from_rings(name.c_str(), &ring_, 1, &ring_, 1, SOCKET_ID_ANY);
    if (ring_ == nullptr || port < 0) Die("no ring port");
    id_ = static_cast<uint16_t>(port);
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

std::unique_ptr<Subject> MakeSubject(const Case& test, rte_mempool* pool) {
  if (test.layout.workers > 1 || test.arrival != Arrival::laps) {
    return std::make_unique<Workers>(test, pool);
  }
  return std::make_unique<Setup>(test, pool);
}

Setup::Setup(const Case& test, rte_mempool* pool)
    : test_(test),
      client_layout_(ClientLayout(test)),
      lap_(test.way == Way::inbound
               ? MakeInbound(test.layout, test.sizes, LapLength(test), test.attack)
               : MakeOutbound(client_layout_, test.sizes, LapLength(test), test.attack)),
      pcap_(lap_),
      rx_("net_pcap", fmt::format("rx_pcap={},infinite_rx=1", pcap_.path()), pool),
      tx_("net_null", "no-rx=1", pool) {
  if (test.way == Way::round_trip) {
    loop_ = std::make_unique<Loop>(pool);
    client_ = std::make_unique<Rig>(client_layout_, loop_->id(), rx_.id(), 1, pool);
    client_->AddSas(Direction::outbound);
    gate_ = std::make_unique<Rig>(test_.layout, loop_->id(), tx_.id(), 1, pool);
    gate_->AddSas(Direction::inbound);
  } else if (test.way == Way::inbound) {
    gate_ = std::make_unique<Rig>(test_.layout, rx_.id(), tx_.id(), 1, pool);
    gate_->AddSas(Direction::inbound);
  } else {
    gate_ = std::make_unique<Rig>(test_.layout, tx_.id(), rx_.id(), 1, pool);
    gate_->AddSas(Direction::outbound);
  }
}

Setup::~Setup() = default;

uint64_t Setup::RunLap() {
  uint64_t packets = 0;
  while (packets < lap_.frames.size()) {
    if (client_) client_->worker().Round();
    packets += gate_->worker().Round();
  }
  return packets;
}

double Setup::Measure(double seconds) {
  const bool replay = test_.attack == Attack::replay;
  const bool windows = test_.way == Way::inbound && !replay;
  if (replay) RunLap();  // that which is replayed
  const Verdict expected = Expected(test_.attack);
  const uint64_t before = gate_->Count(expected);
  CoreClock clock;
  uint64_t packets = 0;
  while (clock.ns() < seconds * 1e9) {
    if (windows) gate_->ResetWindows();
    clock.Start();
    packets += RunLap();
    clock.Stop();
  }
  if (const uint64_t judged = gate_->Count(expected) - before; judged != packets) {
    Die(fmt::format("{}: {} of {} packets were {}", test_.name, judged, packets,
                    Info(expected).name));
  }
  return clock.ns() / static_cast<double>(packets);
}

double Setup::MeasureIo(double seconds) {
  const size_t lap = lap_.frames.size();
  return loop_ ? bench::MeasureIo(rx_.id(), loop_->id(), tx_.id(), lap, seconds)
               : bench::MeasureIo(rx_.id(), tx_.id(), lap, seconds);
}

}  // namespace portcullis::bench
