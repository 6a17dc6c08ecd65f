#include "bench/row.hpp"

#include <algorithm>
#include <cstdio>

#include "bench/limit.hpp"
#include "bench/setup.hpp"
#include "bench/testpmd.hpp"
#include "bench/workers.hpp"

namespace portcullis::bench {

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

namespace {

double Spread(const std::vector<double>& values) {
  const auto [least, most] = std::ranges::minmax(values);
  return most - least;
}

}  // namespace

Row Measure(const Case& test, const Options& options, rte_mempool* pool) {
  const auto subject = MakeSubject(test, pool);
  const auto base = test.base ? MakeSubject(*test.base, pool) : nullptr;
  std::vector<std::unique_ptr<CryptoLimit>> limits;
  for (const Direction direction : {Direction::inbound, Direction::outbound}) {
    if (test.way != Way::round_trip &&
        (test.way == Way::inbound) != (direction == Direction::inbound)) {
      continue;
    }
    limits.push_back(std::make_unique<CryptoLimit>(test.layout, subject->lap(),
                                                   subject->gate().sas(), direction, pool));
  }
  Row row{.inner_bytes = subject->lap().inner_bytes,
          .repeats = options.repeats,
          .engine = subject->gate().state().EngineName()};
  // A round trip goes through a third port, which testpmd does not have.
  if (options.testpmd != nullptr && test.way != Way::round_trip) {
    row.testpmd_ns =
        options.testpmd->Measure(subject->pcap(), subject->lap().frames) / test.layout.workers;
  }
  subject->Measure(options.seconds / 4);  // warm
  if (base) base->Measure(options.seconds / 4);
  std::vector<double> gate, crypto, io, ratios, base_ratios;
  for (unsigned i = 0; i < options.repeats; ++i) {
    crypto.push_back(0);
    for (const auto& limit : limits) {
      crypto.back() += limit->Measure(options.seconds / 2) / test.layout.workers;
    }
    gate.push_back(subject->Measure(options.seconds));
    if (base) base_ratios.push_back(base->Measure(options.seconds) / gate.back());
    double ports = subject->MeasureIo(options.seconds / 2);
    if (row.testpmd_ns > 0) ports = std::min(ports, row.testpmd_ns);
    io.push_back(ports);
    ratios.push_back((crypto.back() + io.back()) / gate.back());
  }
  row.ns = Median(gate);
  row.crypto_ns = Median(crypto);
  row.io_ns = Median(io);
  row.ratio = Median(ratios);
  row.spread = Spread(ratios);
  if (base) {
    row.base_ratio = Median(base_ratios);
    row.base_spread = Spread(base_ratios);
  }
  if (const auto* workers = dynamic_cast<const Workers*>(subject.get())) row.lost = workers->lost();
  return row;
}

}  // namespace portcullis::bench
