#include "bench/generator/options.hpp"

#include <fmt/format.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_udp.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "base/ip.hpp"
#include "dataplane/esp/header.hpp"

namespace portcullis::generator {
namespace {

constexpr std::string_view kImix = "64x7,576x4,1400x1";

std::string Ipv4Of(const std::string& text) {
  const auto address = Address::Parse(text);
  if (!address) return address.error().Text();
  return address->IsV4() ? "" : "expected an IPv4 address; found " + text;
}
const CLI::Validator kIpv4(Ipv4Of, "IPV4");

uint32_t HostOrder(const std::string& text) {
  uint32_t wire = 0;
  std::memcpy(&wire, Address::Parse(text)->wire().data(), sizeof(wire));
  return rte_be_to_cpu_32(wire);
}

const CLI::Validator kMac(
    [](const std::string& text) {
      rte_ether_addr mac;
      return rte_ether_unformat_addr(text.c_str(), &mac) == 0 ? "" : "expected 02:00:00:00:00:01";
    },
    "MAC");

const CLI::Validator kHexSeed(
    [](const std::string& text) {
      const bool hex = text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
      return text.size() == 64 && hex ? "" : "expected 64 hex digits";
    },
    "HEX");

// The first core that this process may run on.
unsigned FirstCore() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  for (unsigned core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) return core;
  }
  return 0;
}

// What contradicts itself, in words; empty when nothing does.
std::string Contradiction(const Options& o) {
  if (o.write_lab.empty() && o.wire_device.empty()) return "--wire-port is required";
  if (o.write_lab.empty() && o.seed.empty()) {
    return "--seed is required: see --write-lab, which draws one";
  }
  if (o.forge_icv + o.replay + o.unknown_spi > 1000) {
    return "--forge-icv, --replay and --unknown-spi together exceed 1000 per mille";
  }
  if (o.direction == Direction::outbound && o.forge_icv + o.replay + o.unknown_spi > 0) {
    return "attack mixes are made of ESP: --direction inbound";
  }
  const size_t senders = std::max<size_t>(o.cores.size(), 2) - 1;
  if (o.sas < senders) {
    return fmt::format(
        "{} sending cores need as many security associations: one writer each; "
        "found --sas {}",
        senders, o.sas);
  }
  if (o.service_port + o.flows - 1 > UINT16_MAX) return "--service-port + --flows exceed 65535";
  return "";
}

}  // namespace

void Die(const std::string& why) {
  std::fprintf(stderr, "portcullis-generator: %s\n", why.c_str());
  std::exit(2);
}

std::string Ipv4Text(uint32_t a) {
  return fmt::format("{}.{}.{}.{}", a >> 24U, a >> 16U & 255U, a >> 8U & 255U, a & 255U);
}

uint16_t Options::MaxSize() const {
  return *std::max_element(sizes.begin(), sizes.end());
}

uint32_t Options::MaxFrame() const {
  return static_cast<uint32_t>(RTE_ETHER_HDR_LEN + sizeof(rte_ipv4_hdr) +
                               (udp_encap ? sizeof(rte_udp_hdr) : 0)) +
         EspLength(algorithm, MaxSize());
}

Result<std::vector<uint16_t>> ParseSizes(const std::string& given) {
  const std::string text = given == "imix" ? std::string(kImix) : given;
  std::vector<uint16_t> sizes;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    unsigned size = 0;
    unsigned weight = 1;
    auto read = std::from_chars(at, end, size);
    if (read.ec == std::errc{} && read.ptr != end && *read.ptr == 'x') {
      read = std::from_chars(read.ptr + 1, end, weight);
    }
    const bool separated = read.ptr == end || (*read.ptr == ',' && read.ptr + 1 != end);
    if (read.ec != std::errc{} || !separated || size < kMinSize || size > kMaxSize || weight == 0 ||
        weight > 1000) {
      return Invalid("--size", "not a size or mix",
                     fmt::format("{}..{}, or 64x7,576x4,1400x1, or imix", kMinSize, kMaxSize),
                     given);
    }
    sizes.insert(sizes.end(), weight, static_cast<uint16_t>(size));
    at = read.ptr == end ? end : read.ptr + 1;
  }
  if (sizes.empty()) return Invalid("--size", "empty");
  std::mt19937 random(2544);  // NOLINT(cert-msc51-cpp): every run the same order
  std::shuffle(sizes.begin(), sizes.end(), random);
  return sizes;
}

