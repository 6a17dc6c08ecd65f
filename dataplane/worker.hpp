// A worker: one lcore that polls its queues and runs every packet to completion. What a stage needs
// while it works on a burst stands here; nothing in it allocates, locks, logs or blocks.
#pragma once

#include <rte_ether.h>
#include <rte_ring.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "bpf/spi_table.hpp"
#include "dataplane/config.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/packet/packet.hpp"
#include "dataplane/ports/port.hpp"
#include "dataplane/state/counters.hpp"
#include "dataplane/state/flow_cache.hpp"
#include "dataplane/state/policer.hpp"
#include "dataplane/state/source_table.hpp"
#include "dataplane/state/state.hpp"
#include "dataplane/transmit.hpp"
#include "dataplane/waiting.hpp"

struct rte_mempool;

namespace portcullis {

class Reassembler;

/// From a worker to the main thread: what needs a system call or a search.
struct alignas(64) MainMessage {
  enum class Kind : uint8_t { resolve, touch, suspect, pmtu };
  Address address;  // next hop; the SA's endpoint; destination of the quoted packet
  Spi spi{};
  uint32_t sequence = 0;  // pmtu: lower 32 bits of the quoted number
  uint16_t port = 0;
  uint16_t mtu = 0;  // pmtu: bytes of outer packet
  Kind kind = Kind::resolve;
};
static_assert(sizeof(MainMessage) == 64);

/// What all workers share and nobody changes after start-up. The rings go with it.
struct WorkerShared {
  State& state;
  const DataplaneConfig& config;
  const std::vector<Port>& ports;
  rte_mempool* pool;
  rte_ring* to_main;               // of MainMessage
  std::vector<rte_ring*> handoff;  // by worker, of rte_mbuf*
  TransmitRings transmit_rings;
  uint64_t tsc_hz;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> suspects_until = 0;  // TSC: the latest Suspicion of all SAs ends

  ~WorkerShared();
};

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> Make(WorkerShared& shared, unsigned index);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Polls until shared.stop; runs on the worker's lcore.
  void Run() noexcept;
  /// Sends what the stages have let pass.
  unsigned Flush() noexcept { return transmit_.Flush(); }
  /// One look at every queue; returns how many packets there were. Between two rounds this worker
  /// refers to nothing that RCU protects.
  unsigned Round() noexcept;

