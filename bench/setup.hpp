// What a row measures: the gate between two DPDK ports with its prepared packets, and the same
// ports with nothing in between.
//
// One worker (Setup) plays laps: every packet of the lap once, then, untimed, all windows are set
// back. Several workers (Workers, workers.hpp) cannot stop at the end of a lap without a hook in
// production code, and do it differently.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/limit.hpp"
#include "bench/rig.hpp"
#include "bench/row.hpp"
#include "bench/traffic.hpp"

struct rte_ring;

namespace portcullis::bench {

/// A lap as a file, for net_pcap.
class PcapFile {
 public:
  explicit PcapFile(const Lap& lap);
  ~PcapFile();
  PcapFile(const PcapFile&) = delete;
  PcapFile& operator=(const PcapFile&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// What all kinds of rows have in common.
class Subject {
 public:
  virtual ~Subject() = default;
  /// Nanoseconds a packet through the gate. Ends the program unless every packet became what it
  /// had to.
  virtual double Measure(double seconds) = 0;
  /// From port to port, with nothing in between.
  virtual double MeasureIo(double seconds) = 0;
  /// What one of the workers is fed with, and where that stands as a file.
  [[nodiscard]] virtual const Lap& lap() const = 0;
  [[nodiscard]] virtual const std::string& pcap() const = 0;
  [[nodiscard]] virtual Rig& gate() = 0;
};

/// Of this case, whatever its number of workers.
std::unique_ptr<Subject> MakeSubject(const Case& test, rte_mempool* pool);

/// The ports and gates of a case with one worker.
class Setup final : public Subject {
 public:
  Setup(const Case& test, rte_mempool* pool);
  ~Setup() override;
  double Measure(double seconds) override;
  double MeasureIo(double seconds) override;
  [[nodiscard]] const Lap& lap() const override { return lap_; }
  [[nodiscard]] const std::string& pcap() const override { return pcap_.path(); }
  [[nodiscard]] Rig& gate() override { return *gate_; }
  [[nodiscard]] uint16_t rx() const { return rx_.id(); }

 private:
  class Loop;
  uint64_t RunLap();

  const Case test_;
  Layout client_layout_;  // of the gate at the far end of a round trip
  Lap lap_;
  PcapFile pcap_;
  Device rx_;
  Device tx_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Rig> client_;
  std::unique_ptr<Rig> gate_;
};

}  // namespace portcullis::bench
