// What one packet costs: by algorithm and size, with one key and with as many as a full gate has.
// Bursts as the pipeline works on them. items_per_second is packets, bytes_per_second inner bytes.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "dataplane/crypto/test_support.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis {
namespace {

constexpr size_t kBurst = 64;

struct Load {
  Load(Algorithm a, uint32_t inner, size_t key_count) : keys(key_count) {
    std::mt19937_64 random(1);
    for (KeySchedule& key : keys) {
      if (!engine->Expand(a, RandomBytes(Info(a).key_bytes, random), key)) std::abort();
    }
    for (size_t i = 0; i < kBurst; ++i) {
      packets.push_back(RandomBytes(EspLength(a, inner), random));
      ops.push_back(OpFor(a, keys[i % key_count], packets.back(), true, 0));
    }
  }
  /// Other SAs each burst, in an order that no prefetcher of the CPU guesses.
  void NextKeys() {
    for (CryptoOp& op : ops) {
      state = state * 6364136223846793005 + 1442695040888963407;
      op.key = &keys[(state >> 33) % keys.size()];
    }
  }

  std::unique_ptr<Engine> engine = MakeIpsecMbEngine().value();
  std::vector<KeySchedule> keys;
  std::vector<Bytes> packets;
  std::vector<CryptoOp> ops;
  uint64_t state = 1;
};

void Report(benchmark::State& state, uint32_t inner) {
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBurst));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBurst) * inner);
}

void Seal(benchmark::State& state) {
  const auto algorithm = static_cast<Algorithm>(state.range(0));
  const auto inner = static_cast<uint32_t>(state.range(1));
  Load load(algorithm, inner, static_cast<size_t>(state.range(2)));
  for ([[maybe_unused]] auto _ : state) {
    if (load.keys.size() > 1) load.NextKeys();
    load.engine->Seal(load.ops);
  }
  Report(state, inner);
  state.SetLabel(std::string(Info(algorithm).name));
}

/// Forgeries: what an attacker can make us spend.
void OpenForged(benchmark::State& state) {
  const auto algorithm = static_cast<Algorithm>(state.range(0));
  const auto inner = static_cast<uint32_t>(state.range(1));
  Load load(algorithm, inner, 1);
  for ([[maybe_unused]] auto _ : state) load.engine->Open(load.ops);
  Report(state, inner);
  state.SetLabel(std::string(Info(algorithm).name));
}

void Sizes(benchmark::internal::Benchmark* b) {
  for (int64_t a = 0; a < static_cast<int64_t>(kAlgorithms.size()); ++a) {
    for (const int64_t inner : {64, 512, 1400}) b->Args({a, inner, 1});
  }
}

BENCHMARK(Seal)->Apply(Sizes)->Args({0, 64, 4096})->Args({0, 1400, 4096});
BENCHMARK(OpenForged)->Apply(Sizes);

}  // namespace
}  // namespace portcullis

BENCHMARK_MAIN();