  // ---- for stages
  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] uint64_t now() const { return now_; }  // TSC when the burst began
  [[nodiscard]] State& state() { return shared_.state; }
  [[nodiscard]] const DataplaneConfig& config() const { return shared_.config; }
  [[nodiscard]] uint64_t tsc_hz() const { return shared_.tsc_hz; }
  [[nodiscard]] rte_mempool* pool() const { return shared_.pool; }
  /// In force for the whole burst; null before the first policy.
  [[nodiscard]] const Snapshot* snapshot() const { return snapshot_; }
  /// What the stage prefilter judges by; null: before the first policy, or XDP does it everywhere.
  [[nodiscard]] const SourceTable* sources() const { return sources_; }
  /// Only where sources() may be other than null.
  [[nodiscard]] SourceBuckets& source_buckets() { return *source_buckets_; }
  /// The burst comes from other workers, which have looked at it before.
  [[nodiscard]] bool handed_over() const { return handed_over_; }
  [[nodiscard]] const Fib* fib() const { return fib_; }
  /// Of snapshot and fib: see State::view.
  [[nodiscard]] uint32_t view() const { return view_; }
  [[nodiscard]] FlowCache& flows() { return flows_; }
  [[nodiscard]] const HostAddresses* hosts() const { return shared_.state.hosts(); }
  [[nodiscard]] Engine& engine() { return *engine_; }
  [[nodiscard]] const Port& PortOf(const Packet& packet) const {
    return *ports_[packet.mbuf->port];
  }
  [[nodiscard]] const Port& PortById(uint16_t id) const { return *ports_[id]; }
  [[nodiscard]] Reassembler* reassembler() { return reassembler_.get(); }
  /// Cycles that failed integrity checks may still cost here (AuthLimits::cpu_percent).
  [[nodiscard]] Bucket& failure_cycles() { return failure_cycles_; }
  /// When the last of this worker's SAs that are suspect will be no more, TSC.
  [[nodiscard]] uint64_t any_suspect_until() const { return any_suspect_until_; }
  void NoteSuspect(uint64_t until) noexcept {
    any_suspect_until_ = std::max(any_suspect_until_, until);
  }
  /// ICMP errors that this worker may still send (RFC 1812 4.3.2.8, RFC 4443 2.4).
  [[nodiscard]] Bucket& icmp_budget() { return icmp_budget_; }

  /// The packet ends here: counted, its buffer freed.
  void End(Packet& packet, Verdict verdict) noexcept;
  /// Asks `judge(Packet&)` about each, in order; ends those that it does not accept, forgets those
  /// that it has taken.
  template <class Judge>
  void Filter(Burst& burst, Judge&& judge) noexcept {
    std::array<Verdict, Burst::kMost> verdicts;
    Verdict* verdict = verdicts.data();
    unsigned any = 0;
    for (Packet& packet : burst.all()) {
      *verdict = judge(packet);
      any |= static_cast<unsigned>(*verdict++);
    }
    if (any != static_cast<unsigned>(Verdict::accepted)) Drop(burst, verdicts.data());
  }
  /// What leaves are the `length` bytes of IP packet at `offset`. By `hop`, whose link-layer header
  /// is written here; or they wait for it to be resolved.
  void Send(Packet& packet, uint16_t offset, uint16_t length, const NextHop& hop) noexcept {
    constexpr int kHeader = sizeof(rte_ether_hdr);
    if (rte_pktmbuf_headroom(packet.mbuf) + offset < kHeader) {
      return End(packet, Verdict::no_buffer);
    }
    const bool v4 = *packet.At(offset) >> 4U == 4;
    packet.Cut(offset - kHeader, static_cast<uint16_t>(length + kHeader));
    if ((!hop.resolved || now_ >= next_touch_) && !Resolve(packet, hop)) return;
    auto* ether = reinterpret_cast<rte_ether_hdr*>(packet.data);
    std::memcpy(&ether->dst_addr, hop.destination.data(), hop.destination.size());
    std::memcpy(&ether->src_addr, hop.source.data(), hop.source.size());
    ether->ether_type = v4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) : RTE_BE16(RTE_ETHER_TYPE_IPV6);
    transmit_.Add(packet.mbuf, hop.port,
                  {.sa = packet.sa,
                   .inner_bytes = packet.flow.length,
                   .verdict = packet.sa == nullptr ? Verdict::bypassed : Verdict::accepted,
                   .counts = true});
  }
  /// Out of a port as it is, link-layer header included.
  void SendRaw(Packet& packet, uint16_t port, Verdict verdict) noexcept;
  /// A frame of our own making; it has no verdict.
  void SendReply(rte_mbuf* frame, uint16_t port) noexcept;
  /// To the worker that owns it, which starts again at parse. False: ring full, still the caller's.
  bool HandOff(Packet& packet, unsigned worker) noexcept;
  /// Lost when the main thread is far behind: everything it is told comes again.
  void Tell(const MainMessage& message) noexcept;
  /// Hints that any outsider can cause at any rate. Each kind has a bound of its own, so that a
  /// flood crowds out neither the other nor what workers need.
  void TellPathMtu(const MainMessage& message) noexcept {
    if (pmtu_hints_.Take(now_, 1)) Tell(message);
  }
  /// This worker's SA needs the first line's help for a second from now. To be called for any
  /// packet while that is so: the first line hears of it now, again after half of the time, and
  /// whenever the endpoint is another.
  void TellSuspect(Sa& sa) noexcept;
  /// TSC: from then on nobody is suspect.
  [[nodiscard]] uint64_t suspects_until() const {
    return shared_.suspects_until.load(std::memory_order_relaxed);
  }

  /// This worker's SA has moved its window: tells XDP on every port that lets it through.
  void TellOldest(const Sa& sa) noexcept {
    const auto oldest = static_cast<uint32_t>(sa.oldest.load(std::memory_order_relaxed));
    for (const SpiTable& table : spi_tables_) table.Advance(sa.spi, oldest);
  }

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  Worker(WorkerShared& shared, unsigned index, std::unique_ptr<Engine> engine);
  void Count(const Packet& packet, Verdict verdict) noexcept;
  void Drop(Burst& burst, const Verdict* verdicts) noexcept;
  void RunBurst(rte_mbuf** frames, unsigned count, PortRole role) noexcept;
  void RunMixed(rte_mbuf** frames, unsigned count) noexcept;
  void Rest() noexcept;
  bool Resolve(Packet& packet, const NextHop& hop) noexcept;
  void Touch(const NextHop& hop, const Address& destination) noexcept;

  WorkerShared& shared_;
  const unsigned index_;
  uint64_t now_ = 0;
  const Snapshot* snapshot_ = nullptr;
  const SourceTable* sources_ = nullptr;
  bool handed_over_ = false;
  const Fib* fib_ = nullptr;
  uint32_t view_ = 0;
  std::unique_ptr<Engine> engine_;
  std::array<const Port*, RTE_MAX_ETHPORTS> ports_{};
  std::vector<SpiTable> spi_tables_;
  Counters counters_;
  Bucket failure_cycles_;
  uint64_t any_suspect_until_ = 0;
  Bucket icmp_budget_;
  Bucket pmtu_hints_;
  Bucket suspect_hints_;
  FlowCache flows_;
  Transmit transmit_;
  Waiting waiting_;
  std::unique_ptr<Reassembler> reassembler_;
  std::unique_ptr<SourceBuckets> source_buckets_;
  unsigned idle_rounds_ = 0;
  uint64_t next_touch_ = 0;  // TSC
  Burst burst_;
};

}  // namespace portcullis
