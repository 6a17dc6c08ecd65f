#include "dataplane/worker.hpp"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>

#include "bpf/loader.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/pipeline/reassemble.hpp"

namespace portcullis {
namespace {

// A packet that comes within this many empty rounds finds the worker awake.
constexpr unsigned kRoundsAwake = 256;
constexpr auto kNap = std::chrono::microseconds(50);
constexpr uint64_t kIcmpErrorsPerSecond = 100;
// Several flows an SA, in a table that is never more than an eighth full: whoever is not found in
// it costs a search through all peers. 1 to 32 MiB.
constexpr size_t kFlowsPerSa = 4;
constexpr size_t kLeastFlows = 16384;
constexpr size_t kMostFlows = 524288;
// A path MTU hint costs the main thread a look-up, a suspect two system calls. A second's worth of
// the former may come at once: when a path changes, every SA on it hears of it.
constexpr uint64_t kPmtuHintsPerSecond = 100;
constexpr uint64_t kSuspectHintsPerSecond = 1000;

}  // namespace

WorkerShared::~WorkerShared() {
  rte_ring_free(to_main);
  for (rte_ring* ring : handoff) rte_ring_free(ring);
  for (const auto& queues : transmit_rings) {
    for (rte_ring* ring : queues) rte_ring_free(ring);
  }
}

Result<std::unique_ptr<Worker>> Worker::Make(WorkerShared& shared, unsigned index) {
  auto engine = MakeIpsecMbEngine();
  if (!engine) return tl::unexpected(engine.error());
  std::unique_ptr<Worker> worker;
  try {
    worker.reset(new Worker(shared, index, std::move(*engine)));
    if (std::ranges::any_of(shared.ports, &Port::NeedsPrefilter)) {
      worker->source_buckets_ = std::make_unique<SourceBuckets>();
    }
  } catch (const std::bad_alloc&) {
    return Fail(ErrorKind::kExhausted,
                "no memory for a worker's tables of flows and sources: raise memory.megabytes or "
                "use hugepages");
  }
  if (shared.config.fragments == FragmentMode::kReassemble) {
    auto reassembler = Reassembler::Make(index, shared.tsc_hz);
    if (!reassembler) return tl::unexpected(reassembler.error());
    worker->reassembler_ = std::move(*reassembler);
  }
  return worker;
}

Worker::Worker(WorkerShared& shared, unsigned index, std::unique_ptr<Engine> engine)
    : shared_(shared),
      index_(index),
      engine_(std::move(engine)),
      // In units of a cycle: cpu_percent of the TSC's rate, saved up for a tenth of a second.
      failure_cycles_(shared.tsc_hz / 100 * shared.config.auth_failures.cpu_percent,
                      shared.tsc_hz / 10, shared.tsc_hz, 1),
      icmp_budget_(kIcmpErrorsPerSecond, shared.tsc_hz / 10, shared.tsc_hz, 1),
      pmtu_hints_(kPmtuHintsPerSecond, shared.tsc_hz, shared.tsc_hz, 1),
      suspect_hints_(kSuspectHintsPerSecond, shared.tsc_hz / 10, shared.tsc_hz, 1),
      flows_(std::clamp(shared.state.capacity() * kFlowsPerSa, kLeastFlows, kMostFlows)),
      transmit_(shared.ports, shared.transmit_rings, index, counters_),
      waiting_(shared.config.neighbours.queue,
               shared.tsc_hz / 1000 * shared.config.neighbours.timeout_ms) {
  for (const Port& port : shared.ports) {
    ports_[port.id] = &port;
    if (port.role == PortRole::kUntrusted && port.xdp) spi_tables_.push_back(port.xdp->spis());
  }
}

Worker::~Worker() = default;

void Worker::Run() noexcept {
  Rcu& rcu = state().rcu();
  rcu.Online(index_);
  while (!shared_.stop.load(std::memory_order_relaxed)) {
    const unsigned handled = Round();
    rcu.Quiescent(index_);
    if (handled > 0) {
      idle_rounds_ = 0;
    } else {
      Rest();
    }
  }
  rcu.Offline(index_);
}

unsigned Worker::Round() noexcept {
  rte_mbuf* frames[Burst::kMost];
  unsigned handled = 0;
  view_ = state().view();
  snapshot_ = state().snapshot();
  sources_ = snapshot_ == nullptr ? nullptr : snapshot_->sources.get();
  fib_ = state().fib();
  now_ = rte_rdtsc();

  // First those that wait for their neighbour, so that none is overtaken.
  if (!waiting_.empty()) waiting_.Review(*this);
  const unsigned handed = rte_ring_sc_dequeue_burst(
      shared_.handoff[index_], reinterpret_cast<void**>(frames), Burst::kMost, nullptr);
  if (handed > 0) {
    handed_over_ = true;
    RunMixed(frames, handed);
    handed_over_ = false;
  }
  handled += handed;

  for (const Port& port : shared_.ports) {
    const uint16_t queue = port.RxQueueOf(index_);
    if (queue == Port::kNone) continue;
    const unsigned count = rte_eth_rx_burst(port.id, queue, frames, Burst::kMost);
    if (count == 0) continue;
    now_ = rte_rdtsc();
    // Not every driver says where a packet came from (net_ring does not); stages rely on it.
    for (rte_mbuf* frame : std::span(frames, count)) frame->port = port.id;
    RunBurst(frames, count, port.role);
    handled += count;
  }
  if (reassembler_) reassembler_->Expire(*this);
  // Before the quiescent point: what is gathered refers to SAs.
  return handled + transmit_.Flush();
}

// Handed-off packets come from any port; runs of one direction stay together.
void Worker::RunMixed(rte_mbuf** frames, unsigned count) noexcept {
  for (unsigned begin = 0; begin < count;) {
    const PortRole role = ports_[frames[begin]->port]->role;
    unsigned end = begin + 1;
    while (end < count && ports_[frames[end]->port]->role == role) ++end;
    RunBurst(frames + begin, end - begin, role);
    begin = end;
  }
}

void Worker::RunBurst(rte_mbuf** frames, unsigned count, PortRole role) noexcept {
  burst_.Begin({frames, count});
  switch (role) {
    case PortRole::kUntrusted:
      return Inbound(*this, burst_);
    case PortRole::kTrusted:
    case PortRole::kLocal:
      return Outbound(*this, burst_);
    case PortRole::kException:
      for (Packet& packet : burst_.all()) {
        SendRaw(packet, PortOf(packet).exception_for, Verdict::exception);
      }
  }
}

void Worker::Rest() noexcept {
  if (shared_.config.workers.idle == Idle::kPoll || ++idle_rounds_ < kRoundsAwake) {
    rte_pause();
    return;
  }
  // Packets that wait refer to SAs: as long as there are any, whoever removes an SA must wait for
  // us.
  Rcu& rcu = state().rcu();
  const bool offline = waiting_.empty();
  if (offline) rcu.Offline(index_);
  std::this_thread::sleep_for(kNap);
  if (offline) rcu.Online(index_);
}

// Packets that end come in floods: what they count for and their buffers are gathered.
void Worker::Drop(Burst& burst, const Verdict* verdicts) noexcept {
  rte_mbuf* ended[Burst::kMost];
  unsigned ends = 0;
  unsigned kept = 0;
  for (unsigned i = 0; i < burst.count; ++i) {
    Packet& packet = burst.packets[i];
    const Verdict verdict = verdicts[i];
    if (verdict == Verdict::accepted) {
      if (kept != i) burst.packets[kept] = packet;
      ++kept;
    } else if (verdict != kTaken) {
      Count(packet, verdict);
      ended[ends++] = packet.mbuf;
    }
  }
  burst.count = kept;
  rte_pktmbuf_free_bulk(ended, ends);
}

void Worker::Count(const Packet& packet, Verdict verdict) noexcept {
  counters_.Count(verdict);
  // An SA's counters have one writer, its worker.
  if (packet.sa != nullptr && packet.sa->worker == index_) packet.sa->counters.Count(verdict);
}

void Worker::End(Packet& packet, Verdict verdict) noexcept {
  Count(packet, verdict);
  rte_pktmbuf_free(packet.mbuf);
}

// The kernel does not know this neighbour, or is to be told again that it is in use. False: the
// packet waits, or has ended.
bool Worker::Resolve(Packet& packet, const NextHop& hop) noexcept {
  const Address destination = DestinationAt(packet.At(sizeof(rte_ether_hdr)));
  if (hop.resolved) {
    Touch(hop, destination);
    return true;
  }
  if (!waiting_.Add(packet, hop, destination, *this)) End(packet, Verdict::queue_full);
  return false;
}

// The kernel sees none of our traffic, so it cannot know which neighbours are in use and would
// never check them again. A sample of the packets tells it: ten a second find every busy neighbour.
void Worker::Touch(const NextHop& hop, const Address& destination) noexcept {
  next_touch_ = now_ + shared_.tsc_hz / 10;
  Tell({.address = hop.gateway == Address() ? destination : hop.gateway,
        .port = hop.port,
        .kind = MainMessage::Kind::touch});
}

void Worker::SendRaw(Packet& packet, uint16_t port, Verdict verdict) noexcept {
  transmit_.Add(packet.mbuf, port, {.verdict = verdict, .counts = true});
}

void Worker::SendReply(rte_mbuf* frame, uint16_t port) noexcept {
  transmit_.Add(frame, port, {});
}

bool Worker::HandOff(Packet& packet, unsigned worker) noexcept {
  return rte_ring_mp_enqueue(shared_.handoff[worker], packet.mbuf) == 0;
}

void Worker::TellSuspect(Sa& sa) noexcept {
  Suspicion& told = sa.suspicion;
  const Address endpoint = sa.endpoint.address();
  if (now_ < told.again && told.endpoint == endpoint) return;
  if (!spi_tables_.empty()) {
    if (!suspect_hints_.Take(now_, 1)) return;
    Tell({.address = endpoint, .spi = sa.spi, .kind = MainMessage::Kind::suspect});
  }
  told.endpoint = endpoint;
  told.again = now_ + shared_.tsc_hz / 2;
  const uint64_t until = now_ + shared_.tsc_hz;
  told.until.store(until, std::memory_order_relaxed);
  // Of two workers at once either may win: both mean nearly the same time.
  shared_.suspects_until.store(std::max(until, suspects_until()), std::memory_order_relaxed);
}

void Worker::Tell(const MainMessage& message) noexcept {
  rte_ring_mp_enqueue_bulk_elem(shared_.to_main, &message, sizeof(message), 1, nullptr);
}

}  // namespace portcullis
