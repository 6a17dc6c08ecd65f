#include "dataplane/ports/eal.hpp"

#include <rte_eal.h>
#include <rte_errno.h>
#include <sys/resource.h>

#include <algorithm>

namespace portcullis {
namespace {

std::string CpuList(const std::vector<unsigned>& cpus) {
  return fmt::format("({})", fmt::join(cpus, ","));
}

/// "0@(0,1),1@(2)": lcores are numbers of ours, cpus are the host's.
std::string Lcores(const WorkersConfig& workers, const std::vector<unsigned>& cpus) {
  // The main thread keeps off the workers' cores when there are others.
  std::vector<unsigned> rest;
  std::ranges::copy_if(cpus, std::back_inserter(rest), [&](unsigned cpu) {
    return std::ranges::find(workers.cores, cpu) == workers.cores.end();
  });
  std::string lcores = "0@" + CpuList(rest.empty() ? cpus : rest);
  for (unsigned w = 0; w < workers.count; ++w) {
    lcores +=
        fmt::format(",{}@{}", LcoreOfWorker(w),
                    workers.cores.empty() ? CpuList(cpus) : fmt::format("({})", workers.cores[w]));
  }
  return lcores;
}

}  // namespace

std::string DeviceName(const PortConfig& port) {
  if (std::holds_alternative<InterfaceDevice>(port.device)) return "net_af_xdp_" + port.name;
  const std::string text = Text(port.device);
  return text.substr(0, text.find(','));
}

Result<EalPlan> PlanEal(const DataplaneConfig& config, const HostFacts& host) {
  const WorkersConfig& workers = config.workers;
  if (workers.idle == Idle::kPoll && workers.count > host.cpus.size()) {
    return Invalid(config.file + ": workers.count", "workers that never sleep need a cpu each",
                   fmt::format("at most {}, or idle: sleep", host.cpus.size()),
                   fmt::format("{}", workers.count));
  }
  EalPlan plan;
  const unsigned megabytes = config.memory.megabytes;
  const bool enough = host.free_hugepages_mb >= megabytes;
  plan.hugepages = config.memory.hugepages != Hugepages::kNever && enough;
  if (config.memory.hugepages == Hugepages::kRequire && !enough) {
    return Invalid(config.file + ": memory.hugepages", "too few free hugepages",
                   fmt::format("{} MB", megabytes), fmt::format("{} MB", host.free_hugepages_mb));
  }
  if (config.memory.hugepages == Hugepages::kAuto && !enough) {
    plan.note = fmt::format("no hugepages: {} MB free, {} MB wanted; running on normal pages",
                            host.free_hugepages_mb, megabytes);
  }
  plan.arguments = {"--lcores",
                    Lcores(workers, host.cpus),
                    "--main-lcore",
                    "0",
                    "--file-prefix",
                    "portcullis-" + config.instance,
                    "-m",
                    fmt::format("{}", megabytes),
                    "--log-level",
                    "warning"};
  const auto add = [&](std::initializer_list<std::string> more) {
    plan.arguments.insert(plan.arguments.end(), more);
  };
  // Nothing of ours is shared with secondary processes: --in-memory leaves no files behind, and
  // excludes --no-huge, for which --no-shconf does the same.
  if (plan.hugepages) {
    add({"--in-memory"});
  } else {
    add({"--no-huge", "--no-shconf"});
  }
  bool pci = false;
  for (const PortConfig& port : config.ports) {
    if (const auto* device = std::get_if<PciDevice>(&port.device)) {
      add({"-a", device->address});
      pci = true;
    }
  }
  // Physical addresses are for hardware; without any, the packet pool need not be contiguous in
  // them, only in ours, as AF_XDP wants it.
  if (!pci) add({"--no-pci", "--iova-mode", "va"});
  return plan;
}

Result<EalPlan> StartEal(const DataplaneConfig& config) {
  if (const std::vector<Error> lacking = CheckHost(config); !lacking.empty()) {
    std::vector<std::string> lines;
    std::ranges::transform(lacking, std::back_inserter(lines), &Error::Text);
    return Fail(ErrorKind::kUnavailable, fmt::format("{}", fmt::join(lines, "\n")));
  }
  auto plan = PlanEal(config, ReadHostFacts());
  if (!plan) return plan;
  // Each AF_XDP port locks the whole packet pool. Without the right to raise the limit it must do
  // as it is, and CheckHost has found that it does.
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);

  std::vector<std::string> text = plan->arguments;
  text.insert(text.begin(), "portcullis-dataplane");
  // The EAL keeps and permutes the pointers for as long as it runs.
  static std::vector<std::string> kept;
  static std::vector<char*> argv;
  kept = std::move(text);
  argv.clear();
  for (std::string& argument : kept) argv.push_back(argument.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) >= 0) return plan;
  const int reason = rte_errno;
  if (reason == EALREADY) return Fail(ErrorKind::kInternal, "DPDK runs already in this process");
  return Fail(ErrorKind::kUnavailable,
              fmt::format("DPDK did not start: {} (its own words stand above); arguments: {}",
                          rte_strerror(reason), fmt::join(plan->arguments, " ")));
}

}  // namespace portcullis
