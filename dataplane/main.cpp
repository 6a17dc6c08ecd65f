// portcullis-dataplane: start-up, as a table of contents.
#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>

#include "bpf/loader.hpp"
#include "dataplane/ports/eal.hpp"
#include "dataplane/privileges.hpp"
#include "dataplane/supervisor.hpp"
#include "dataplane/telemetry.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

// Exit codes: 0 stopped by signal; 1 the host or the configuration does not let us start.
int Fatal(const Error& error) {
  spdlog::critical("{}", error.Text());
  return 1;
}

int ClosePorts(const DataplaneConfig& config) {
  std::vector<ClosedPort> ports;
  for (const PortConfig& port : config.ports) {
    const auto* interface = std::get_if<InterfaceDevice>(&port.device);
    if (interface == nullptr) continue;
    ports.push_back({port.name, interface->name, XdpVariantOf(config, port)});
  }
  if (auto closed = CloseInterfaces(config.instance, ports); !closed) return Fatal(closed.error());
  spdlog::info("closed {} port(s) of instance {}", ports.size(), config.instance);
  return 0;
}

int OpenPorts(const DataplaneConfig& config) {
  for (const PortConfig& port : config.ports) {
    if (!std::holds_alternative<InterfaceDevice>(port.device)) continue;
    if (auto detached = XdpPort::Detach(config.instance, port.name);
        !detached && detached.error().kind != ErrorKind::kNotFound) {
      return Fatal(detached.error());
    }
    spdlog::warn("port {} is open: the kernel alone handles it", port.name);
  }
  return 0;
}

Result<rte_ring*> MakeRing(const std::string& name, unsigned size, unsigned element) {
  rte_ring* ring = rte_ring_create_elem(name.c_str(), element, size, SOCKET_ID_ANY, RING_F_SC_DEQ);
  if (ring == nullptr) {
    return Fail(ErrorKind::kExhausted, "no memory for ring " + name + ": raise memory.megabytes");
  }
  return ring;
}

Result<void> MakeRings(WorkerShared& shared) {
  constexpr unsigned kMessages = 1024;
  constexpr unsigned kPackets = 4096;
  auto to_main = MakeRing("to_main", kMessages, sizeof(MainMessage));
  if (!to_main) return tl::unexpected(to_main.error());
  shared.to_main = *to_main;
  for (unsigned w = 0; w < shared.config.workers.count; ++w) {
    auto ring = MakeRing("handoff_" + std::to_string(w), kPackets, sizeof(void*));
    if (!ring) return tl::unexpected(ring.error());
    shared.handoff.push_back(*ring);
  }
  auto transmit = MakeTransmitRings(shared.ports, shared.config.workers.count);
  if (!transmit) return tl::unexpected(transmit.error());
  shared.transmit_rings = std::move(*transmit);
  return {};
}

int RunWorker(void* argument) {
  auto* worker = static_cast<Worker*>(argument);
  if (auto shed = ShedCapabilities(); !shed) spdlog::error("{}", shed.error().Text());
  worker->Run();
  return 0;
}

int Run(const DataplaneConfig& config) {
  // Before anything can fail: a refusal to start leaves every port closed.
  if (const int failed = ClosePorts(config); failed != 0) return failed;
  const auto boot_id = ReadBootId();
  if (!boot_id) return Fatal(boot_id.error());
  auto file = StateFile::Open(config.state_file, config.sas.capacity, *boot_id);
  if (!file) return Fatal(file.error());
  if (!file->locked())
    spdlog::warn("{} is not locked in memory (RLIMIT_MEMLOCK)", config.state_file);

  const auto eal = StartEal(config);
  if (!eal) return Fatal(eal.error());
  if (!eal->note.empty()) spdlog::info("{}", eal->note);
  if (auto locked = LockMemory(); !locked) spdlog::warn("{}", locked.error().Text());
  auto ports = Ports::Open(config);
  if (!ports) return Fatal(ports.error());

  auto engine = MakeIpsecMbEngine();
  if (!engine) return Fatal(engine.error());
  const uint64_t tsc_hz = rte_get_tsc_hz();
  State state({.sa_capacity = config.sas.capacity,
               .workers = config.workers.count,
               .lab = config.lab,
               .prefilter = std::ranges::any_of(ports->all(), &Port::NeedsPrefilter),
               .auth = {.failures_per_second = config.auth_failures.per_second,
                        .suspect_seconds = config.auth_failures.suspect_seconds,
                        .cpu_percent = config.auth_failures.cpu_percent},
               .tsc_hz = tsc_hz},
              std::move(*engine), std::move(*file));

  WorkerShared shared{.state = state,
                      .config = config,
                      .ports = ports->all(),
                      .pool = ports->pool(),
                      .to_main = nullptr,
                      .handoff = {},
                      .transmit_rings = {},
                      .tsc_hz = tsc_hz};
  if (auto made = MakeRings(shared); !made) return Fatal(made.error());
  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned w = 0; w < config.workers.count; ++w) {
    auto worker = Worker::Make(shared, w);
    if (!worker) return Fatal(worker.error());
    workers.push_back(std::move(*worker));
  }

  Supervisor supervisor({.config = config,
                         .ports = *ports,
                         .state = state,
                         .shared = shared,
                         .workers = workers,
                         .hugepages = eal->hugepages,
                         .boot_id = *boot_id});
  if (auto started = supervisor.Start(); !started) return Fatal(started.error());
  if (auto started = StartTelemetry(supervisor); !started) return Fatal(started.error());
  for (unsigned w = 0; w < config.workers.count; ++w) {
    rte_eal_remote_launch(RunWorker, workers[w].get(), LcoreOfWorker(w));
  }
  spdlog::info("instance {} serves {} port(s) with {} worker(s), {}", config.instance,
               ports->all().size(), config.workers.count, state.EngineName());

  supervisor.Run(stop_requested);
  shared.stop.store(true);
  rte_eal_mp_wait_lcore();
  spdlog::info("stopped; ports with XDP stay closed");
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app{
      "The packet pipeline of Portcullis: authenticates, checks and filters every packet."};
  std::string path = "/etc/portcullis/dataplane.yaml";
  bool close = false;
  bool open = false;
  app.add_option("--config", path, "configuration file")->capture_default_str();
  app.set_version_flag("--version", PORTCULLIS_VERSION);
  auto* closing = app.add_flag("--close-ports", close, "close the AF_XDP ports at boot, and exit");
  app.add_flag("--open-ports", open, "take Portcullis off the ports, and exit")->excludes(closing);
  CLI11_PARSE(app, argc, argv);

  spdlog::set_default_logger(spdlog::stderr_logger_mt("portcullis"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l portcullis-dataplane: %v");
  // Keys are in this memory: no core dump, no ptrace by others.
  prctl(PR_SET_DUMPABLE, 0);
  constexpr rlimit kNoCore{0, 0};
  setrlimit(RLIMIT_CORE, &kNoCore);
  const auto config = LoadConfig(path);
  if (!config) return Fatal(config.error());
  if (close) return ClosePorts(*config);
  if (open) return OpenPorts(*config);

  struct sigaction on_stop {};
  on_stop.sa_handler = [](int) { stop_requested = 1; };
  sigaction(SIGTERM, &on_stop, nullptr);
  sigaction(SIGINT, &on_stop, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return Run(*config);
}

}  // namespace
}  // namespace portcullis

// NOLINTNEXTLINE(bugprone-exception-escape): what start-up cannot cope with ends the program
int main(int argc, char** argv) {
  return portcullis::Main(argc, argv);
}