Options ParseOptions(int argc, char** argv) {
  Options o;
  std::string algorithm{Info(o.algorithm).name};
  std::string gate_wire = "198.18.0.1", wire = "198.18.0.2", gate_core = "198.19.0.1",
              server = "198.19.0.2", clients = "10.64.0.1", size = "64", rate = "1000",
              direction = "inbound";
  bool no_esn = false;
  CLI::App app("Sends valid ESP, or what becomes ESP, through a gate and counts what arrives.");
  app.set_config("--config", "", "These options, one name=value a line");

  app.add_option("--write-lab", o.write_lab,
                 "Draw a seed and write policy.json, sas.json and generator.conf to this new "
                 "folder, then end")
      ->group("Laboratory");
  std::vector<std::string> names;
  names.reserve(kAlgorithms.size());
  for (const AlgorithmInfo& info : kAlgorithms) names.emplace_back(info.name);
  const auto who = "Who there is (the same at the gate)";
  app.add_option("--seed", o.seed, "All keys come from it")->check(kHexSeed)->group(who);
  app.add_option("--algorithm", algorithm)->check(CLI::IsMember(names))->group(who);
  app.add_flag("--no-esn", no_esn, "32-bit sequence numbers")->group(who);
  app.add_flag("--udp-encap", o.udp_encap, "ESP in UDP, port 4500 (RFC 3948)")->group(who);
  app.add_option("--sas", o.sas, "Security associations, one a peer")
      ->check(CLI::Range(1U, kMaxSas))
      ->group(who);
  app.add_option("--flows", o.flows, "Flows of each")->check(CLI::Range(1U, 10000U))->group(who);
  app.add_option("--service-port", o.service_port, "UDP port of flow 0")->group(who);
  app.add_option("--gate-wire", gate_wire, "The gate's end of the tunnel")
      ->check(kIpv4)
      ->group(who);
  app.add_option("--wire", wire, "Our end of it")->check(kIpv4)->group(who);
  app.add_option("--gate-core", gate_core, "The gate on the trusted side")
      ->check(kIpv4)
      ->group(who);
  app.add_option("--server", server, "We are the server there")->check(kIpv4)->group(who);
  app.add_option("--clients", clients, "Inner address of the first peer")->check(kIpv4)->group(who);
  app.add_option("--sequence-file", o.sequence_file,
                 "Where the next sequence number is kept between runs")
      ->group(who);

  const auto where = "Where";
  app.add_option("--wire-port", o.wire_device,
                 "Towards the gate's untrusted port: PCI address, or vdev with its arguments")
      ->group(where);
  app.add_option("--core-port", o.core_device, "Towards its trusted port; absent: the same")
      ->group(where);
  app.add_option("--cores", o.cores,
                 "First the receiver's, then a sender on each other; one alone does both")
      ->delimiter(',')
      ->group(where);
  app.add_flag("--small-pages", o.small_pages, "Without hugepages")->group(where);
  app.add_option("--megabytes", o.megabytes, "Of memory")
      ->check(CLI::Range(64U, 65536U))
      ->group(where);
  app.add_option("--gate-wire-mac", o.gate_wire_mac, "Absent: ARP")->check(kMac)->group(where);
  app.add_option("--gate-core-mac", o.gate_core_mac, "Absent: ARP")->check(kMac)->group(where);

  const auto what = "What";
  app.add_option("--direction", direction, "inbound: ESP to the wire; outbound: cleartext to core")
      ->check(CLI::IsMember({"inbound", "outbound"}))
      ->group(what);
  app.add_option("--size", size, "Inner bytes: 64, or 64x7,576x4,1400x1, or imix")->group(what);
  app.add_option("--rate", rate, "Packets/s, or max")->group(what);
  app.add_option("--packets", o.packets, "End after so many")
      ->check(CLI::Range(uint64_t{1}, kMaxPackets))
      ->group(what);
  app.add_option("--seconds", o.seconds, "End after so long")
      ->check(CLI::Range(0.001, double{kMaxSeconds}))
      ->group(what);
  app.add_option("--drain-ms", o.drain_ms, "Then wait for residual frames (RFC 2544 23)")
      ->check(CLI::Range(0U, 60000U))
      ->group(what);
  const auto add_attack = [&](const char* name, auto& per_mille) {
    app.add_option(name, per_mille, "Of 1000 packets")->check(CLI::Range(0U, 1000U))->group(what);
  };
  add_attack("--forge-icv", o.forge_icv);
  add_attack("--replay", o.replay);
  add_attack("--unknown-spi", o.unknown_spi);
  app.add_flag("--send-only", o.send_only, "Count nothing that comes back")->group(what);
  app.add_option("--json", o.json, "Also write the result there; - is standard output, alone");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  const auto named = std::find(names.begin(), names.end(), algorithm);
  o.algorithm = static_cast<Algorithm>(named - names.begin());
  o.esn = !no_esn;
  o.gate_wire = HostOrder(gate_wire);
  o.wire = HostOrder(wire);
  o.gate_core = HostOrder(gate_core);
  o.server = HostOrder(server);
  o.clients = HostOrder(clients);
  o.direction = direction == "inbound" ? Direction::inbound : Direction::outbound;
  auto sizes = ParseSizes(size);
  if (!sizes) Die(sizes.error().Text());
  o.sizes = std::move(*sizes);
  if (rate != "max") {
    const auto [end, error] = std::from_chars(rate.data(), rate.data() + rate.size(), o.rate);
    if (error != std::errc{} || end != rate.data() + rate.size() || !(o.rate >= 0.01) ||
        !(o.rate <= 1e9)) {
      Die("--rate: expected 0.01..1000000000 packets/s, or max; found " + rate);
    }
  }
  if (o.cores.empty()) o.cores = {FirstCore()};
  if (const std::string wrong = Contradiction(o); !wrong.empty()) Die(wrong);
  return o;
}

}  // namespace portcullis::generator
