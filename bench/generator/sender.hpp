// Makes packets and sends them when they are due. One sender is the only writer of the security
// associations that it owns: their sequence numbers and stream counters need no lock.
#pragma once

#include <array>
#include <memory>
#include <random>
#include <vector>

#include "bench/generator/device.hpp"
#include "bench/generator/lab.hpp"
#include "bench/generator/tag.hpp"

namespace portcullis::generator {

struct Sent {
  uint64_t scheduled = 0;                // what the rate asked for
  uint64_t skipped = 0;                  // of that: not made, since the sender was too slow
  std::array<uint64_t, kKinds> kinds{};  // handed to the port, by Kind
  uint64_t inner_bytes = 0;
  uint64_t frame_bytes = 0;  // without FCS
  uint64_t first_tsc = 0, last_tsc = 0;
  uint64_t highest_sequence = 0;
  void Add(const Sent& other);
  [[nodiscard]] uint64_t Packets() const;
};

struct SenderConfig {
  const Options& options;
  const Devices& devices;
  const Keys& keys;
  MacBytes gate{};
  uint32_t run = 0;
  uint64_t first_sequence = 1;
  unsigned index = 0;  // of devices.senders; owns every SA with this index modulo their number
};

class Sender {
 public:
  explicit Sender(const SenderConfig& config);
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  void Start(uint64_t tsc) { start_ = tsc; }
  /// Sends what is due; false when all was sent or the time is over.
  bool Poll() noexcept;
  /// Sends the receiver's ARP answers; only the first sender has any.
  void SendReplies() noexcept;
  [[nodiscard]] const Sent& sent() const { return sent_; }

 private:
  static constexpr unsigned kBurst = 32;
  struct Pending {
    rte_mbuf* frame = nullptr;
    uint16_t size = 0;
    Kind kind = Kind::good;
  };
  struct SavedFrame {
    uint16_t size = 0;  // inner; 0: nothing saved yet
    std::vector<uint8_t> bytes;
  };
  /// How many packets the rate asks for by now and were not scheduled.
  uint64_t Due(uint64_t now) const noexcept;
  void Make(unsigned count, uint64_t now) noexcept;
  Kind Draw() noexcept;
  // Each writes one frame; Esp returns the operation that will seal it.
  void WriteEthernet(uint8_t* frame) const noexcept;
  void WriteInner(uint8_t* at, uint32_t sa, uint16_t size, Kind kind, uint64_t now) noexcept;
  CryptoOp WriteEsp(uint8_t* frame, uint32_t sa, uint16_t size, Kind kind, uint64_t now) noexcept;
  [[nodiscard]] uint32_t FrameBytes(uint16_t size) const noexcept;
  void Flush() noexcept;
  uint32_t Random() noexcept;

  const SenderConfig config_;
  const Options& options_;
  const uint16_t port_;
  const MacBytes own_mac_;
  const uint32_t sas_;        // that it owns
  const uint64_t packets_;    // its share
  const double per_cycle_;    // packets; 0: no pace
  const uint64_t end_after_;  // cycles
  const uint64_t most_late_;  // packets; what is later is skipped
  std::unique_ptr<Engine> engine_;
  std::vector<uint64_t> sequences_;  // by SA number / senders
  std::vector<uint64_t> counters_;
  SavedFrame saved_;
  size_t next_size_ = 0;
  uint64_t random_;
  uint64_t start_ = 0;
  std::array<Pending, kBurst> pending_{};
  unsigned pending_first_ = 0, pending_end_ = 0;
  Sent sent_;
};

}  // namespace portcullis::generator
