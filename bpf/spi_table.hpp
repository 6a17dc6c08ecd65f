// The SPIs that XDP lets through, and what it knows of each one's window: memory that it shares
// with this process. Whoever writes changes an entry in one step, and only an entry that is still
// its own, so that it does not matter who comes first: the main thread, which adds and removes, or
// the worker that moves a window.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/packet/bytes.hpp"

namespace portcullis {

class SpiTable {
 public:
  /// A power of two of them, of struct portcullis_spi. They must outlive this object.
  explicit SpiTable(std::span<uint64_t> entries) : entries_(entries) {}

  /// ESP with this SPI goes on to the dataplane, but for sequence numbers that are left of `oldest`
  /// (lower half; 0: none is). Takes the place of whichever had its slot.
  void Add(Spi spi, uint32_t oldest) const noexcept;
  /// Nothing is changed when the slot is another's by now.
  void Advance(Spi spi, uint32_t oldest) const noexcept;
  void Remove(Spi spi) const noexcept;
  void RemoveAll() const noexcept;

 private:
  [[nodiscard]] uint64_t& At(Spi spi) const noexcept {
    return entries_[Value(spi) & (entries_.size() - 1)];
  }
  void Change(Spi spi, uint64_t to) const noexcept;

  std::span<uint64_t> entries_;
};

}  // namespace portcullis
