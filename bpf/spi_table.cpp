#include "bpf/spi_table.hpp"

#include <atomic>
#include <bit>
#include <cstring>

#include "bpf/shared.h"

namespace portcullis {
namespace {

static_assert(sizeof(portcullis_spi) == sizeof(uint64_t));

uint64_t Entry(Spi spi, uint32_t oldest) {
  const be32 wire(Value(spi));
  portcullis_spi entry{.spi = 0, .oldest = oldest};
  std::memcpy(&entry.spi, &wire, sizeof(entry.spi));
  return std::bit_cast<uint64_t>(entry);
}

bool IsOf(uint64_t entry, Spi spi) {
  return std::bit_cast<portcullis_spi>(entry).spi ==
         std::bit_cast<portcullis_spi>(Entry(spi, 0)).spi;
}

}  // namespace

void SpiTable::Add(Spi spi, uint32_t oldest) const noexcept {
  std::atomic_ref(At(spi)).store(Entry(spi, oldest), std::memory_order_release);
}

void SpiTable::Change(Spi spi, uint64_t to) const noexcept {
  const std::atomic_ref entry(At(spi));
  uint64_t now = entry.load(std::memory_order_relaxed);
  while (IsOf(now, spi) && !entry.compare_exchange_weak(now, to, std::memory_order_relaxed)) {
  }
}

void SpiTable::Advance(Spi spi, uint32_t oldest) const noexcept {
  Change(spi, Entry(spi, oldest));
}

void SpiTable::Remove(Spi spi) const noexcept {
  Change(spi, 0);
}

void SpiTable::RemoveAll() const noexcept {
  for (uint64_t& entry : entries_) std::atomic_ref(entry).store(0, std::memory_order_relaxed);
}

}  // namespace portcullis
