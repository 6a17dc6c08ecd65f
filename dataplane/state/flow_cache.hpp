// What was concluded about a flow: a packet that is like one judged before, by the same SA under
// the same policy and routes, needs no second search through prefixes and rules. One table a
// worker, direct mapped, an entry a cache line; a flow that finds its place taken takes it over.
// Only what was admitted is remembered, so no flood of refused packets pushes a flow out.
#pragma once

#include <nmmintrin.h>
#include <rte_malloc.h>
#include <rte_prefetch.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <new>

#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/flow.hpp"

namespace portcullis {

struct NextHop;
struct PeerState;
struct Sa;

class FlowCache {
 public:
  struct alignas(64) Entry {
    Address source;
    Address destination;
    uint16_t source_port = 0;
    uint16_t destination_port = 0;
    uint32_t view = 0;     // State::view() of the judgement; 0: nothing here
    uint32_t version = 0;  // outbound: PeerState::outbound_version
    uint8_t protocol = 0;
    Direction direction{};
    union {
      uint64_t serial = 0;  // inbound: of the SA that it came by
      PeerState* peer;      // outbound: whose packet
    };
    union {
      const NextHop* hop = nullptr;  // inbound: where to send
      Sa* sa;                        // outbound: what protects it
    };

    /// Of an inbound flow.
    [[nodiscard]] bool Is(const Flow& flow, uint64_t serial, uint32_t view) const noexcept {
      return direction == Direction::inbound && this->serial == serial && IsLike(flow, view);
    }
    /// Of an outbound flow.
    [[nodiscard]] bool Is(const Flow& flow, uint32_t view) const noexcept {
      return direction == Direction::outbound && IsLike(flow, view);
    }
    void Set(const Flow& flow, uint64_t serial, uint32_t view, const NextHop& hop) noexcept {
      SetFlow(flow, Direction::inbound, view);
      this->serial = serial;
      this->hop = &hop;
    }
    void Set(const Flow& flow, PeerState& peer, uint32_t version, uint32_t view, Sa& sa) noexcept {
      SetFlow(flow, Direction::outbound, view);
      this->peer = &peer;
      this->version = version;
      this->sa = &sa;
    }

   private:
    [[nodiscard]] bool IsLike(const Flow& flow, uint32_t view) const noexcept {
      return this->view == view && source == flow.source && destination == flow.destination &&
             source_port == flow.source_port && destination_port == flow.destination_port &&
             protocol == flow.protocol;
    }
    void SetFlow(const Flow& flow, Direction direction, uint32_t view) noexcept {
      source = flow.source;
      destination = flow.destination;
      source_port = flow.source_port;
      destination_port = flow.destination_port;
      protocol = flow.protocol;
      this->direction = direction;
      this->view = view;
    }
  };

  /// Room for `flows`, rounded up to a power of two. The EAL must run. Throws std::bad_alloc.
  explicit FlowCache(size_t flows) : mask_(std::bit_ceil(flows) - 1) {
    const size_t bytes = (mask_ + 1) * sizeof(Entry);
    auto* place = static_cast<Entry*>(rte_malloc("flows", bytes, alignof(Entry)));
    if (place == nullptr) throw std::bad_alloc();
    std::uninitialized_default_construct_n(place, mask_ + 1);
    entries_.reset(place);
  }

  /// Fragments have no ports to tell them apart; an ICMP error is judged as another's flow.
  [[nodiscard]] static bool Holds(const Flow& flow) noexcept {
    return flow.has_ports && !flow.icmp_error;
  }
  /// Where the flow stands if it is there at all; the line is on its way to the cache.
  /// `serial`: of the SA that it came by; outbound 0.
  [[nodiscard]] Entry& Find(const Flow& flow, uint64_t serial) noexcept {
    const uint64_t rest =
        uint64_t{flow.source_port} << 32U | uint64_t{flow.destination_port} << 16U | flow.protocol;
    // CRC32C, an instruction of every CPU that DPDK runs on.
    uint64_t hash = _mm_crc32_u64(serial, rest);
    hash = _mm_crc32_u64(hash, flow.source.Half(0) ^ flow.source.Half(1));
    hash = _mm_crc32_u64(hash, flow.destination.Half(0) ^ flow.destination.Half(1));
    Entry& entry = entries_.get()[hash & mask_];
    rte_prefetch0(&entry);
    return entry;
  }

 private:
  struct Free {
    void operator()(Entry* entries) const { rte_free(entries); }
  };
  size_t mask_;
  std::unique_ptr<Entry, Free> entries_;
};
static_assert(sizeof(FlowCache::Entry) == 64);

}  // namespace portcullis
