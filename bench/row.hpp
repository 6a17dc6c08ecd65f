// A row of the benchmark: what is measured, and what came out.
#pragma once

#include <string>
#include <vector>

#include "bench/traffic.hpp"

struct rte_mempool;

namespace portcullis::bench {

enum class Way : uint8_t { inbound, outbound, round_trip };

struct Case {
  std::string name;
  Way way = Way::inbound;
  Layout layout;
  Sizes sizes = {64};
  std::string sizes_name = "64";
  Attack attack = Attack::none;
};

/// Medians over the repeats; times in nanoseconds a packet.
struct Row {
  double ns = 0;         // the gate
  double crypto_ns = 0;  // the limit's parts
  double io_ns = 0;
  double ratio = 0;   // of the limit's rate, median of the pairs
  double spread = 0;  // of the ratios: largest - smallest
  double inner_bytes = 0;
  unsigned repeats = 0;
};

struct Options {
  unsigned repeats = 5;
  double seconds = 0.1;   // of each measurement
  double testpmd_ns = 0;  // of the same ports; 0: not measured
};

Row Measure(const Case& test, const Options& options, rte_mempool* pool);

/// Where the time goes: cycles a packet of each stage, measured around the production stages.
void ProfileStages(const Case& test, rte_mempool* pool);

}  // namespace portcullis::bench
