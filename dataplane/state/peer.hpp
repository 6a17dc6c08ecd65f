// What is known of a peer: its policy, which is part of a snapshot, and what outlives snapshots.
#pragma once

#include <rte_malloc.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "dataplane/state/counters.hpp"
#include "dataplane/state/policer.hpp"
#include "dataplane/state/selector.hpp"

namespace portcullis {

struct Sa;

/// As compiled from one steer.Peer; immutable, shared by the snapshots that it did not change in.
struct PeerPolicy {
  std::string name;
  std::string tenant;
  std::vector<Prefix> prefixes;
  std::vector<Selector> rules;
  Rate rate;
  uint64_t deadline_boot_ns = 0;  // 0: none
};

/// All SAs of a peer belong to one worker, so its buckets need no lock.
struct alignas(64) PeerState {
  // ---- read for every packet
  // Revocation and deadline are flags, not a compile: set by the main thread at any time.
  std::atomic<bool> revoked = false;
  std::atomic<bool> past_deadline = false;
  uint16_t worker = 0;
  uint32_t index = 0;  // in Snapshot::peers
  // Newest first; replaced as a whole under RCU. Never null. The version is another one whenever
  // the list is; it grows after the list and before the quiescence that the old list waits for.
  std::atomic<const std::vector<Sa*>*> outbound{new std::vector<Sa*>()};
  std::atomic<uint32_t> outbound_version = 1;
  uint32_t policed_view = 0;  // State::view() under which the worker last asked for the rate

  // Owned by `worker`; made anew when the policy's rate is another one. A line each.
  struct alignas(64) {
    Policer policer;
  } policed[2];       // by Direction
  Rate policed_rate;  // that they were made for
  std::string name;

  // Owned by the main thread: what the counters of removed SAs left behind.
  CounterValues removed;

  PeerState() = default;
  // In the EAL's memory, on hugepages where there are any: with many peers each is a TLB miss.
  static void* operator new(size_t bytes) {
    void* place = rte_malloc("peer", bytes, alignof(PeerState));
    if (place == nullptr) throw std::bad_alloc();
    return place;
  }
  static void operator delete(void* place) { rte_free(place); }
  PeerState(const PeerState&) = delete;
  PeerState& operator=(const PeerState&) = delete;
  ~PeerState() { delete outbound.load(); }

  [[nodiscard]] bool granted() const noexcept {
    return !revoked.load(std::memory_order_relaxed) &&
           !past_deadline.load(std::memory_order_relaxed);
  }
};

}  // namespace portcullis
