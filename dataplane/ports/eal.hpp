// Starting DPDK's environment from our configuration: how many lcores, which memory, which PCI
// devices. Two steps, so that the first can be tested without the second: what we would tell the
// EAL, given what the host has; then telling it. The EAL starts once in a process's life.
//
// Virtual devices are not among the arguments: Ports adds them one by one, after XDP is attached,
// and so that an error names the port instead of ending the whole EAL.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "dataplane/config.hpp"
#include "dataplane/ports/host.hpp"

namespace portcullis {

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

/// Refuses with everything that CheckHost finds, else starts the EAL. DPDK's own words, warnings
/// and errors only, go to stderr. On success worker lcores wait for rte_eal_remote_launch.
Result<EalPlan> StartEal(const DataplaneConfig& config);

}  // namespace portcullis
