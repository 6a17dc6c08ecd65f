// Sending. Packets are gathered by port and go out at the end of the burst; only then is it known
// whether they were accepted or the queue was full. Where a port has fewer transmit queues than
// there are workers, the others pass their frames to the queue's owner through a ring.
#pragma once

#include <rte_config.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "dataplane/packet/verdict.hpp"
#include "dataplane/ports/port.hpp"
#include "dataplane/state/counters.hpp"

namespace portcullis {

struct Sa;

/// By DPDK port, then by queue; null where each worker has a queue of its own.
using TransmitRings = std::vector<std::vector<rte_ring*>>;
Result<TransmitRings> MakeTransmitRings(const std::vector<Port>& ports, unsigned workers);

class Transmit {
 public:
  /// `counters` are the worker's.
  Transmit(const std::vector<Port>& ports, const TransmitRings& rings, unsigned worker,
           Counters& counters);

  /// What a frame counts for once it has left. Our own ICMP errors count for nothing.
  struct Account {
    Sa* sa = nullptr;
    uint32_t inner_bytes = 0;
    Verdict verdict = Verdict::accepted;
    bool counts = false;
    [[nodiscard]] bool IsLike(const Account& other) const {
      return sa == other.sa && verdict == other.verdict && counts == other.counts;
    }
  };
  /// Takes the buffer.
  void Add(rte_mbuf* frame, uint16_t port, const Account& account) noexcept {
    Out& out = *outs_[port];
    if (out.count == kMost) FlushPort(out, port);
    out.frames[out.count] = frame;
    out.accounts[out.count] = account;
    ++out.count;
  }
  /// Sends what was gathered, and what others passed to our queues. Returns how many came so.
  unsigned Flush() noexcept;

 private:
  static constexpr unsigned kMost = 64;
  struct Out {
    unsigned count = 0;
    uint16_t queue = 0;
    rte_ring* pass_to = nullptr;    // the owner's ring, or null: the queue is ours
    rte_ring* take_from = nullptr;  // what others pass to us
    std::array<rte_mbuf*, kMost> frames;
    std::array<Account, kMost> accounts;
  };
  void FlushPort(Out& out, uint16_t port) noexcept;
  void Count(const Account& account, Verdict verdict, uint64_t packets, uint64_t bytes) noexcept;

  std::array<std::unique_ptr<Out>, RTE_MAX_ETHPORTS> outs_;  // by DPDK port
  Counters& counters_;
};

}  // namespace portcullis
