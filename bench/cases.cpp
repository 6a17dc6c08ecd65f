// Which rows there are. Each varies one thing of the plain row (inbound or outbound, 64 bytes,
// AES-128-GCM, one SA, one rule, hugepages) and is measured in turns with that row where the issue
// is by how much this thing costs.
#include <fmt/format.h>

#include <bit>
#include <numeric>

#include "bench/row.hpp"

namespace portcullis::bench {
namespace {

constexpr std::array kOneWay = {Way::inbound, Way::outbound};

// The simple mix 7:4:1 as in TRex's stl/imix.py (frames of 64, 594, 1518 bytes with FCS), played as
// inner packets; the largest is cut to what still fits an Ethernet MTU with ESP around it.
const Sizes kImix = {64, 594, 64, 64, 594, 64, 1400, 594, 64, 64, 594, 64};
// There is no standard for what a mobile core carries, so this is an assumption: 6 of 20 are bare
// TCP acknowledgements and signalling (64), 4 voice frames in RTP (128), 2 something between (512),
// 8 full segments of a UE whose link MTU is 1358 (3GPP TS 23.501 annex J). Mean 639 bytes.
const Sizes kMobile = {1358, 64, 128, 1358, 64, 512, 1358, 64, 1358, 128,
                       1358, 64, 128, 1358, 64, 512, 1358, 64, 1358, 128};

std::shared_ptr<const Case> Shared(Case test) {
  return std::make_shared<const Case>(std::move(test));
}

// Packets are copied out of memory of the benchmark's own, as a NIC would have put them into the
// cache. More than the core's own cache holds would measure who else uses the last-level cache: the
// pipeline leaves it alone for longer than the loop that measures the ports.
uint32_t LapOf(const Sizes& sizes) {
  constexpr uint32_t kCache = 512 << 10U;     // half of a small L2
  constexpr uint32_t kAround = 64 + 64 + 64;  // headers, ESP, and the buffer's own
  const uint32_t mean = std::accumulate(sizes.begin(), sizes.end(), uint32_t{0}) /
                        static_cast<uint32_t>(sizes.size());
  return std::bit_floor(kCache / (mean + kAround));
}

void AddSizes(std::vector<Case>& cases) {
  for (const Way way : {Way::inbound, Way::outbound, Way::round_trip}) {
    for (const uint16_t size : {64, 128, 256, 512, 1024, 1400}) {
      const bool quick = size == 64 || size == 256 || size == 1400;
      cases.push_back({.name = "size",
                       .way = way,
                       .sizes = {size},
                       .sizes_name = std::to_string(size),
                       .lap = LapOf({size}),
                       .quick = quick});
    }
    cases.push_back(
        {.name = "size", .way = way, .sizes = kImix, .sizes_name = "imix", .lap = LapOf(kImix)});
    cases.push_back({.name = "size",
                     .way = way,
                     .sizes = kMobile,
                     .sizes_name = "mobile",
                     .lap = LapOf(kMobile),
                     .quick = false});
  }
}

void AddAlgorithms(std::vector<Case>& cases) {
  for (const Algorithm algorithm : {Algorithm::aes_256_gcm_16, Algorithm::chacha20_poly1305,
                                    Algorithm::aes_128_cbc_hmac_sha_256_128}) {
    for (const Way way : kOneWay) {
      for (const uint16_t size : {64, 1400}) {
        cases.push_back({.name = "algorithm",
                         .way = way,
                         .layout = {.algorithm = algorithm},
                         .sizes = {size},
                         .sizes_name = std::to_string(size),
                         .lap = LapOf({size}),
                         .quick = size == 64});
      }
    }
  }
}

// One SA has as long a lap as many have, so that only the SAs differ and not the packets'
// footprint.
void AddSas(std::vector<Case>& cases, bool small_pages) {
  constexpr uint32_t kMany = 64000;
  for (const Way way : kOneWay) {
    for (const uint32_t sas : {1000U, 16000U, kMany}) {
      if (small_pages && sas != kMany) continue;
      const uint32_t lap = sas <= 4096 ? 4096 : 65536;
      cases.push_back(
          {.name = "sas",
           .way = way,
           .layout = {.sas = sas},
           .lap = lap,
           .base = Shared({.name = "one", .way = way, .lap = lap, .small_pages = small_pages}),
           .quick = sas != 16000U,
           .small_pages = small_pages});
    }
  }
}

void AddRules(std::vector<Case>& cases) {
  // Eight times what a worker's cache of flows holds with as few SAs (kLeastFlows): each flow has
  // lost its place before it comes again, so every packet is judged by policy and rules.
  constexpr uint32_t kUncachedLap = 8 * 4096;
  constexpr uint32_t kUncachedFlows = 60000;
  for (const Way way : kOneWay) {
    for (const uint32_t rules : {100U, 1000U}) {
      cases.push_back({.name = "rules",
                       .way = way,
                       .layout = {.rules = rules, .flows = rules},
                       .base = Shared({.name = "one rule", .way = way})});
    }
    for (const uint32_t rules : {1U, 1000U}) {
      cases.push_back({.name = "rules uncached",
                       .way = way,
                       .layout = {.rules = rules, .flows = kUncachedFlows},
                       .lap = kUncachedLap,
                       .base = Shared({.name = "one rule", .way = way, .lap = kUncachedLap}),
                       .quick = rules == 1000});
    }
  }
}

void AddAttacks(std::vector<Case>& cases) {
  for (const Attack attack : {Attack::unknown_spi, Attack::replay, Attack::bad_icv,
                              Attack::selector_miss, Attack::no_policy, Attack::denied_source}) {
    Case accepted{.name = "accepted"};
    accepted.layout.first_line = attack == Attack::denied_source;
    if (attack == Attack::no_policy) accepted.way = Way::outbound;
    // Of each SA as many packets as its window holds: they are replays, and not just stale.
    if (attack == Attack::replay) accepted.layout.sas = accepted.lap / accepted.layout.window;
    Case test = accepted;
    test.name = "attack";
    test.attack = attack;
    test.base = Shared(accepted);
    cases.push_back(std::move(test));
  }
}

// On ports that DPDK owns whole: a look-up of the source, and its bucket.
void AddFirstLine(std::vector<Case>& cases) {
  cases.push_back({.name = "first line",
                   .layout = {.first_line = true},
                   .base = Shared({.name = "no first line"})});
}

void AddWorkers(std::vector<Case>& cases) {
  constexpr uint32_t kSasPerWorker = 4;
  for (const Way way : kOneWay) {
    const Case one{.name = "worker",
                   .way = way,
                   .layout = {.sas = kSasPerWorker},
                   .arrival = Arrival::at_owner};
    for (const Arrival arrival : {Arrival::at_owner, Arrival::half_elsewhere}) {
      cases.push_back(
          {.name = arrival == Arrival::at_owner ? "workers" : "workers handing off half",
           .way = way,
           .layout = {.sas = 2 * kSasPerWorker, .workers = 2},
           .arrival = arrival,
           .base = Shared(one)});
    }
  }
}

void AddSmallPages(std::vector<Case>& cases) {
  for (const Way way : kOneWay) {
    for (const uint16_t size : {64, 1400}) {
      cases.push_back({.name = "size",
                       .way = way,
                       .sizes = {size},
                       .sizes_name = std::to_string(size),
                       .quick = size == 64,
                       .small_pages = true});
    }
  }
  AddSas(cases, true);
}

}  // namespace

std::string Case::Text() const {
  std::string text = fmt::format("{} {} {} {} SAs={} rules={} w={} {}", name, Name(way),
                                 Info(layout.algorithm).name, sizes_name, layout.sas, layout.rules,
                                 layout.workers, small_pages ? "4K" : "2M");
  if (attack != Attack::none) text += fmt::format(" {}", Name(attack));
  return text;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  AddSizes(cases);
  AddAlgorithms(cases);
  AddSas(cases, false);
  AddRules(cases);
  AddAttacks(cases);
  AddFirstLine(cases);
  AddWorkers(cases);
  AddSmallPages(cases);
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

const char* Name(Attack attack) {
  switch (attack) {
    case Attack::unknown_spi:
      return "unknown SPI";
    case Attack::replay:
      return "replay";
    case Attack::bad_icv:
      return "bad ICV";
    case Attack::selector_miss:
      return "selector miss";
    case Attack::no_policy:
      return "no policy";
    case Attack::denied_source:
      return "denied source";
    default:
      return "";
  }
}

}  // namespace portcullis::bench
