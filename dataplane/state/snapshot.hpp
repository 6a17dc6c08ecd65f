// The policy in force: immutable, with a generation number, compiled off the workers and swapped by
// RCU. A packet is judged by one snapshot from beginning to end.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/state/first_line.hpp"
#include "dataplane/state/peer.hpp"
#include "dataplane/state/prefix_map.hpp"
#include "dataplane/state/selector.hpp"
#include "dataplane/state/source_table.hpp"

namespace portcullis {

struct ProtectedInterface {
  std::string name;
  std::vector<Prefix> prefixes;
};

struct BypassRule {
  std::string name;
  Selector selector;
};

/// What a policy says; the same types serve the whole policy and a change to it.
struct PolicyUpdate {
  uint64_t generation = 0;
  bool full = false;             // everything not named goes
  uint64_t base_generation = 0;  // must be in force, unless `full`
  std::vector<PeerPolicy> peers;
  std::vector<std::string> removed_peers;
  std::vector<ProtectedInterface> interfaces;
  std::vector<BypassRule> bypasses;
  std::shared_ptr<const FirstLine> first_line{};  // null: as it is; with `full`, what admits all
};

struct Snapshot {
  uint64_t generation = 0;
  // Both by PeerState::index; holes are null.
  std::vector<std::shared_ptr<const PeerPolicy>> policies;
  std::vector<PeerState*> peers;
  PrefixMap peer_by_prefix;
  std::vector<ProtectedInterface> interfaces;
  std::vector<BypassRule> bypasses;
  std::shared_ptr<const FirstLine> first_line;  // never null
  std::shared_ptr<const SourceTable> sources;   // null: no port needs it

  /// The peer that the remote address belongs to; null: nobody's.
  [[nodiscard]] PeerState* PeerOf(const Address& remote) const noexcept {
    const auto index = peer_by_prefix.Lookup(remote);
    return index ? peers[*index] : nullptr;
  }
  [[nodiscard]] const PeerPolicy& PolicyOf(const PeerState& peer) const noexcept {
    return *policies[peer.index];
  }
  [[nodiscard]] bool Bypasses(const Flow& flow, Direction direction) const noexcept {
    for (const BypassRule& rule : bypasses) {
      if (rule.selector.Matches(flow, direction)) return true;
    }
    return false;
  }
};

}  // namespace portcullis
