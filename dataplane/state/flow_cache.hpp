// What was concluded about a flow: a packet that is like one judged before, by the same SA under
// the same policy and routes, needs no second search through prefixes and rules. One table a
// worker, direct mapped, an entry a cache line; a flow that finds its place taken takes it over.
// Only what was admitted is remembered, so no flood of refused packets pushes a flow out.
#pragma once

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

  /// Where a flow stands if it is there at all: one of two.
  struct alignas(128) Bucket {
    Entry ways[2];

    [[nodiscard]] const Entry* Find(const Flow& flow, uint64_t serial,
                                    uint32_t view) const noexcept {
      if (ways[0].Is(flow, serial, view)) return &ways[0];
      return ways[1].Is(flow, serial, view) ? &ways[1] : nullptr;
    }
    [[nodiscard]] const Entry* Find(const Flow& flow, uint32_t view) const noexcept {
      if (ways[0].Is(flow, view)) return &ways[0];
      return ways[1].Is(flow, view) ? &ways[1] : nullptr;
    }
    /// For a new flow. The one that came last is kept beside it.
    [[nodiscard]] Entry& Place() noexcept {
      ways[1] = ways[0];
      return ways[0];
    }
  };

  /// Room for `flows`, rounded up to a power of two. The EAL must run. Throws std::bad_alloc.
  explicit FlowCache(size_t flows) : shift_(64 - std::bit_width(std::bit_ceil(flows / 2) - 1)) {
    const size_t buckets = std::bit_ceil(flows / 2);
    auto* place =
        static_cast<Bucket*>(rte_malloc("flows", buckets * sizeof(Bucket), alignof(Bucket)));
    if (place == nullptr) throw std::bad_alloc();
    std::uninitialized_default_construct_n(place, buckets);
    buckets_.reset(place);
  }

  /// Fragments have no ports to tell them apart; an ICMP error is judged as another's flow.
  [[nodiscard]] static bool Holds(const Flow& flow) noexcept {
    return flow.has_ports && !flow.icmp_error;
  }
  /// `serial`: of the SA that it came by; outbound 0. Its first entry is on the way to the cache.
  [[nodiscard]] Bucket& BucketOf(const Flow& flow, uint64_t serial) noexcept {
    const uint64_t rest =
        uint64_t{flow.source_port} << 32U | uint64_t{flow.destination_port} << 16U | flow.protocol;
    // Addresses, SAs and ports count upwards together, and addresses do so in their last bytes, the
    // topmost here: a product carries differences upwards only, so the upper half is folded down
    // and multiplied once more. (A CRC, linear as it is, put such flows into few buckets.)
    uint64_t hash = serial * 0x9e3779b97f4a7c15 +
                    (flow.source.Half(0) ^ flow.source.Half(1)) * 0xc2b2ae3d27d4eb4f +
                    (flow.destination.Half(0) ^ flow.destination.Half(1)) * 0x165667b19e3779f9 +
                    rest * 0xd6e8feb86659fd93;
    hash = (hash ^ hash >> 32U) * 0x9e3779b97f4a7c15;
    Bucket& bucket = buckets_.get()[hash >> shift_];
    rte_prefetch0(&bucket.ways[0]);
    return bucket;
  }

 private:
  struct Free {
    void operator()(Bucket* buckets) const { rte_free(buckets); }
  };
  unsigned shift_;
  std::unique_ptr<Bucket, Free> buckets_;
};
static_assert(sizeof(FlowCache::Entry) == 64);

}  // namespace portcullis
