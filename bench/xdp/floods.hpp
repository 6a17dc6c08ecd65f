// The packets of each row: many different ones that end with one verdict.
#pragma once

#include <random>
#include <span>
#include <string>
#include <vector>

#include "bpf/loader.hpp"
#include "bpf/replay.h"

namespace portcullis::bench {

/// What the tables are filled with. Sources that are named lie in 10.0.0.0/8 .. 100.0.0.0/8, of
/// which every other one is denied.
struct Tables {
  std::vector<SourceRule> sources;
  std::vector<Spi> spis;

  static Tables Of(size_t sources, size_t spis, std::mt19937_64& random);
};

struct Flood {
  std::string name;
  Verdict verdict = Verdict::accepted;
  bool aim = false;  // at most twice what parsing and dropping costs
  FirstLine policy;  // sources are those of the tables
  bool socket = false;
  void (*write)(replay_frame& frame, const Tables& tables, std::mt19937_64& random) = nullptr;
};

/// Those that depend on the size of tables come with any; the others only with small ones.
std::vector<Flood> Floods(bool large);

/// The gate's own addresses and what is behind it, to which the packets are addressed.
std::vector<Address> OwnAddresses();
std::vector<Prefix> ProtectedNets();

}  // namespace portcullis::bench
