// Counts what comes back: opens it if it is ESP, reads the tag, keeps each stream's book, and takes
// the latency. What may never arrive (forgeries, replays, packets of nobody's SPI) is counted
// apart.
#pragma once

#include <memory>
#include <vector>

#include "bench/generator/device.hpp"
#include "bench/generator/histogram.hpp"
#include "bench/generator/lab.hpp"
#include "bench/generator/tag.hpp"

namespace portcullis::generator {

struct Received {
  uint64_t packets = 0;     // good ones, each counted once
  uint64_t reordered = 0;   // of those
  uint64_t duplicates = 0;  // a second time: a replay that passed, or a copy made on the way
  uint64_t late = 0;        // by more than Stream::kMemory: lost, as far as anybody can tell
  uint64_t leaked = 0;      // forged or of an unknown SPI, and yet here
  uint64_t damaged = 0;     // ESP that does not open, or headers that contradict the frame
  uint64_t foreign = 0;     // nobody of ours sent it in this run
  uint64_t missed = 0;      // the receiving port dropped for lack of time: our own loss
  uint64_t inner_bytes = 0;
  uint64_t first_tsc = 0, last_tsc = 0;
  Histogram latency;  // ns
};

class Receiver {
 public:
  Receiver(const Options& options, const Devices& devices, const Keys& keys, uint32_t run);
  void Poll() noexcept;
  /// With the port's own statistics.
  Received Result() const;

 private:
  static constexpr unsigned kBurst = 64;
  struct Inner {
    rte_mbuf* frame = nullptr;
    uint8_t* packet = nullptr;  // IPv4 header
    uint32_t room = 0;          // bytes from there
  };
  void PollPort(const Device& device, uint32_t own, bool counts) noexcept;
  /// Either an inner packet in the clear, or an operation that opens one.
  bool Classify(rte_mbuf* frame, Inner& inner, CryptoOp& op, uint32_t& sa) noexcept;
  void Account(const Inner& inner, uint64_t now) noexcept;
  uint32_t HighOf(uint32_t sa, uint32_t low) noexcept;

  const Options& options_;
  const Devices& devices_;
  const Keys& keys_;
  const uint32_t run_;
  const double ns_per_cycle_;
  std::unique_ptr<Engine> engine_;
  std::vector<Stream> streams_;
  std::vector<uint64_t> highest_;  // sequence number by SA, for ESN
  Received received_;
};

}  // namespace portcullis::generator
