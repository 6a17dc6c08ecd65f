// What a gate must never forget about a security association, not even when it is killed at any
// instruction: the anti-replay window, the last sequence number sent, and what was spent of the
// lifetime. The record lies in a file that outlives the process (state_file.hpp), so the order of
// stores is part of the design: each is at worst too strict while the next is missing.
//
// One writer per record (its worker); others may read. All stores go through a policy, `Store`, so
// that a test can cut the update after each one of them.
//
// The window is RFC 6479's ring of words: instead of shifting a long bitmap it clears words as the
// right edge enters them. A spare word lets the ring hold a window that begins and ends inside
// words; the window itself is exact, also when it is no multiple of 64.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "dataplane/packet/bytes.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis {

/// The first 16 bytes of a hash over algorithm and key (base/secret.hpp, KeyFingerprint).
using Fingerprint = std::array<uint8_t, 16>;

/// One cache line; the ring of words lies elsewhere in the same mapping.
struct alignas(64) SaRecord {
  uint64_t highest;       // inbound: highest accepted; outbound: last sent; 0: none
  uint64_t packets;       // accepted or sent
  uint64_t bytes;         // of inner packets
  uint64_t born_boot_ns;  // CLOCK_BOOTTIME when the key was installed
  Fingerprint fingerprint;
  uint32_t spi;           // host order
  uint32_t words_offset;  // from this record to its ring, in 64-byte units; 0: no ring
  uint16_t window;        // packets; 0: no anti-replay, or outbound
  uint16_t word_mask;     // words in the ring - 1; a power of two - 1
  uint8_t direction;      // Direction
  uint8_t live;           // 1: in use
  uint16_t reserved;

  [[nodiscard]] uint64_t* words() {
    return reinterpret_cast<uint64_t*>(reinterpret_cast<std::byte*>(this) +
                                       size_t{words_offset} * 64);
  }
  [[nodiscard]] const uint64_t* words() const {
    return reinterpret_cast<const uint64_t*>(reinterpret_cast<const std::byte*>(this) +
                                             size_t{words_offset} * 64);
  }
};
static_assert(sizeof(SaRecord) == 64);

inline constexpr uint32_t kMaxReplayWindow = 8192;

/// Words in the ring for a window: the spare one, then up to a power of two. 0 for no window.
constexpr uint32_t RingWords(uint32_t window) {
  return window == 0 ? 0 : std::bit_ceil((window + 63) / 64 + 1);
}

/// The store that production uses. Another thread may read the place; and a process that is killed
/// leaves behind exactly the stores before that instruction, provided that the compiler keeps
/// their order: the fence does. (The CPU's store buffer drains in order on x86, kill or not.)
struct RelaxedStore {
  template <class T>
  void operator()(T& place, T value) const noexcept {
    std::atomic_ref<T>(place).store(value, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
};

/// Reads a field of a record that its worker may be writing.
template <class T>
T ReadShared(const T& place) noexcept {
  return std::atomic_ref<T>(const_cast<T&>(place)).load(std::memory_order_relaxed);
}

/// The window's left edge: all numbers before it are stale. 0: nothing is.
inline uint64_t OldestOf(const SaRecord& record) noexcept {
  const uint64_t highest = ReadShared(record.highest);
  return record.window == 0 || highest < record.window ? 0 : highest - record.window + 1;
}

/// The window's answer, changing nothing: accepted, replayed or stale. For use before crypto.
inline Verdict CheckReplay(const SaRecord& record, Sequence sequence) noexcept {
  const uint64_t number = Value(sequence);
  const uint64_t highest = ReadShared(record.highest);
  if (number == 0) return Verdict::stale;  // RFC 4303 3.3.3: the first packet has number 1
  if (number > highest || record.window == 0) return Verdict::accepted;
  if (highest - number >= record.window) return Verdict::stale;
  const uint64_t word = ReadShared(record.words()[(number / 64) & record.word_mask]);
  return (word >> (number % 64)) & 1U ? Verdict::replayed : Verdict::accepted;
}

/// Tests again (there may be duplicates in one burst), then marks the number as seen. Only after
/// the ICV was found valid, and before the packet is sent.
///
/// Advance, clear, mark. Cut after the advance, the words that the window has just entered still
/// hold marks of numbers long ago: some packets may be taken for replays, none is taken twice.
/// Clearing first would erase marks that the old window still needs.
template <class Store = RelaxedStore>
inline Verdict CommitReplay(SaRecord& record, Sequence sequence, Store&& store = {}) noexcept {
  const uint64_t number = Value(sequence);
  const uint64_t highest = record.highest;
  if (number <= highest) {
    const Verdict verdict = CheckReplay(record, sequence);
    if (verdict != Verdict::accepted || record.window == 0) return verdict;
  } else {
    store(record.highest, number);
    if (record.window == 0) return Verdict::accepted;
    if (number / 64 != highest / 64) {
      uint64_t* words = record.words();
      const uint64_t first = highest / 64 + 1;
      const uint64_t entered = number / 64 + 1 - first;
      const uint64_t clear = std::min(entered, uint64_t{record.word_mask} + 1);
      for (uint64_t i = 0; i < clear; ++i) {
        store(words[(first + i) & record.word_mask], uint64_t{0});
      }
    }
  }
  uint64_t& word = record.words()[(number / 64) & record.word_mask];
  store(word, word | uint64_t{1} << (number % 64));
  return Verdict::accepted;
}

/// The next number to send, stored before it is used. kNoSequence when the space is used up: the
/// sender must not let it cycle (RFC 4303 3.3.3).
template <class Store = RelaxedStore>
inline Sequence NextSequence(SaRecord& record, bool esn, Store&& store = {}) noexcept {
  const uint64_t last = esn ? UINT64_MAX : UINT32_MAX;
  if (record.highest >= last) return kNoSequence;
  const uint64_t number = record.highest + 1;
  store(record.highest, number);
  return Sequence{number};
}

/// Counts towards the lifetime, before the packets are sent. `bytes`: of the inner packets.
template <class Store = RelaxedStore>
inline void CountPackets(SaRecord& record, uint64_t packets, uint64_t bytes,
                         Store&& store = {}) noexcept {
  store(record.packets, record.packets + packets);
  store(record.bytes, record.bytes + bytes);
}

}  // namespace portcullis
