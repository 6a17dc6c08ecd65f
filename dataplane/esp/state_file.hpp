// The crash-proof file: every SaRecord of a dataplane, their rings, and the fingerprints of the
// keys used last. It lies in memory (hugetlbfs or /dev/shm), so it survives kill -9 and dies with
// the machine, as the keys do. It holds no key.
//
//   header | records[capacity] | history: ring of fingerprints | arena of 256-byte blocks
//
// Creation writes history, then the record, then its live flag; release clears the live flag first.
// Whatever instruction a kill hits, a key that sealed or opened a packet is known afterwards, and
// its record is either whole or dead. Main thread only, except that workers use their SaRecord.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "dataplane/esp/sa_record.hpp"
#include "dataplane/packet/bytes.hpp"

namespace portcullis {

/// From KeyFingerprint()'s 32 hex digits.
Result<Fingerprint> ParseFingerprint(std::string_view hex);

/// This boot's id, from /proc/sys/kernel/random/boot_id.
Result<std::string> ReadBootId();

class StateFile {
 public:
  /// Creates the file (0600) or takes over what an earlier process left. `capacity` in records,
  /// 1..2^20. With another `boot_id` than the file's all records are dead; the history stays.
  /// kUnavailable: another process has it open (the message names it). kInvalid: not our file,
  /// damaged, or made for another capacity; the message says what to do.
  static Result<StateFile> Open(const std::string& path, uint32_t capacity,
                                std::string_view boot_id);

  StateFile(StateFile&&) noexcept;
  StateFile& operator=(StateFile&&) noexcept;
  ~StateFile();

  /// For a key that was never used. kConflict: its fingerprint is known here. kExhausted: no
  /// record or no room for the ring. `window` 0..kMaxReplayWindow, ignored outbound.
  Result<SaRecord*> Create(const Fingerprint& fingerprint, Spi spi, Direction direction,
                           uint32_t window, uint64_t now_boot_ns);
  /// Goes on where the record stopped. kNotFound: no live record of this boot under this
  /// fingerprint. kConflict: it belongs to another SPI, direction or window, or is in use already.
  Result<SaRecord*> Resume(const Fingerprint& fingerprint, Spi spi, Direction direction,
                           uint32_t window);
  /// Takes back what Create (`created`) or Resume has just given, before any worker saw it: the key
  /// is as new, or waits to be resumed, as if it had not been. Several in reverse order.
  void TakeBack(SaRecord* record, bool created);
  /// Frees the record; the fingerprint stays known. No worker may use it any more.
  void Release(SaRecord* record);
  /// Releases the live records that an earlier process left and nobody resumed; says how many.
  uint32_t ReleaseUnclaimed();

  /// Whether a key with this fingerprint was used here, as far as the history goes back.
  [[nodiscard]] bool IsKnown(const Fingerprint& fingerprint) const;
  [[nodiscard]] uint32_t live() const;       // records in use, claimed or not
  [[nodiscard]] uint32_t unclaimed() const;  // left by an earlier process, not resumed yet
  [[nodiscard]] uint32_t capacity() const;
  [[nodiscard]] bool locked() const;  // the mapping is locked in memory
  [[nodiscard]] const std::string& path() const;

 private:
  struct State;
  explicit StateFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace portcullis
