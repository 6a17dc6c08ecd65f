// The gate under test, inside the benchmark: the production pipeline between two DPDK ports on this
// core, with policy, selectors, policers, windows and counters as in production. What the benchmark
// may do that nobody else may is set a window back, so that prepared packets are new once more.
#pragma once

#include <rte_mbuf.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/traffic.hpp"
#include "dataplane/worker.hpp"

namespace portcullis::bench {

/// A virtual DPDK device and what it was set up with; gone when this goes.
class Device {
 public:
  /// `arguments` as on DPDK's command line, for example "net_null" and "no-rx=1".
  Device(const std::string& driver, const std::string& arguments, rte_mempool* pool,
         uint16_t queues = 1);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  [[nodiscard]] uint16_t id() const { return id_; }

 private:
  std::string name_;
  uint16_t id_ = 0;
};

/// One gate: a State and its workers. Worker 0 runs on the calling lcore, round by round.
class Rig {
 public:
  /// `wire` and `core` are DPDK ports of the roles untrusted and trusted.
  Rig(const Layout& layout, uint16_t wire, uint16_t core, uint16_t queues, rte_mempool* pool);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  /// Adds the SAs of the layout in one direction.
  void AddSas(Direction direction);
  [[nodiscard]] Worker& worker(unsigned index = 0) { return *workers_[index]; }
  [[nodiscard]] State& state() { return *state_; }
  /// In the order of the layout.
  [[nodiscard]] const std::vector<Sa*>& sas() const { return sas_; }
  /// Every window as if nothing had been received.
  void ResetWindows() { ResetWindows(0, 1); }
  /// Of every `step`-th SA from `first` on.
  void ResetWindows(size_t first, size_t step);
  [[nodiscard]] uint64_t Count(Verdict verdict) const;

 private:
  void AddPort(uint16_t id, PortRole role, uint16_t queues);
  void ApplyPolicy();

  const Layout& layout_;
  std::string path_;
  DataplaneConfig config_;
  std::vector<Port> ports_;
  std::unique_ptr<State> state_;
  std::unique_ptr<WorkerShared> shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Sa*> sas_;
};

/// Ends the program by way of main, so that its files go: a benchmark that cannot be set up, or
/// whose packets do not become what they have to, measures nothing.
[[noreturn]] void Die(const std::string& why);

}  // namespace portcullis::bench
