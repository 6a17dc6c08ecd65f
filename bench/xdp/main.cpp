// portcullis-xdp-bench: what the XDP program costs a packet, by verdict, beside a program that
// parses the same headers and drops.
//
//   portcullis-xdp-bench [--quick] [--json FILE] [--core N]
//
// BPF_PROG_TEST_RUN repeats one packet, which would measure a hot cache; so all programs here copy
// the next of 65,536 prepared header sets over the packet first (bpf/replay.bpf.c). Three are
// measured in turns: copy alone, copy and parse and drop, copy and all that the XDP program does.
// Time is this thread's CPU time. Needs root.
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/core_clock.hpp"
#include "bench/xdp/floods.hpp"
#include "bpf/replay.hpp"

namespace portcullis::bench {
namespace {

constexpr char kPort[] = "wire";

struct Arguments {
  std::string json;
  unsigned core = 1;
  bool quick = false;
  bool large = true;
  unsigned repeats = 15;
};

[[noreturn]] void Die(const std::string& message) {
  throw std::runtime_error(message);
}
template <class T>
T Must(Result<T> result) {
  if (!result) Die(result.error().Text());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Kernel memory that is in use and cannot be given back, bytes: maps and their elements.
double KernelMemory() {
  double kib = 0;
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    for (const char* name : {"SUnreclaim:", "Percpu:", "VmallocUsed:"}) {
      if (line.starts_with(name)) kib += std::strtod(line.c_str() + std::strlen(name), nullptr);
    }
  }
  return kib * 1024;
}

double Seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// A port in a network namespace of this process, with tables of one size.
class Bench {
 public:
  Bench(const Tables& tables, uint32_t sa_capacity)
      : tables_(tables),
        instance_("bench-" + std::to_string(getpid())),
        variant_{.sa_capacity = sa_capacity},
        memory_before_(KernelMemory()),
        port_(Must(XdpPort::Attach(instance_, kPort, "wire0", variant_))),
        bytes_(KernelMemory() - memory_before_) {
    Must(port_.SetOwnAddresses(OwnAddresses()));
    replay_.emplace(Must(XdpReplay::Load(instance_, kPort, variant_)));
  }
  ~Bench() {
    if (socket_ >= 0) close(socket_);
    (void)XdpPort::Detach(instance_, kPort);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  [[nodiscard]] double bytes() const { return bytes_; }
  void Apply(FirstLine line) {
    line.sources = tables_.sources;
    Must(port_.Prepare({.generation = ++generation_,
                        .protected_nets = ProtectedNets(),
                        .first_line = std::move(line)}));
    Must(port_.Commit());
  }
  void AddSpis() {
    for (const Spi spi : tables_.spis) port_.spis().Add(spi, 0);
  }

  nlohmann::json Measure(const Flood& flood, const Arguments& arguments, std::mt19937_64& random) {
    Apply(flood.policy);
    SetSocket(flood.socket);
    if (flood.verdict == Verdict::auth_throttled) {
      Must(port_.Suspect(tables_.spis[0], *Address::Parse("192.0.2.2"), std::chrono::hours(1)));
    }
    // The frames' numbers are 0.
    const uint32_t oldest = flood.verdict == Verdict::stale ? 1 : 0;
    for (const Spi spi : tables_.spis) port_.spis().Advance(spi, oldest);
    for (replay_frame& frame : replay_->frames()) flood.write(frame, tables_, random);
    Check(flood);
    std::vector<double> copy, parse, decide, ratios;
    for (unsigned i = 0; i < arguments.repeats; ++i) {
      copy.push_back(Time(XdpReplay::Program::kCopy));
      parse.push_back(Time(XdpReplay::Program::kParse));
      decide.push_back(Time(XdpReplay::Program::kDecide));
      ratios.push_back(decide.back() / parse.back());
    }
    const double least = Median(copy);
    nlohmann::json row = {{"name", flood.name},        {"verdict", Info(flood.verdict).name},
                          {"aim", flood.aim},          {"copy_ns", least},
                          {"parse_ns", Median(parse)}, {"decide_ns", Median(decide)},
                          {"ratio", Median(ratios)}};
    fmt::print("{:52} {:18} {:6.1f} {:6.1f} {:7.1f} {:6.2f} {:8.1f}{}\n", flood.name,
               Info(flood.verdict).name, least, Median(parse), Median(decide), Median(ratios),
               Median(decide) - least,
               flood.aim ? (Median(ratios) <= 2 ? "  aim: 2.00" : "  aim: 2.00, MISSED") : "");
    return row;
  }

 private:
  double Time(XdpReplay::Program program) {
    CoreClock clock;
    clock.Start();
    Must(replay_->Run(program, REPLAY_FRAMES));
    clock.Stop();
    return clock.ns() / REPLAY_FRAMES;
  }
  /// All packets must end as they are said to; but for the first ones of a bucket.
  void Check(const Flood& flood) {
    const XdpCounters before = port_.Read();
    Must(replay_->Run(XdpReplay::Program::kDecide, REPLAY_FRAMES));
    const uint64_t right = port_.Read().Of(flood.verdict) - before.Of(flood.verdict);
    if (right < REPLAY_FRAMES - 64) {
      Die(fmt::format("{}: only {} of {} packets were {}", flood.name, right, REPLAY_FRAMES,
                      Info(flood.verdict).name));
    }
  }
  void SetSocket(bool wanted) {
    if (!wanted && socket_ >= 0) close(std::exchange(socket_, -1));
    if (!wanted || socket_ >= 0) return;
    socket_ = socket(AF_XDP, SOCK_RAW, 0);
    const uint32_t queue = 0;
    if (socket_ < 0 || bpf_map_update_elem(port_.sockets_map(), &queue, &socket_, BPF_ANY) != 0) {
      Die("no AF_XDP socket");
    }
  }

  const Tables& tables_;
  std::string instance_;
  XdpVariant variant_;
  double memory_before_;
  XdpPort port_;
  double bytes_;  // its maps, before anything is in them
  std::optional<XdpReplay> replay_;
  uint64_t generation_ = 0;
  int socket_ = -1;
};

void PrintHeading(const char* title) {
  fmt::print("\n{}, ns a packet (median)\n{:52} {:18} {:>6} {:>6} {:>7} {:>6} {:>8}\n", title,
             "packets", "verdict", "copy", "+parse", "+decide", "ratio", "own cost");
}

nlohmann::json RunLarge(const Arguments& arguments, std::mt19937_64& random) {
  const size_t sources = arguments.quick ? 100'000 : 1'000'000;
  constexpr size_t kSpis = 100'000;
  const Tables tables = Tables::Of(sources, kSpis, random);
  Bench bench(tables, 1U << 17U);
  const double attached = KernelMemory();
  const double begun = Seconds();
  bench.Apply({});
  const double loaded = Seconds();
  const double memory = KernelMemory() - attached;
  bench.AddSpis();
  const double with_spis = Seconds();
  nlohmann::json result = {{"sources", sources},
                           {"spis", kSpis},
                           {"port_bytes", bench.bytes()},
                           {"sources_bytes", memory},
                           {"sources_seconds", loaded - begun},
                           {"spis_seconds", with_spis - loaded}};
  fmt::print(
      "\n{} source prefixes: {:.2f} s, {:.0f} MB of kernel memory ({:.0f} bytes each); {} SPIs: "
      "{:.2f} s; maps of the port itself: {:.0f} MB\n",
      sources, loaded - begun, memory / 1e6, memory / static_cast<double>(sources), kSpis,
      with_spis - loaded, bench.bytes() / 1e6);
  PrintHeading(fmt::format("{} source prefixes, {} SPIs", sources, kSpis).c_str());
  for (const Flood& flood : Floods(true)) {
    result["rows"].push_back(bench.Measure(flood, arguments, random));
  }
  return result;
}

void Run(const Arguments& arguments) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(arguments.core, &cores);
  if (sched_setaffinity(0, sizeof(cores), &cores) != 0) Die("there is no such core");
  if (unshare(CLONE_NEWNET) != 0) Die("no network namespace: it needs root");
  if (std::system("ip link add wire0 type veth peer name far0") != 0) Die("no veth");
  std::mt19937_64 random(1);
  nlohmann::json result;
  {
    const Tables tables = Tables::Of(10, 10, random);
    Bench bench(tables, 1024);
    bench.AddSpis();
    PrintHeading("10 source prefixes, 10 SPIs");
    for (const Flood& flood : Floods(false)) {
      result["small"].push_back(bench.Measure(flood, arguments, random));
    }
  }
  if (arguments.large) result["large"] = RunLarge(arguments, random);
  if (arguments.json.empty()) return;
  nlohmann::json all = nlohmann::json::object();
  if (std::ifstream before(arguments.json); before) all = nlohmann::json::parse(before);
  all["xdp"] = std::move(result);
  std::ofstream file(arguments.json);
  file << all.dump(2) << '\n';
  if (!file.flush()) Die("cannot write " + arguments.json);
}

}  // namespace
}  // namespace portcullis::bench

int main(int argc, char** argv) try {
  using namespace portcullis::bench;  // NOLINT
  CLI::App app("What the XDP program costs a packet, by verdict.");
  Arguments arguments;
  app.add_option("--json", arguments.json, "file to add all figures to");
  app.add_option("--core", arguments.core, "the pinned core")->capture_default_str();
  app.add_option("--repeats", arguments.repeats, "of each row; median");
  app.add_flag("--quick", arguments.quick, "a tenth of the large tables, less time");
  app.add_flag("!--no-large", arguments.large, "small tables only");
  CLI11_PARSE(app, argc, argv);
  if (arguments.quick) arguments.repeats = 5;
  Run(arguments);
} catch (const std::exception& error) {
  std::fprintf(stderr, "portcullis-xdp-bench: %s\n", error.what());
  return 1;
}
