// A row of the benchmark: what is measured, beside what, and what came out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/traffic.hpp"

struct rte_mempool;

namespace portcullis::bench {

class Testpmd;

enum class Way : uint8_t { inbound, outbound, round_trip };

/// How packets come to their workers: played in laps to one, at the worker that owns their SA, or
/// half of them at another one.
enum class Arrival : uint8_t { laps, at_owner, half_elsewhere };

struct Case {
  std::string name;
  Way way = Way::inbound;
  Layout layout;
  Sizes sizes = {64};
  std::string sizes_name = "64";
  Attack attack = Attack::none;
  Arrival arrival = Arrival::laps;
  uint32_t lap = 4096;               // packets, at least
  std::shared_ptr<const Case> base;  // measured in turns with this one, when their ratio counts
  bool quick = true;                 // also when there is little time
  bool small_pages = false;          // on 4 KiB pages

  /// All that tells it from other cases, for people and for --filter.
  [[nodiscard]] std::string Text() const;
};

std::vector<Case> Cases();

/// Medians over the repeats; times in nanoseconds a packet, of all workers together.
struct Row {
  double ns = 0;         // the gate
  double crypto_ns = 0;  // the limit's parts
  double io_ns = 0;
  double testpmd_ns = 0;  // 0: not measured
  double ratio = 0;       // of the limit's rate, median of the pairs
  double spread = 0;      // of the ratios: largest - smallest
  double base_ratio = 0;  // of the base's rate; 0: no base
  double base_spread = 0;
  double lost = 0;  // share of packets that found the ring to their worker full
  double inner_bytes = 0;
  unsigned repeats = 0;
  std::string engine;
};

struct Options {
  unsigned repeats = 5;
  double seconds = 0.1;  // of each measurement
  Testpmd* testpmd = nullptr;
};

Row Measure(const Case& test, const Options& options, rte_mempool* pool);

/// Where the time goes: cycles a packet of each stage, measured around the production stages.
void ProfileStages(const Case& test, rte_mempool* pool);

[[nodiscard]] double Median(std::vector<double> values);
[[nodiscard]] const char* Name(Way way);
[[nodiscard]] const char* Name(Attack attack);

}  // namespace portcullis::bench
