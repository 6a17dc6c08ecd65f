// A security association (RFC 4301 4.4.2). Exactly one worker writes to it: the window, the
// sequence number, the buckets and the counters. What a packet reads stands first.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "base/secret.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/esp/sa_record.hpp"
#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/verdict.hpp"
#include "dataplane/state/auth_budget.hpp"
#include "dataplane/state/counters.hpp"
#include "dataplane/state/endpoint.hpp"
#include "dataplane/state/flow_cache.hpp"
#include "dataplane/state/policer.hpp"
#include "dataplane/state/selector.hpp"

namespace portcullis {

struct NextHop;
struct PeerState;

inline constexpr uint64_t kNsPerSecond = 1'000'000'000;

enum class DontFragment : uint8_t { copy, set, clear };

struct Tunnel {
  Address local;   // outer addresses
  Address remote;  // where to send; inbound: where to expect, "::" anywhere
  uint16_t local_port = 4500;
  uint16_t remote_port = 4500;
  bool udp_encap = false;   // RFC 3948
  bool follow_nat = false;  // the remote endpoint follows authenticated packets
  DontFragment df = DontFragment::copy;
  bool copy_dscp = false;
};

struct Limits {  // 0: unlimited
  uint64_t seconds = 0;
  uint64_t packets = 0;
  uint64_t bytes = 0;
};

enum class SaMode : uint8_t { fresh, resume };

/// What control asks for. Validated by the steering handler.
struct SaSpec {
  std::string id;
  std::string peer;
  Direction direction = Direction::inbound;
  Spi spi{};
  Algorithm algorithm = Algorithm::aes_128_gcm_16;
  Secret key;
  bool esn = true;
  uint16_t replay_window = 1024;  // packets; 0: none (laboratory only)
  std::vector<Selector> selectors;
  Tunnel tunnel;
  Limits soft;
  Limits hard;
  Rate rate;
  SaMode mode = SaMode::fresh;
  bool lab = false;
  std::string replaces;
  std::string pair;
  std::string note;                            // control's own
  std::vector<Selector> registered_selectors;  // beside `selectors`, while the peer is registered
  uint64_t registered_seconds = 0;             // from now on; 0: it is not
};

/// The way to an SA's endpoint and all of the outer headers that is the same for every packet, as
/// its worker found them under one view of the routes. A cache line and a half.
struct Path {
  static constexpr size_t kMostHeader = 48;  // IPv6 and UDP

  const NextHop* hop = nullptr;  // null: none that leads to the wire
  uint32_t view = 0;             // State::view(); 0: not looked up yet
  uint16_t learned = 0;          // Sa::pmtu that `inner_mtu` was made from
  uint16_t inner_mtu = 0;        // bytes
  uint32_t checksum = 0;         // IPv4: the sum of the header's words
  uint8_t header_length = 0;     // IP, and UDP when ESP is in it
  std::array<uint8_t, kMostHeader> header{};
};

struct Sa {
  // ---- read for every packet: one cache line
  Spi spi{};
  Algorithm algorithm{};
  bool esn = true;
  std::atomic<bool> expired = false;  // hard lifetime; set by worker (counts) or main (time)
  std::atomic<bool> removed = false;  // on its way out: hold no reference past this burst
  uint8_t payload_offset = 0;         // EspPayloadOffset and its kin, of the algorithm
  uint8_t icv_bytes = 0;
  uint8_t least_length = 0;
  uint8_t pad_mask = 0;  // of AlgorithmInfo::pad_to
  uint16_t worker = 0;
  uint16_t word_mask = 0;  // of the record's ring
  const KeySchedule* key = nullptr;
  SaRecord* record = nullptr;
  const uint64_t* words = nullptr;  // the ring itself; null: outbound, or no window
  PeerState* peer = nullptr;
  Address local;  // tunnel.local

  // ---- written by the owning worker: two more for a packet that passes
  alignas(64) Policer policer;
  // Of all SAs that this process ever had; never 0. Another one when less is admitted than before:
  // then no flow is remembered.
  std::atomic<uint64_t> serial = 0;
  AuthBudget auth;
  alignas(64) Endpoint endpoint;  // inbound: last authenticated source; outbound: where to send
  // Inbound: what the first line knows of the window. All numbers before it are stale; it follows
  // OldestOf(*record) at some distance.
  std::atomic<uint64_t> oldest = 0;
  uint64_t hard_packets = 0;  // spec.hard; 0: unlimited
  uint64_t hard_bytes = 0;
  Counters counters;
  FlowCache::Entry last;  // inbound: the flow that was judged last, so that most need no table
  alignas(64) Path path;  // outbound

  // ---- read when needed
  Suspicion suspicion;  // inbound
  Direction direction{};
  Tunnel tunnel;
  std::vector<Selector> selectors;
  std::vector<Selector> registered_selectors;
  std::atomic<bool> registered = false;

  // ---- path MTU: written by the main thread on an ICMP error, read when sealing (outbound)
  std::atomic<uint16_t> pmtu = 0;  // of the outer packet, bytes; 0: the link's
  uint64_t pmtu_until_boot_ns = 0;

  // ---- main thread only
  SaSpec spec;
  std::string fingerprint;
  uint64_t added_boot_ns = 0;
  uint64_t registered_until_boot_ns = 0;  // while registered
  bool soft_reported = false;
  bool hard_reported = false;
  bool suspect_reported = false;

  /// Is the inner packet one that this SA carries (RFC 4301 5.2 step 4)?
  [[nodiscard]] Verdict Carries(const Flow& flow, Direction way) const noexcept {
    if (AnyMatches(selectors, flow, way)) return Verdict::accepted;
    if (!AnyMatches(registered_selectors, flow, way)) return Verdict::selector_mismatch;
    return registered.load(std::memory_order_acquire) ? Verdict::accepted : Verdict::not_registered;
  }
  /// The hard lifetime in packets or bytes, exactly; its own worker asks before each packet.
  [[nodiscard]] bool Exhausted() const noexcept {
    return (hard_packets != 0 && record->packets >= hard_packets) ||
           (hard_bytes != 0 && record->bytes >= hard_bytes);
  }
  /// The hard lifetime in seconds; the other hard limits are the worker's to watch.
  [[nodiscard]] bool TimeIsUp(uint64_t boot_ns) const noexcept {
    return spec.hard.seconds != 0 && boot_ns >= record->born_boot_ns &&
           (boot_ns - record->born_boot_ns) / kNsPerSecond >= spec.hard.seconds;
  }
  [[nodiscard]] bool usable() const noexcept {
    return !expired.load(std::memory_order_relaxed) && !removed.load(std::memory_order_relaxed);
  }
};
static_assert(offsetof(Sa, policer) == 64);

/// How SAs are allocated: a page that has one has the other.
struct KeyedSa {
  Sa sa;
  KeySchedule key;
};

}  // namespace portcullis
