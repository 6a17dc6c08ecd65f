// portcullis-bench: how fast the pipeline is on this core, beside what the core could do at best.
//
//   portcullis-bench [--quick] [--json FILE] [--filter TEXT] [--stages] [--core N]
//
// Rows on 4 KiB pages need another EAL, and a process has one: it runs itself again for them, with
// --small-pages, and takes over what comes out.
#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mempool.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/latency.hpp"
#include "bench/report.hpp"
#include "bench/rig.hpp"
#include "bench/row.hpp"
#include "bench/testpmd.hpp"

namespace portcullis::bench {
namespace {

struct Arguments {
  Options options;
  std::string filter;
  std::string json;
  unsigned core = 1;
  bool quick = false;
  bool stages = false;
  bool small_pages = false;
  bool testpmd = true;
};

// A second worker's core. This machine's own when it has only one: then the rows of two workers
// mean nothing and are left out.
unsigned OtherCore(unsigned core) {
  const unsigned cores = std::thread::hardware_concurrency();
  return cores < 2 ? core : (core == 0 ? 1 : core - 1);
}

void StartEal(const Arguments& arguments) {
  const unsigned other = OtherCore(arguments.core);
  std::string lcores = fmt::format("0@{}", arguments.core);
  if (other != arguments.core) lcores += fmt::format(",1@{}", other);
  std::vector<std::string> args = {
      "portcullis-bench", "--lcores",         lcores, "--main-lcore", "0", "--no-pci",
      "--no-telemetry",   "--log-level=error"};
  if (arguments.small_pages) {
    args.insert(args.end(), {"--no-huge", "--no-shconf", "-m", "1536"});
  } else {
    args.insert(args.end(), {"--in-memory", "-m", "512"});
  }
  std::vector<char*> pointers;
  pointers.reserve(args.size() + 1);
  for (std::string& arg : args) pointers.push_back(arg.data());
  if (rte_eal_init(static_cast<int>(pointers.size()), pointers.data()) < 0) {
    Die(
        fmt::format("the EAL does not start ({}); it needs root and 1 GB of hugepages: sysctl "
                    "vm.nr_hugepages=1024",
                    rte_strerror(rte_errno)));
  }
}

bool Selected(const Case& test, bool small_pages, const Arguments& arguments) {
  return test.small_pages == small_pages && (test.quick || !arguments.quick) &&
         test.Text().find(arguments.filter) != std::string::npos;
}

// Rows and delays.
void RunHere(const Arguments& arguments, nlohmann::json& result) {
  // Two laps of 65,536 packets at once, and those on their way.
  constexpr unsigned kBuffers = 2 * 65536 + 32767;
  rte_mempool* pool =
      rte_pktmbuf_pool_create("bench", kBuffers, 512, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (pool == nullptr) Die("no memory for the packet buffers");
  Options options = arguments.options;
  Testpmd testpmd(arguments.core, OtherCore(arguments.core), !arguments.small_pages,
                  arguments.quick ? 0.05 : 0.2);
  if (arguments.testpmd) options.testpmd = &testpmd;

  nlohmann::json& rows = result["rows"] = nlohmann::json::array();
  if (!arguments.stages && !arguments.small_pages) PrintHeading();
  for (const Case& test : Cases()) {
    if (!Selected(test, arguments.small_pages, arguments) ||
        test.layout.workers > rte_lcore_count()) {
      continue;
    }
    if (arguments.stages) {
      ProfileStages(test, pool);
      continue;
    }
    const Row row = Measure(test, options, pool);
    Print(test, row);
    rows.push_back(ToJson(test, row));
  }
  if (arguments.small_pages || arguments.stages) return;
  nlohmann::json& delays = result["latency"] = nlohmann::json::array();
  for (const Way way : {Way::inbound, Way::outbound}) {
    if (fmt::format("latency {}", Name(way)).find(arguments.filter) == std::string::npos) continue;
    for (auto& row : MeasureLatency(way, options, pool)) delays.push_back(row);
  }
}

// The same program with the same arguments, on 4 KiB pages. The EAL has pinned this thread; the
// other one finds its cores free.
nlohmann::json RunRowsOnSmallPages(const std::vector<std::string>& arguments,
                                   const cpu_set_t& cores) {
  sched_setaffinity(0, sizeof(cores), &cores);
  const std::string path = fmt::format("/dev/shm/portcullis-bench-{}.json", getpid());
  std::vector<std::string> args = arguments;
  args.insert(args.end(), {"--small-pages", "--json", path});
  std::vector<char*> pointers;
  pointers.reserve(args.size() + 1);
  for (std::string& arg : args) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  pid_t child = 0;
  int status = 0;
  if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, pointers.data(), environ) != 0 ||
      waitpid(child, &status, 0) != child || status != 0) {
    Die("the rows on 4 KiB pages failed");
  }
  auto rows = nlohmann::json::parse(std::ifstream(path)).at("rows");
  std::remove(path.c_str());
  return rows;
}

void Run(const Arguments& arguments, const std::vector<std::string>& argv) {
  if (arguments.options.repeats == 0 || arguments.options.seconds <= 0) Die("nothing to measure");
  cpu_set_t cores;
  sched_getaffinity(0, sizeof(cores), &cores);
  StartEal(arguments);
  nlohmann::json result = {{"machine", Machine()}, {"quick", arguments.quick}};
  RunHere(arguments, result);
  rte_eal_cleanup();
  const auto on_small_pages = [&](const Case& test) { return Selected(test, true, arguments); };
  if (!arguments.small_pages && !arguments.stages && std::ranges::any_of(Cases(), on_small_pages)) {
    for (auto& row : RunRowsOnSmallPages(argv, cores)) result["rows"].push_back(row);
  }
  if (!arguments.json.empty()) {
    std::ofstream file(arguments.json);
    file << result.dump(2) << '\n';
    if (!file.flush()) Die("cannot write " + arguments.json);
  }
}

}  // namespace
}  // namespace portcullis::bench

int main(int argc, char** argv) try {
  using namespace portcullis::bench;  // NOLINT
  CLI::App app("How fast the pipeline is, beside what the core could do at best.");
  Arguments arguments;
  Options& options = arguments.options;
  app.add_option("--repeats", options.repeats, "of each row; median and spread");
  auto* seconds = app.add_option("--seconds", options.seconds, "of each measurement");
  app.add_option("--filter", arguments.filter, "only rows whose description contains this");
  app.add_option("--json", arguments.json, "file to write all figures to")->take_last();
  app.add_option("--core", arguments.core, "the pinned core")->capture_default_str();
  app.add_flag("--quick", arguments.quick, "fewer rows, less time for each");
  app.add_flag("--stages", arguments.stages, "where the time goes, instead of rows");
  app.add_flag("!--no-testpmd", arguments.testpmd, "leave DPDK's testpmd out of the limit");
  app.add_flag("--small-pages", arguments.small_pages, "only the rows on 4 KiB pages");
  CLI11_PARSE(app, argc, argv);
  if (arguments.quick && seconds->empty()) options.seconds = 0.02;
  Run(arguments, {argv, argv + argc});
} catch (const std::exception& error) {
  std::fprintf(stderr, "portcullis-bench: %s\n", error.what());
  return 1;
}
