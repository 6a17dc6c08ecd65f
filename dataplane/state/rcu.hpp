// Read-copy-update between the main thread, which swaps immutable things, and the workers, which
// read them. A worker that sleeps is offline and is not waited for. Readers need no barrier: they
// hold a reference only between two quiescent points.
#pragma once

#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>

#include <chrono>
#include <memory>
#include <new>
#include <thread>

namespace portcullis {

class Rcu {
 public:
  explicit Rcu(unsigned workers) {
    const size_t bytes = rte_rcu_qsbr_get_memsize(workers);
    qsbr_.reset(static_cast<rte_rcu_qsbr*>(rte_zmalloc("rcu", bytes, RTE_CACHE_LINE_SIZE)));
    if (!qsbr_) throw std::bad_alloc();
    rte_rcu_qsbr_init(qsbr_.get(), workers);
    for (unsigned w = 0; w < workers; ++w) rte_rcu_qsbr_thread_register(qsbr_.get(), w);
  }

  void Online(unsigned worker) noexcept { rte_rcu_qsbr_thread_online(qsbr_.get(), worker); }
  void Offline(unsigned worker) noexcept { rte_rcu_qsbr_thread_offline(qsbr_.get(), worker); }
  void Quiescent(unsigned worker) noexcept { rte_rcu_qsbr_quiescent(qsbr_.get(), worker); }
  /// Returns when every worker that is online has passed a quiescent point since the call.
  /// Sleeps rather than spins: the worker waited for may need this very core.
  void Synchronize() noexcept {
    constexpr auto kNap = std::chrono::microseconds(10);
    const uint64_t token = rte_rcu_qsbr_start(qsbr_.get());
    while (rte_rcu_qsbr_check(qsbr_.get(), token, false) == 0) std::this_thread::sleep_for(kNap);
  }

 private:
  struct Free {
    void operator()(rte_rcu_qsbr* qsbr) const { rte_free(qsbr); }
  };
  std::unique_ptr<rte_rcu_qsbr, Free> qsbr_;
};

}  // namespace portcullis
