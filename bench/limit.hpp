// What the core could do at best: the cryptography alone, called as directly as the library allows,
// and the ports alone. The limit of a row is 1 / (crypto + I/O) per packet.
#pragma once

#include <rte_mbuf.h>

#include <memory>
#include <vector>

#include "bench/traffic.hpp"
#include "dataplane/state/sa.hpp"

namespace portcullis::bench {

/// Nanoseconds a packet of the cryptography of a lap in one direction: the same bytes under the
/// same keys in the same order, in 64 buffers that are as warm as a burst's. AES-GCM through
/// IPsec-MB's own direct calls; the other algorithms through the engine on its own.
class CryptoLimit {
 public:
  CryptoLimit(const Layout& layout, const Lap& lap, const std::vector<Sa*>& sas,
              Direction direction, rte_mempool* pool);
  ~CryptoLimit();
  CryptoLimit(const CryptoLimit&) = delete;
  CryptoLimit& operator=(const CryptoLimit&) = delete;
  double Measure(double seconds);

 private:
  static constexpr unsigned kBurst = 64;
  struct Op {
    uint32_t esp = 0;  // offset in the frame
    uint32_t length = 0;
    const KeySchedule* key = nullptr;
  };
  void RunGcm(size_t first);         // one burst
  uint64_t RunEngine(size_t first);  // its cycles
  double MeasureGcm(double seconds);
  double MeasureEngine(double seconds);

  const Layout& layout_;
  Direction direction_;
  std::vector<Op> ops_;
  std::vector<rte_mbuf*> buffers_;
  std::unique_ptr<Engine> engine_;
  struct Manager;
  std::unique_ptr<Manager> manager_;
};

/// Nanoseconds a packet from `rx` to `tx` and nothing in between, `lap` packets at a time.
double MeasureIo(uint16_t rx, uint16_t tx, size_t lap, double seconds);
/// The same by way of a ring port, as in a round trip.
double MeasureIo(uint16_t rx, uint16_t ring, uint16_t tx, size_t lap, double seconds);

/// Nanoseconds of `cycles`.
double Nanoseconds(uint64_t cycles);

}  // namespace portcullis::bench
