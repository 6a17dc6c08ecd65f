// What each inner packet carries, so that the receiver can tell what became of it: which run, which
// stream (one a security association), which packet of it, and when it left. And the receiver's
// book of one stream: loss, reordering and duplicates in 520 bytes, whatever the number of packets.
#pragma once

#include <array>
#include <cstdint>

namespace portcullis::generator {

enum class Kind : uint32_t {
  good,     // must arrive
  forged,   // its ICV is wrong: must not
  replay,   // the very frame that was sent before: must not arrive a second time
  unknown,  // its SPI belongs to nobody: must not
};
inline constexpr size_t kKinds = 4;

/// Right behind the inner UDP header. In the generator's own byte order: it talks to itself.
struct Tag {
  static constexpr uint32_t kMagic = 0x4e454750;  // "PGEN"
  uint32_t magic = kMagic;
  uint32_t run = 0;     // random: late packets of an earlier run are not this one's
  uint32_t stream = 0;  // number of the security association
  Kind kind = Kind::good;
  uint64_t counter = 0;  // of the good packets of this stream, from 1
  uint64_t tsc = 0;      // when it was made
};
static_assert(sizeof(Tag) == 32);

/// Which packets of one stream have come.
class Stream {
 public:
  enum class Arrival : uint8_t {
    in_order,
    reordered,  // after a later one (RFC 4737 3.3)
    duplicate,
    late,  // by more than the memory reaches: not known from a duplicate, so not counted as arrived
  };

  Arrival Arrive(uint64_t counter) noexcept {
    if (counter > highest_) {
      const uint64_t jump = counter - highest_;
      if (jump >= kMemory) {
        seen_.fill(0);
      } else {
        for (uint64_t c = highest_ + 1; c < counter; ++c) Clear(c);
      }
      highest_ = counter;
      Set(counter);
      return Arrival::in_order;
    }
    if (highest_ - counter >= kMemory) return Arrival::late;
    if ((Word(counter) & Bit(counter)) != 0) return Arrival::duplicate;
    Set(counter);
    return Arrival::reordered;
  }

  static constexpr uint64_t kMemory = 4096;

 private:
  static constexpr uint64_t Bit(uint64_t counter) { return uint64_t{1} << counter % 64; }
  uint64_t& Word(uint64_t counter) { return seen_[counter / 64 % seen_.size()]; }
  void Set(uint64_t counter) { Word(counter) |= Bit(counter); }
  void Clear(uint64_t counter) { Word(counter) &= ~Bit(counter); }

  uint64_t highest_ = 0;
  std::array<uint64_t, kMemory / 64> seen_{};
};

}  // namespace portcullis::generator
