// Processor, memory, and the drivers that are installed.
#include <dlfcn.h>
#include <fmt/format.h>
#include <rte_build_config.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "control/cli/host/check.hpp"

namespace portcullis::cli::host {
namespace {

namespace fs = std::filesystem;

bool Has(const std::vector<std::string>& words, const char* word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

void CheckProcessor(std::vector<Finding>& findings) {
  const std::vector<std::string> flags = LabelledWords("/proc/cpuinfo", "flags");
  const bool sse = Has(flags, "sse4_2");
  findings.push_back(sse ? Ok("CPU: SSE4.2", "there")
                         : Missing("CPU: SSE4.2", "not there; DPDK is built for it",
                                   "another CPU; in a VM: pass the host's CPU through"));
  const bool aes = Has(flags, "aes") && Has(flags, "pclmulqdq");
  findings.push_back(
      aes ? Ok("CPU: AES-NI", "there")
          : Warn("CPU: AES-NI", "not there: AES-GCM in software, ten times slower",
                 "another CPU, or ChaCha20-Poly1305; in a VM: pass the CPU through"));
  const bool vaes = Has(flags, "vaes") && Has(flags, "vpclmulqdq");
  const bool avx512 = Has(flags, "avx512f") && Has(flags, "avx512bw");
  findings.push_back(vaes && avx512
                         ? Ok("CPU: VAES, AVX-512", "there")
                         : Warn("CPU: VAES, AVX-512",
                                fmt::format("VAES {}, AVX-512 {}", vaes ? "there" : "not there",
                                            avx512 ? "there" : "not there"),
                                "nothing to do; crypto takes the best there is"));
  const bool constant = Has(flags, "constant_tsc");
  const bool nonstop = Has(flags, "nonstop_tsc");
  findings.push_back(
      constant && nonstop
          ? Ok("TSC", "constant, does not stop")
          : Warn("TSC",
                 fmt::format("{}, {}", constant ? "constant" : "not constant",
                             nonstop ? "does not stop" : "may stop"),
                 "in a VM: expose the invariant TSC; else lifetimes and rates drift"));
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  const int cores = CPU_COUNT(&allowed);
  findings.push_back(cores >= 2
                         ? Ok("cores", std::to_string(cores))
                         : Warn("cores", std::to_string(cores),
                                "a second one, so that workers need not share with the rest"));
}

void CheckMemory(std::vector<Finding>& findings) {
  const std::vector<std::string> available = LabelledWords("/proc/meminfo", "MemAvailable");
  const uint64_t megabytes =
      available.empty() ? 0 : std::strtoull(available.front().c_str(), nullptr, 10) >> 10U;
  constexpr uint64_t kNeeded = 300;   // the default 256 of packet memory, and the process
  constexpr uint64_t kWanted = 1024;  // with control and 16,384 SAs beside it
  const std::string found = fmt::format("{} MiB available", megabytes);
  findings.push_back(megabytes >= kWanted ? Ok("memory", found)
                     : megabytes >= kNeeded
                         ? Warn("memory", found, "1 GiB is comfortable for the default settings")
                         : Missing("memory", found, "at least 300 MiB"));

  uint64_t pages = 0;
  uint64_t free_pages = 0;
  std::error_code error;
  for (const auto& size : fs::directory_iterator("/sys/kernel/mm/hugepages", error)) {
    pages += std::strtoull(FirstLine(size.path() / "nr_hugepages").c_str(), nullptr, 10);
    free_pages += std::strtoull(FirstLine(size.path() / "free_hugepages").c_str(), nullptr, 10);
  }
  findings.push_back(
      free_pages > 0
          ? Ok("hugepages", fmt::format("{} of {} free", free_pages, pages))
          : Warn("hugepages", pages == 0 ? "none; runs without them, slower" : "none free",
                 "sysctl -w vm.nr_hugepages=256; mount -t hugetlbfs none /dev/hugepages"));

  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  constexpr rlim_t kLocked = rlim_t{64} << 20U;  // keys and the state file
  const bool unlimited = limit.rlim_cur == RLIM_INFINITY;
  const std::string amount = unlimited ? "unlimited" : fmt::format("{} KiB", limit.rlim_cur >> 10U);
  // CAP_IPC_LOCK lifts it, and root without that capability is a container.
  const bool privileged = CheckPrivileges().back().status == Status::kOk;
  findings.push_back(unlimited || limit.rlim_cur >= kLocked || privileged
                         ? Ok("locked memory",
                              amount + (privileged && !unlimited ? ", lifted by CAP_IPC_LOCK" : ""))
                         : Missing("locked memory", amount,
                                   "ulimit -l unlimited; in the unit: LimitMEMLOCK=infinity"));

  findings.push_back(access("/dev/shm", W_OK | X_OK) == 0
                         ? Ok("/dev/shm", "writable")
                         : Missing("/dev/shm", "not writable; replay windows survive crashes there",
                                   "mount -t tmpfs tmpfs /dev/shm, or set state_file"));
}

void CheckIommu(std::vector<Finding>& findings) {
  std::error_code error;
  const fs::path units = "/sys/class/iommu";
  const bool iommu = fs::exists(units, error) && !fs::is_empty(units, error);
  const bool vfio = fs::exists("/sys/bus/pci/drivers/vfio-pci", error);
  const std::string found =
      fmt::format("IOMMU {}, vfio-pci {}", iommu ? "on" : "off", vfio ? "loaded" : "not loaded");
  findings.push_back(iommu && vfio
                         ? Ok("PCI ports", found)
                         : Warn("PCI ports", found,
                                "needed for ports that DPDK owns whole only: intel_iommu=on (or "
                                "amd_iommu=on) on the kernel's command line; modprobe vfio-pci"));
}

}  // namespace

std::vector<Finding> CheckMachine() {
  std::vector<Finding> findings;
  CheckProcessor(findings);
  CheckMemory(findings);
  CheckIommu(findings);
  return findings;
}

std::vector<Finding> CheckDrivers() {
  struct Driver {
    const char* library;
    const char* what;
    const char* package;
    bool required;
  };
  constexpr auto kDrivers = std::to_array<Driver>({
      {"librte_net_af_xdp.so", "driver net_af_xdp", "librte-net-af-xdp23", true},
      {"librte_mempool_ring.so", "driver mempool_ring", "librte-mempool-ring23", true},
      {"librte_net_tap.so", "driver net_tap", "librte-net-tap23", false},
      {"librte_net_virtio.so", "driver net_virtio", "librte-net-virtio23", false},
      {"librte_net_ring.so", "driver net_ring", "librte-net-ring23", false},
      {"librte_net_pcap.so", "driver net_pcap", "librte-net-pcap23", false},
  });
  std::vector<Finding> findings;
  std::error_code error;
  for (const Driver& driver : kDrivers) {
    const fs::path folder = RTE_EAL_PMD_PATH;
    bool there = false;
    for (const auto& file : fs::directory_iterator(folder, error)) {
      there = there || file.path().filename().string().starts_with(driver.library);
    }
    const std::string fix = fmt::format("apt install {}", driver.package);
    findings.push_back(there             ? Ok(driver.what, "installed")
                       : driver.required ? Missing(driver.what, "not in " + folder.string(), fix)
                                         : Warn(driver.what, "not in " + folder.string(),
                                                fix + ", where such ports are configured"));
  }
  constexpr const char* kCrypto = "libIPSec_MB.so.1";
  void* crypto = dlopen(kCrypto, RTLD_LAZY | RTLD_LOCAL);
  findings.push_back(crypto != nullptr ? Ok("IPsec-MB", "installed")
                                       : Missing("IPsec-MB", std::string(kCrypto) + " is not there",
                                                 "apt install libipsec-mb1"));
  if (crypto != nullptr) dlclose(crypto);
  return findings;
}

}  // namespace portcullis::cli::host
