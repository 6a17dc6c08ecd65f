// Addresses and prefixes of both families. An IPv4 address is kept as its IPv4-mapped IPv6 form
// (RFC 4291 2.5.5.2), so that one comparison, one table and one prefix length serve both.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace portcullis {

class Address {
 public:
  constexpr Address() = default;  // ::

  /// From 4 network-order bytes.
  static Address V4(const void* bytes) {
    uint32_t v4 = 0;
    std::memcpy(&v4, bytes, sizeof(v4));
    return Address(0, kMapped | uint64_t{v4} << 32U);
  }
  /// From 16 network-order bytes.
  static Address V6(const void* bytes) {
    Address a;
    std::memcpy(a.bytes_.data(), bytes, 16);
    return a;
  }
  /// "192.0.2.1" or "2001:db8::1".
  static Result<Address> Parse(std::string_view text);

  [[nodiscard]] bool IsV4() const {
    return Half(0) == 0 && static_cast<uint32_t>(Half(1)) == kMapped;
  }
  /// The first (0) or second (1) eight bytes as one word, whose value means nothing but equality.
  [[nodiscard]] uint64_t Half(size_t which) const {
    uint64_t half = 0;
    std::memcpy(&half, bytes_.data() + which * sizeof(half), sizeof(half));
    return half;
  }
  /// All 16 bytes, network order.
  [[nodiscard]] const std::array<uint8_t, 16>& bytes() const { return bytes_; }
  /// The 4 or 16 bytes as they stand in a packet.
  [[nodiscard]] std::span<const uint8_t> wire() const {
    return IsV4() ? std::span(bytes_).subspan(12) : std::span(bytes_);
  }
  [[nodiscard]] std::string Text() const;

  std::strong_ordering operator<=>(const Address&) const = default;
  // Every packet's addresses are compared several times: two words, not sixteen bytes.
  bool operator==(const Address& other) const {
    return ((Half(0) ^ other.Half(0)) | (Half(1) ^ other.Half(1))) == 0;
  }

 private:
  static constexpr uint32_t kMapped = 0xffff0000;  // 00 00 ff ff in memory
  static_assert(std::endian::native == std::endian::little);
  Address(uint64_t first, uint64_t second) {
    std::memcpy(bytes_.data(), &first, sizeof(first));
    std::memcpy(bytes_.data() + sizeof(first), &second, sizeof(second));
  }
  alignas(8) std::array<uint8_t, 16> bytes_{};
};

/// A prefix; `length` counts in the 128-bit space, so 10.0.0.0/8 has length 104.
class Prefix {
 public:
  constexpr Prefix() = default;  // ::/0
  /// `length` in 0..128, in the mapped space; host bits are cleared.
  Prefix(const Address& address, unsigned length);
  /// "10.0.0.0/8", "2001:db8::/32", or an address alone. Host bits must be zero.
  static Result<Prefix> Parse(std::string_view text);

  [[nodiscard]] const Address& address() const { return address_; }
  [[nodiscard]] unsigned length() const { return length_; }
  [[nodiscard]] bool IsV4() const { return length_ >= 96 && address_.IsV4(); }
  /// The length as people write it: 8 for 10.0.0.0/8.
  [[nodiscard]] unsigned WrittenLength() const { return IsV4() ? length_ - 96 : length_; }
  [[nodiscard]] bool Contains(const Address& a) const {
    const unsigned whole = length_ / 8;
    if (std::memcmp(a.bytes().data(), address_.bytes().data(), whole) != 0) return false;
    const unsigned rest = length_ % 8;
    return rest == 0 || ((a.bytes()[whole] ^ address_.bytes()[whole]) >> (8 - rest)) == 0;
  }
  [[nodiscard]] bool Contains(const Prefix& p) const {
    return p.length_ >= length_ && Contains(p.address_);
  }
  [[nodiscard]] bool Overlaps(const Prefix& p) const { return Contains(p) || p.Contains(*this); }
  [[nodiscard]] std::string Text() const;

  auto operator<=>(const Prefix&) const = default;

 private:
  Address address_;
  unsigned length_ = 0;
};

}  // namespace portcullis
