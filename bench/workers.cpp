#include "bench/workers.hpp"

#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include <algorithm>

namespace portcullis::bench {
namespace {

constexpr uint32_t kNumbers = 1024;  // of each SA, as many as its window holds
constexpr unsigned kRoundsBetweenResets = 8;
static_assert(kRoundsBetweenResets * 2 * Burst::kMost <= kNumbers);

// By which queue an SA's packets arrive; SA i belongs to worker i modulo workers.
unsigned QueueOf(uint32_t sa, unsigned workers, Arrival arrival) {
  return arrival == Arrival::half_elsewhere ? sa / workers % workers : sa % workers;
}

}  // namespace

Workers::Workers(const Case& test, rte_mempool* pool)
    : test_(test), laps_(test.layout.workers), cycles_(test.layout.workers) {
  const Layout& layout = test_.layout;
  const bool inbound = test_.way == Way::inbound;
  const uint32_t count = layout.sas * kNumbers;
  Lap all = inbound ? MakeInbound(layout, test_.sizes, count, Attack::none)
                    : MakeOutbound(layout, test_.sizes, count, Attack::none);
  for (size_t i = 0; i < all.frames.size(); ++i) {
    Lap& lap = laps_[QueueOf(all.sa[i], layout.workers, test_.arrival)];
    lap.frames.push_back(std::move(all.frames[i]));
    lap.sa.push_back(all.sa[i]);
  }
  std::string queues;
  for (Lap& lap : laps_) {
    lap.inner_bytes = all.inner_bytes;
    lap.esp = all.esp;
    files_.push_back(std::make_unique<PcapFile>(lap));
    queues += fmt::format("rx_pcap={},", files_.back()->path());
  }
  const auto workers = static_cast<uint16_t>(layout.workers);
  rx_ = std::make_unique<Device>("net_pcap", queues + "infinite_rx=1", pool, workers);
  tx_ = std::make_unique<Device>("net_null", "no-rx=1", pool, workers);
  gate_ = std::make_unique<Rig>(layout, inbound ? rx_->id() : tx_->id(),
                                inbound ? tx_->id() : rx_->id(), workers, pool);
  gate_->AddSas(inbound ? Direction::inbound : Direction::outbound);
  for (uint32_t i = 0; i < layout.sas; ++i) {
    if (gate_->sas()[i]->worker != i % workers) Die("an SA belongs to another worker");
  }
}

Workers::~Workers() = default;

int Workers::RunJob(void* job) {
  static_cast<Job*>(job)->subject->Run(static_cast<Job*>(job)->worker);
  return 0;
}

void Workers::Run(unsigned index) {
  const unsigned workers = test_.layout.workers;
  Worker& worker = gate_->worker(index);
  ready_.fetch_add(1);
  while (ready_.load() < workers) rte_pause();
  const uint64_t begin = rte_rdtsc();
  do {
    if (test_.way == Way::inbound) gate_->ResetWindows(index, workers);
    for (unsigned i = 0; i < kRoundsBetweenResets; ++i) worker.Round();
  } while (rte_rdtsc() - begin < limit_);
  cycles_[index] = rte_rdtsc() - begin;
}

double Workers::Measure(double seconds) {
  limit_ = static_cast<uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
  ready_ = 0;
  const uint64_t before = gate_->Count(Verdict::accepted);
  std::vector<Job> jobs;
  for (unsigned w = 0; w < test_.layout.workers; ++w) jobs.push_back({this, w});
  unsigned lcore = rte_lcore_id();
  for (size_t w = 1; w < jobs.size(); ++w) {
    lcore = rte_get_next_lcore(lcore, 1, 1);
    if (rte_eal_remote_launch(RunJob, &jobs[w], lcore) != 0) Die("a core is not free");
  }
  Run(0);
  rte_eal_mp_wait_lcore();
  for (size_t v = 0; v < kVerdictCount; ++v) {
    const auto verdict = static_cast<Verdict>(v);
    if (verdict == Verdict::accepted || verdict == Verdict::handoff_full) continue;
    // See the header: each number that comes again too early takes the place of one that was lost.
    const uint64_t may =
        verdict == Verdict::replayed ? gate_->Count(Verdict::handoff_full) : uint64_t{0};
    if (const uint64_t count = gate_->Count(verdict); count > may) {
      Die(fmt::format("{}: {} packets were {}", test_.name, count, Info(verdict).name));
    }
  }
  const uint64_t accepted = gate_->Count(Verdict::accepted) - before;
  if (accepted == 0) Die(test_.name + ": nothing was accepted");
  return Nanoseconds(*std::ranges::max_element(cycles_)) / static_cast<double>(accepted);
}

// The ports of one worker; the others' are their own.
double Workers::MeasureIo(double seconds) {
  return bench::MeasureIo(rx_->id(), tx_->id(), lap().frames.size(), seconds) /
         test_.layout.workers;
}

double Workers::lost() const {
  const auto full = static_cast<double>(gate_->Count(Verdict::handoff_full));
  return full / (full + static_cast<double>(gate_->Count(Verdict::accepted)));
}

}  // namespace portcullis::bench
