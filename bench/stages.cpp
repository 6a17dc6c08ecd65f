// Where the time goes: the production stages of one way, called one by one with the cycle counter
// read in between. The counter itself costs some 10 ns a burst and a stage, spread over its
// packets.
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "bench/limit.hpp"
#include "bench/setup.hpp"
#include "dataplane/pipeline/pipeline.hpp"

namespace portcullis::bench {

void ProfileStages(const Case& test, rte_mempool* pool) {
  if (test.way == Way::round_trip || test.arrival != Arrival::laps) return;
  Setup bench(test, pool);
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
  std::printf("%s, a packet:\n", test.Text().c_str());
  print("receive", least.front());
  for (size_t s = 0; s < stages.size(); ++s) print(stages[s].name, least[s + 1]);
  print("send", least.back());
  print("all", std::accumulate(least.begin(), least.end(), uint64_t{0}));
}

}  // namespace portcullis::bench
