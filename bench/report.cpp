#include "bench/report.hpp"

#include <fmt/format.h>
#include <rte_cycles.h>
#include <unistd.h>

#include <fstream>

namespace portcullis::bench {
namespace {

double Mpps(double ns) {
  return ns > 0 ? 1e3 / ns : 0;
}

// Three digits after the point are more than any row's spread allows.
double Rounded(double value) {
  return std::round(value * 1e4) / 1e4;
}

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

void PrintHeading() {
  fmt::print(
      "{:24} {:10} {:7} {:6} {:>6} {:>5} {:>2} {:4} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7}  {:13}  "
      "{}\n",
      "row", "direction", "cipher", "bytes", "SAs", "rules", "w", "page", "ns", "crypto", "io",
      "Mpps", "Gbit/s", "limit", "of the limit", "beside");
}

void Print(const Case& test, const Row& row) {
  const Layout& layout = test.layout;
  constexpr std::array kCiphers = {"gcm128", "gcm256", "chacha", "cbc128", "cbc256"};
  std::string name = test.name;
  if (test.attack != Attack::none) name = Name(test.attack);
  fmt::print(
      "{:24} {:10} {:7} {:6} {:6} {:5} {:2} {:4} {:8.1f} {:7.1f} {:7.1f} {:7.2f} {:7.2f} {:7.2f}  "
      "{:.3f} ±{:.3f}",
      name, Name(test.way), kCiphers[static_cast<size_t>(layout.algorithm)], test.sizes_name,
      layout.sas, layout.rules, layout.workers, test.small_pages ? "4K" : "2M", row.ns,
      row.crypto_ns, row.io_ns, Mpps(row.ns), Mpps(row.ns) * row.inner_bytes * 8 / 1e3,
      Mpps(row.crypto_ns + row.io_ns), row.ratio, row.spread / 2);
  if (row.base_ratio > 0) {
    fmt::print("  {:.3f} ±{:.3f} of {}", row.base_ratio, row.base_spread / 2, test.base->name);
  }
  if (row.lost > 0) fmt::print(", {:.1f} % found a full ring", row.lost * 100);
  fmt::print("\n");
  std::fflush(stdout);
}

nlohmann::json ToJson(const Case& test, const Row& row) {
  const Layout& layout = test.layout;
  nlohmann::json json = {
      {"name", test.name},
      {"direction", Name(test.way)},
      {"engine", row.engine},
      {"algorithm", Info(layout.algorithm).name},
      {"inner_bytes", Rounded(row.inner_bytes)},
      {"sizes", test.sizes_name},
      {"sas", layout.sas},
      {"rules", layout.rules},
      {"flows", layout.flows},
      {"workers", layout.workers},
      {"pages", test.small_pages ? "4K" : "2M"},
      {"attack", Name(test.attack)},
      {"mpps", Rounded(Mpps(row.ns))},
      {"gbps", Rounded(Mpps(row.ns) * row.inner_bytes * 8 / 1e3)},
      {"ns_per_packet", Rounded(row.ns)},
      {"crypto_ns", Rounded(row.crypto_ns)},
      {"io_ns", Rounded(row.io_ns)},
      {"testpmd_ns", Rounded(row.testpmd_ns)},
      {"limit_mpps", Rounded(Mpps(row.crypto_ns + row.io_ns))},
      {"ratio_to_limit", Rounded(row.ratio)},
      {"repeats", row.repeats},
      {"spread", Rounded(row.spread)},
  };
  if (test.base) {
    json["base"] = test.base->Text();
    json["ratio_to_base"] = Rounded(row.base_ratio);
    json["base_spread"] = Rounded(row.base_spread);
  }
  if (test.arrival != Arrival::laps) json["handoff_full_share"] = Rounded(row.lost);
  return json;
}

nlohmann::json Machine() {
  return {
      {"cpu", CpuModel()}, {"cores", sysconf(_SC_NPROCESSORS_ONLN)}, {"tsc_hz", rte_get_tsc_hz()}};
}

}  // namespace portcullis::bench
