#include "bench/testpmd.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>
#include <sstream>
#include <vector>

#include "bench/row.hpp"

namespace portcullis::bench {

double Testpmd::Measure(const std::string& pcap, const std::vector<Frame>& frames) {
  if (broken_) return 0;
  size_t bytes = 0;
  for (const Frame& frame : frames) bytes += frame.size();
  const auto key = std::pair(frames.size(), bytes);
  if (const auto found = known_.find(key); found != known_.end()) return found->second;

  // The rate between two looks at a port's counters, by testpmd's own clock. The first look only
  // begins the first interval, and "start" lies in it.
  std::istringstream text(Run(pcap, frames.size()));
  std::vector<double> rates;
  for (std::string word; text >> word;) {
    double rate = 0;
    if (word == "Tx-pps:" && text >> rate && rate > 0) rates.push_back(rate);
  }
  if (rates.size() < 2) {
    std::fprintf(stderr,
                 "portcullis-bench: no rate from dpdk-testpmd: its part of the limit is missing\n");
    broken_ = true;
    return 0;
  }
  rates.erase(rates.begin());
  return known_[key] = 1e9 / Median(rates);
}

// Its output. The shell types the commands, and `timeout` bounds the whole thing.
std::string Testpmd::Run(const std::string& pcap, size_t packets) const {
  // Its packets lie in buffers of its pool, beside those on their way.
  const size_t buffers = packets + 16384;
  const std::string memory =
      hugepages_ ? "--in-memory"
                 : fmt::format("--no-huge --no-shconf -m {}", buffers / 200 + 64);  // one a page
  const std::string command = fmt::format(
      "taskset -pc {other} $$ >/dev/null; (sleep {settle}; echo start; for i in 1 2 3 4 5 6; do "
      "sleep {interval}; "
      "echo show port stats 1; done; sleep {interval}; echo quit) | "
      "timeout 30 dpdk-testpmd {memory} --file-prefix testpmd-{pid} --lcores 0@{other},1@{core} "
      "--main-lcore 0 --no-pci --no-telemetry --log-level=error "
      "--vdev net_pcap0,rx_pcap={pcap},infinite_rx=1 --vdev net_null1,no-rx=1 -- "
      "-i --forward-mode=io --burst=64 --total-num-mbufs={buffers} --no-flush-rx "
      "--disable-link-check 2>/dev/null",
      fmt::arg("settle", 0.5), fmt::arg("interval", seconds_), fmt::arg("memory", memory),
      fmt::arg("pid", getpid()), fmt::arg("other", other_), fmt::arg("core", core_),
      fmt::arg("pcap", pcap), fmt::arg("buffers", buffers));
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string output;
  std::array<char, 4096> piece;
  while (pipe) {
    const size_t read = fread(piece.data(), 1, piece.size(), pipe.get());
    if (read == 0) break;
    output.append(piece.data(), read);
  }
  return output;
}

}  // namespace portcullis::bench
