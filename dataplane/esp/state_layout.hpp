// Where things stand in the state file. Every size in it is fixed by the capacity.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/esp/sa_record.hpp"

namespace portcullis {

inline constexpr uint64_t kStateMagic = 0x31746174536c7450;  // "PtlStat1"
inline constexpr uint32_t kStateVersion = 1;
inline constexpr uint32_t kBlockBytes = 256;
inline constexpr uint32_t kMaxCapacity = uint32_t{1} << 20;

struct StateHeader {
  uint64_t magic;  // stored last when a file is made: without it nothing in the file counts
  uint32_t version;
  uint32_t record_bytes;
  uint32_t block_bytes;
  uint32_t capacity;  // records
  uint32_t blocks;    // in the arena
  uint32_t history;   // slots
  uint32_t holder;    // process that has the file open
  uint32_t reserved;
  uint64_t history_next;  // next slot, counted without wrapping
  std::array<char, 40> boot_id;
};

/// The file's sections for a capacity; offsets and sizes in bytes.
struct StateLayout {
  static constexpr size_t kSectionAlign = 4096;

  uint32_t capacity;
  uint32_t history;  // slots: at least 65,536 keys back, and four generations of a full table
  uint32_t blocks;   // enough for the largest window on every second record (the inbound ones)
  size_t records_offset = kSectionAlign;
  size_t history_offset;
  size_t arena_offset;
  size_t size;

  explicit constexpr StateLayout(uint32_t records, size_t page = kSectionAlign)
      : capacity(records),
        history(std::max(65536U, records * 4)),
        blocks(std::max(8U, records * 4)),
        history_offset(Align(records_offset + size_t{records} * sizeof(SaRecord), kSectionAlign)),
        arena_offset(Align(history_offset + size_t{history} * sizeof(Fingerprint), kSectionAlign)),
        size(Align(arena_offset + size_t{blocks} * kBlockBytes, page)) {}

  static constexpr size_t Align(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }
};
// SaRecord::words_offset counts 64-byte units in 32 bits.
static_assert(StateLayout(kMaxCapacity).size / 64 < UINT32_MAX);

/// Blocks that a window's ring takes.
constexpr uint32_t RingBlocks(uint32_t window) {
  return (RingWords(window) * 8 + kBlockBytes - 1) / kBlockBytes;
}

/// Which blocks of the arena are taken: kept in memory only, rebuilt from the records.
class BlockMap {
 public:
  explicit BlockMap(uint32_t blocks) : used_(blocks) {}

  /// A run of free blocks, aligned to its own length (a power of two), so that runs of one length
  /// leave no gaps that others cannot use. Next fit. Nothing when there is none.
  std::optional<uint32_t> Take(uint32_t count) {
    const auto slots = static_cast<uint32_t>(used_.size()) / count;
    if (slots == 0) return std::nullopt;
    const uint32_t start = cursor_ / count % slots;
    for (uint32_t i = 0; i < slots; ++i) {
      const uint32_t first = (start + i) % slots * count;
      if (!Mark(first, count)) continue;
      cursor_ = first + count;
      return first;
    }
    return std::nullopt;
  }
  /// Takes exactly this run. False: outside the arena, or some block of it is taken.
  bool Mark(uint32_t first, uint32_t count) {
    if (count > used_.size() || first > used_.size() - count) return false;
    for (uint32_t i = 0; i < count; ++i) {
      if (used_[first + i]) return false;
    }
    for (uint32_t i = 0; i < count; ++i) used_[first + i] = true;
    return true;
  }
  void Free(uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) used_[first + i] = false;
  }

 private:
  std::vector<bool> used_;
  uint32_t cursor_ = 0;
};

}  // namespace portcullis
