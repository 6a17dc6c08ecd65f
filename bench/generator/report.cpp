#include "bench/generator/report.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace portcullis::generator {
namespace {

using Json = nlohmann::ordered_json;

constexpr unsigned kWireOverhead = 4 + 20;  // FCS; preamble and inter-frame gap

Json Result(const Options& o, const Sent& sent, const Received& got, double hz) {
  const auto kind = [&](Kind k) { return sent.kinds[static_cast<size_t>(k)]; };
  const double seconds = std::max(static_cast<double>(sent.last_tsc - sent.first_tsc), 1.0) / hz;
  // n packets fill n - 1 gaps; one packet has no rate.
  const auto rate = [&](uint64_t packets) {
    return packets < 2 ? 0.0 : static_cast<double>(packets - 1) / seconds;
  };
  const uint64_t packets = sent.Packets();
  const double receiving = std::max(static_cast<double>(got.last_tsc - got.first_tsc), 1.0) / hz;
  const double received_pps =
      got.packets < 2 ? 0.0 : static_cast<double>(got.packets - 1) / receiving;
  const double inner = packets == 0 ? 0 : static_cast<double>(sent.inner_bytes) / packets;
  const double frame =
      packets == 0 ? 0 : static_cast<double>(sent.frame_bytes) / packets + kWireOverhead;
  const uint64_t good = kind(Kind::good);
  const auto micro = [&](unsigned per_mille) { return got.latency.Percentile(per_mille) / 1e3; };
  Json json = {
      {"direction", o.direction == Direction::inbound ? "inbound" : "outbound"},
      {"algorithm", Info(o.algorithm).name},
      {"sas", o.sas},
      {"flows", o.flows},
      {"inner_bytes", inner},
      {"offered_pps", o.rate},  // 0: max
      {"offered", sent.scheduled},
      {"skipped", sent.skipped},
      {"sent", packets},
      {"sent_good", good},
      {"sent_forged", kind(Kind::forged)},
      {"sent_replay", kind(Kind::replay)},
      {"sent_unknown_spi", kind(Kind::unknown)},
      {"seconds", seconds},
      {"sent_pps", rate(packets)},
      {"sent_gbps_inner", rate(packets) * inner * 8 / 1e9},
      {"sent_gbps_wire", rate(packets) * frame * 8 / 1e9},
  };
  if (!o.send_only) {
    json.update({
        {"received", got.packets},
        {"lost", good - std::min(good, got.packets)},
        {"reordered", got.reordered},
        {"duplicates", got.duplicates},
        {"late", got.late},
        {"leaked", got.leaked},
        {"damaged", got.damaged},
        {"foreign", got.foreign},
        {"receiver_missed", got.missed},
        {"received_pps", received_pps},
        {"received_gbps_inner",
         got.packets == 0 ? 0.0 : received_pps * got.inner_bytes / got.packets * 8 / 1e9},
        {"latency_us",
         {{"p50", micro(500)},
          {"p99", micro(990)},
          {"p99.9", micro(999)},
          {"max", got.latency.max() / 1e3}}},
    });
  }
  return json;
}

std::string Shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.3f}", value.get<double>());
  return value.dump();
}

void PrintTable(const Json& result) {
  for (const auto& [name, value] : result.items()) {
    if (value.is_object()) {
      for (const auto& [part, number] : value.items()) {
        std::printf("%-22s %16s\n", fmt::format("{} {}", name, part).c_str(),
                    Shown(number).c_str());
      }
    } else {
      std::printf("%-22s %16s\n", name.c_str(), Shown(value).c_str());
    }
  }
}

}  // namespace

void Report(const Options& o, const Sent& sent, const Received& received, double tsc_hz) {
  const Json result = Result(o, sent, received, tsc_hz);
  if (o.json == "-") {
    std::printf("%s\n", result.dump(1).c_str());
    return;
  }
  PrintTable(result);
  if (o.json.empty()) return;
  std::ofstream file(o.json, std::ios::trunc);
  file << result.dump(1) << '\n';
  file.close();
  if (!file) Die("cannot write " + o.json);
}

}  // namespace portcullis::generator
