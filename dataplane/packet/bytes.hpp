// Byte order and ESP's numbers as types: a conversion is visible, a mix-up does not compile.
#pragma once

#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>

namespace portcullis {

/// An unsigned integer in network byte order, as it stands in a packet; alignment 1.
template <class T>
class BigEndian {
 public:
  BigEndian() = default;
  constexpr explicit BigEndian(T host) : wire_(Swap(host)) {}
  [[nodiscard]] constexpr T host() const { return Swap(wire_); }
  bool operator==(const BigEndian&) const = default;

 private:
  static constexpr T Swap(T v) {
    static_assert(std::endian::native == std::endian::little);
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(v);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(v);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(v);
  }
  T wire_;
} __attribute__((packed));

using be16 = BigEndian<uint16_t>;
using be32 = BigEndian<uint32_t>;
using be64 = BigEndian<uint64_t>;

/// Security parameters index (RFC 4301 4.1), host order. 0 is never on the wire, 1..255 reserved.
enum class Spi : uint32_t {};
/// Full 64-bit sequence number of an SA; without ESN the upper half is 0 (RFC 4303 2.2.1).
enum class Sequence : uint64_t {};
/// The number that no packet has (RFC 4303 3.3.3): none.
inline constexpr Sequence kNoSequence{0};

/// Of a security association, seen from this gate: inbound opens, outbound seals.
enum class Direction : uint8_t { inbound = 0, outbound = 1 };

constexpr uint32_t Value(Spi spi) {
  return static_cast<uint32_t>(spi);
}
constexpr uint64_t Value(Sequence sequence) {
  return static_cast<uint64_t>(sequence);
}

}  // namespace portcullis
