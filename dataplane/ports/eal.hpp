// Starting DPDK's environment from our configuration: how many lcores, which memory, which devices.
// Two steps, so that the first can be tested without the second: what we would tell the EAL, given
// what the host has; then telling it. The EAL starts once in a process's life.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "dataplane/config.hpp"

namespace portcullis {

/// What the arguments depend on beyond the configuration.
struct HostFacts {
  std::vector<unsigned> cpus;      // this process may run on, ascending
  uint64_t free_hugepages_mb = 0;  // of all sizes
  bool hugetlbfs_mounted = false;  // DPDK needs none with --in-memory; kept for the report
};
HostFacts ReadHostFacts();

struct EalPlan {
  std::vector<std::string> arguments;  // argv without argv[0]
  bool hugepages = false;
  std::string note;  // for the log: why no hugepages; empty when nothing is to be said
};

/// lcore 0 is the main thread, worker w is lcore w + 1.
constexpr unsigned LcoreOfWorker(unsigned worker) {
  return worker + 1;
}

/// The name under which DPDK knows the port: "net_af_xdp_wire", "net_tap0", "0000:01:00.0".
std::string DeviceName(const PortConfig& port);

/// Errors: hugepages required but not free; a core that this process may not use; more workers than
/// cpus while idle is poll.
Result<EalPlan> PlanEal(const DataplaneConfig& config, const HostFacts& host);

/// Checks what can be checked first (permission, interfaces, locked memory), then starts the EAL.
/// On success worker lcores wait for rte_eal_remote_launch.
Result<EalPlan> StartEal(const DataplaneConfig& config);

}  // namespace portcullis
