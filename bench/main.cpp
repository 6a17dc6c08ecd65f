// portcullis-bench: how fast the pipeline is on this core, beside what the core could do at best.
//
//   portcullis-bench [--quick] [--json FILE] [--filter TEXT] [--stages] [--core N] [--pages
//   huge|small]
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/limit.hpp"
#include "bench/rig.hpp"
#include "bench/row.hpp"

namespace portcullis::bench {
namespace {

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Way way : {Way::inbound, Way::outbound, Way::round_trip}) {
    for (const uint16_t size : {64, 128, 256, 512, 1024, 1400}) {
      cases.push_back(
          {.name = "gcm", .way = way, .sizes = {size}, .sizes_name = std::to_string(size)});
    }
  }
  for (const Way way : {Way::inbound, Way::outbound}) {
    for (const uint32_t sas : {1000U, 64000U}) {
      cases.push_back({.name = "sas", .way = way, .layout = {.sas = sas}});
    }
    for (const uint32_t rules : {100U, 1000U}) {
      cases.push_back({.name = "rules", .way = way, .layout = {.rules = rules, .flows = rules}});
    }
  }
  cases.push_back({.name = "unknown_spi", .attack = Attack::unknown_spi});
  cases.push_back({.name = "replay", .attack = Attack::replay});
  cases.push_back({.name = "bad_icv", .attack = Attack::bad_icv});
  cases.push_back({.name = "selector_miss", .attack = Attack::selector_miss});
  cases.push_back({.name = "no_policy", .way = Way::outbound, .attack = Attack::no_policy});
  return cases;
}

const char* Name(Way way) {
  switch (way) {
    case Way::inbound:
      return "inbound";
    case Way::outbound:
      return "outbound";
    default:
      return "round trip";
  }
}

void StartEal(const std::string& core, bool huge) {
  std::vector<std::string> args = {"portcullis-bench", "-l", core, "--no-pci", "--no-telemetry",
                                   "--log-level=error"};
  if (huge) {
    args.insert(args.end(), {"--in-memory", "-m", "1024"});
  } else {
    args.insert(args.end(), {"--no-huge", "--no-shconf", "-m", "1536"});
  }
  std::vector<char*> pointers;
  for (std::string& arg : args) pointers.push_back(arg.data());
  if (rte_eal_init(static_cast<int>(pointers.size()), pointers.data()) < 0) {
    Die(std::string("the EAL does not start: ") + rte_strerror(rte_errno));
  }
}

}  // namespace
}  // namespace portcullis::bench

int main(int argc, char** argv) {
  using namespace portcullis::bench;  // NOLINT
  CLI::App app("How fast the pipeline is, beside what the core could do at best.");
  Options options;
  std::string filter;
  std::string core = "1";
  bool stages = false;
  bool huge = true;
  app.add_option("--repeats", options.repeats);
  app.add_option("--seconds", options.seconds);
  app.add_option("--filter", filter);
  app.add_option("--core", core);
  app.add_flag("--stages", stages);
  app.add_flag("!--small-pages", huge);
  CLI11_PARSE(app, argc, argv);

  StartEal(core, huge);
  rte_mempool* pool =
      rte_pktmbuf_pool_create("bench", 131071, 512, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (pool == nullptr) Die("no memory for the packet buffers");
  for (const Case& test : Cases()) {
    const std::string line = test.name + " " + Name(test.way) + " " + test.sizes_name;
    if (line.find(filter) == std::string::npos) continue;
    if (stages) {
      ProfileStages(test, pool);
      continue;
    }
    const Row row = Measure(test, options, pool);
    std::printf(
        "%-14s %-10s %5s B %6u SAs %5u rules  %6.1f ns  crypto %6.1f  io %6.1f  %6.2f Mpps  ratio "
        "%.3f ±%.3f\n",
        test.name.c_str(), Name(test.way), test.sizes_name.c_str(), test.layout.sas,
        test.layout.rules, row.ns, row.crypto_ns, row.io_ns, 1e3 / row.ns, row.ratio,
        row.spread / 2);
    std::fflush(stdout);
  }
  rte_eal_cleanup();
}
