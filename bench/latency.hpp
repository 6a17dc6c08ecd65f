// How long a packet takes, from the moment at which it was due to arrive to the moment at which it
// is handed to the port that sends it, at a given share of the highest rate; beside a loop that
// only forwards, which is what testpmd's io mode does.
#pragma once

#include <nlohmann/json.hpp>

#include "bench/row.hpp"

namespace portcullis::bench {

/// Measures and prints one way; the rows for the JSON file.
nlohmann::json MeasureLatency(Way way, const Options& options, rte_mempool* pool);

}  // namespace portcullis::bench
