// Packets whose next hop the kernel is still resolving. Bounded in number and time; a decrypted
// packet never goes to the kernel to get its neighbour resolved.
#pragma once

#include <cstdint>
#include <memory>

#include "base/ip.hpp"
#include "dataplane/packet/packet.hpp"

namespace portcullis {

class Worker;

class Waiting {
 public:
  Waiting(unsigned most, uint64_t timeout_cycles)
      : entries_(std::make_unique<Entry[]>(most)), most_(most), timeout_(timeout_cycles) {}

  /// False when the queue is full; the packet is still the caller's.
  bool Add(const Packet& packet, const NextHop& hop, const Address& destination,
           Worker& worker) noexcept;
  /// Sends those whose neighbour is known by now, ends those that waited too long, and those of SAs
  /// that are being removed: after this nobody here refers to them. Cheap when empty.
  void Review(Worker& worker) noexcept;
  [[nodiscard]] bool empty() const { return count_ == 0; }

 private:
  struct Entry {
    Packet packet;
    Address destination;
    uint64_t give_up = 0;  // TSC
    uint64_t ask_again = 0;
  };
  static void Ask(const NextHop& hop, const Address& destination, Worker& worker) noexcept;

  std::unique_ptr<Entry[]> entries_;
  unsigned most_;
  unsigned count_ = 0;
  uint64_t timeout_;
};

}  // namespace portcullis
