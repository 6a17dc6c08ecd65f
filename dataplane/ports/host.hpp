// What this host has and lacks, before DPDK is started: permissions, interfaces, queues, memory.
// Everything that is wrong is said at once, each with the command that puts it right. Links no
// DPDK, so that the CLI can ask too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "dataplane/config.hpp"

namespace portcullis {

struct HostFacts {
  std::vector<unsigned> cpus;      // that this process may run on, ascending
  uint64_t free_hugepages_mb = 0;  // of all sizes
};
HostFacts ReadHostFacts();

/// A kernel interface of this network namespace.
struct InterfaceFacts {
  int index = 0;
  unsigned mtu = 0;
  bool up = false;         // administratively
  bool ethernet = false;   // link-layer type 1
  unsigned rx_queues = 0;  // in use; 0: the driver does not say
};
/// Nothing when there is no such interface.
std::optional<InterfaceFacts> ReadInterface(const std::string& name);

/// All that the configuration wants and the host lacks; empty when the dataplane can start. Does
/// not look at forwarding (see CheckForwardingOff) and changes nothing.
std::vector<Error> CheckHost(const DataplaneConfig& config);

}  // namespace portcullis
