// Several workers at once, each on its own core with its own queue of net_pcap, without laps that
// would have to end at the same moment.
//
// Anti-replay stays on (window 1024). Every SA sends the numbers 1 to 1024 again and again, all of
// them by one queue, so any 1024 of its packets in a row have different numbers and each of them
// lies in the window, wherever in the window it begins. What is left to do is to forget the marks
// before a number comes again: each worker sets its own SAs' windows back itself, between two
// rounds, every eighth round. In eight rounds it sees at most 8 * (64 received + 64 handed over) =
// 1024 packets.
//
// Where half are handed off, an SA's packets arrive at a queue that is not its owner's for every
// other SA. The rate is that of packets accepted. A worker that is kept from its core for a moment
// loses what is handed to it beyond its ring, as in production: that is shown, and is not in the
// rate. Behind such a gap a number may come again before it is forgotten, so there may be as many
// replays as losses. No packet may be refused for another reason.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "bench/setup.hpp"

namespace portcullis::bench {

class Workers final : public Subject {
 public:
  Workers(const Case& test, rte_mempool* pool);
  ~Workers() override;
  double Measure(double seconds) override;
  double MeasureIo(double seconds) override;
  [[nodiscard]] const Lap& lap() const override { return laps_.front(); }
  [[nodiscard]] const std::string& pcap() const override { return files_.front()->path(); }
  [[nodiscard]] Rig& gate() override { return *gate_; }
  /// Of all packets so far, those that found the ring to their worker full.
  [[nodiscard]] double lost() const;

 private:
  struct Job {
    Workers* subject;
    unsigned worker;
  };
  static int RunJob(void* job);
  void Run(unsigned worker);

  const Case test_;
  std::vector<Lap> laps_;  // by queue
  std::vector<std::unique_ptr<PcapFile>> files_;
  std::unique_ptr<Device> rx_;
  std::unique_ptr<Device> tx_;
  std::unique_ptr<Rig> gate_;
  std::atomic<unsigned> ready_ = 0;
  uint64_t limit_ = 0;  // cycles
  std::vector<uint64_t> cycles_;
};

}  // namespace portcullis::bench
