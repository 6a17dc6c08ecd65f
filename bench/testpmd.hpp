// The second yardstick for the ports: DPDK's own testpmd, fed with the same file, forwarding from
// net_pcap to net_null on the same core. It is another process, so a row cannot take turns with it
// as with the rest of its limit: it is asked once for each kind of lap, before the row.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "bench/traffic.hpp"

namespace portcullis::bench {

class Testpmd {
 public:
  /// `core` forwards, `other` reads commands; they may be the same.
  Testpmd(unsigned core, unsigned other, bool hugepages, double seconds)
      : core_(core), other_(other), hugepages_(hugepages), seconds_(seconds) {}
  /// Nanoseconds a packet, from memory when these frames' number and lengths were measured before.
  /// 0 when testpmd does not run here, which is said once.
  double Measure(const std::string& pcap, const std::vector<Frame>& frames);

 private:
  std::string Run(const std::string& pcap, size_t packets) const;

  unsigned core_;
  unsigned other_;
  bool hugepages_;
  double seconds_;
  bool broken_ = false;
  std::map<std::pair<size_t, size_t>, double> known_;  // by packets and bytes of a lap
};

}  // namespace portcullis::bench
