// DPDK's libraries are not compiled for ThreadSanitizer, which therefore does not see that a buffer
// that leaves one thread through a ring inside them, and reaches another, was written before it was
// read. What those rings order is said here once more, with atomics that it does see: buffers back
// into the pool before out of it, into a test port's ring before received, sent before taken.
#pragma once

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <stdexcept>

namespace portcullis {

class TestOrder {
 public:
  void Release() noexcept { passed_.fetch_add(1, std::memory_order_release); }
  void Acquire() const noexcept { (void)passed_.load(std::memory_order_acquire); }

 private:
  std::atomic<uint64_t> passed_ = 0;
};

/// A pool of packet buffers with DPDK's own ring behind it. The EAL must run.
class TestPool {
 public:
  static rte_mempool* Make(const char* name, unsigned buffers) {
    const auto known = std::span(rte_mempool_ops_table.ops, rte_mempool_ops_table.num_ops);
    const auto found = std::ranges::find_if(
        known, [](const auto& ops) { return std::strcmp(ops.name, "ring_mp_mc") == 0; });
    if (found == known.end()) throw std::runtime_error("no ring_mp_mc");
    Ring() = *found;
    rte_mempool_ops ops = Ring();
    rte_strscpy(ops.name, kOps, sizeof(ops.name));
    ops.enqueue = [](rte_mempool* pool, void* const* objects, unsigned count) {
      Order().Release();
      return Ring().enqueue(pool, objects, count);
    };
    ops.dequeue = [](rte_mempool* pool, void** objects, unsigned count) {
      const int result = Ring().dequeue(pool, objects, count);
      Order().Acquire();
      return result;
    };
    if (rte_mempool_register_ops(&ops) < 0) throw std::runtime_error("no pool operations");
    return rte_pktmbuf_pool_create_by_ops(name, buffers, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                          SOCKET_ID_ANY, kOps);
  }

 private:
  static constexpr const char* kOps = "test_ring";
  static rte_mempool_ops& Ring() {
    static rte_mempool_ops ring;
    return ring;
  }
  static TestOrder& Order() {
    static TestOrder order;
    return order;
  }
};

/// Of one port, whose rings the test fills and empties.
struct TestPortOrder {
  TestOrder received;  // the test releases, before it puts a frame into the ring
  TestOrder sent;      // the test acquires, after it has taken a frame

  bool Attach(uint16_t port) {
    const auto rx = [](uint16_t, uint16_t, rte_mbuf**, uint16_t count, uint16_t, void* self) {
      static_cast<TestPortOrder*>(self)->received.Acquire();
      return count;
    };
    const auto tx = [](uint16_t, uint16_t, rte_mbuf**, uint16_t count, void* self) {
      static_cast<TestPortOrder*>(self)->sent.Release();
      return count;
    };
    return rte_eth_add_rx_callback(port, 0, rx, this) != nullptr &&
           rte_eth_add_tx_callback(port, 0, tx, this) != nullptr;
  }
};

}  // namespace portcullis
