// What packets use up of an SA's lifetime, counted for a run of packets of one SA at once: the
// record is another cache line, and each of its numbers would wait for the packet before. Exact all
// the same: near a hard limit every packet is counted before the next is asked about.
#pragma once

#include "dataplane/esp/sa_record.hpp"
#include "dataplane/state/sa.hpp"

namespace portcullis {

class Lifetime {
 public:
  Lifetime() = default;
  Lifetime(const Lifetime&) = delete;
  Lifetime& operator=(const Lifetime&) = delete;
  /// All is counted when this goes, which is before any of the packets is sent.
  ~Lifetime() { Write(); }

  /// Another packet of `sa`. False: there is nothing left for it; the SA is expired from now on.
  [[nodiscard]] bool Admits(Sa& sa) noexcept {
    if (&sa != sa_) Begin(sa);
    if (!near_limit_) return true;
    Write();
    if (!sa.Exhausted()) return true;
    sa.expired.store(true, std::memory_order_relaxed);
    return false;
  }
  /// The packet that was asked about last counts. `bytes`: of the inner packet.
  void Count(uint32_t bytes) noexcept {
    ++packets_;
    bytes_ += bytes;
  }

 private:
  void Begin(Sa& sa) noexcept {
    Write();
    sa_ = &sa;
    // More than a burst can use up.
    constexpr uint64_t kPackets = 1024;
    constexpr uint64_t kBytes = kPackets * UINT16_MAX;
    near_limit_ = (sa.hard_packets != 0 && sa.record->packets + kPackets >= sa.hard_packets) ||
                  (sa.hard_bytes != 0 && sa.record->bytes + kBytes >= sa.hard_bytes);
  }
  void Write() noexcept {
    if (packets_ == 0) return;
    CountPackets(*sa_->record, packets_, bytes_);
    packets_ = 0;
    bytes_ = 0;
  }
  Sa* sa_ = nullptr;
  uint64_t packets_ = 0;
  uint64_t bytes_ = 0;
  bool near_limit_ = false;
};

}  // namespace portcullis
