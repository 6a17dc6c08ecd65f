// ESP's framing (RFC 4303 2): what stands before and after the payload, and how long it all gets.
//
//   | SPI | sequence | IV | inner packet | [TFC padding] | padding | pad length | next header | ICV
//   |
//                         `------------------ encrypted ------------------------------------'
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/packet/bytes.hpp"

namespace portcullis {

struct EspHeader {
  be32 spi;
  be32 sequence;  // the lower half; the upper one is never on the wire
} __attribute__((packed));
static_assert(sizeof(EspHeader) == 8);

struct EspTrailer {
  uint8_t pad_length;
  uint8_t next_header;
} __attribute__((packed));
static_assert(sizeof(EspTrailer) == 2);

/// Next header values (IANA protocol numbers) that tunnel mode knows.
inline constexpr uint8_t kNextHeaderIpv4 = 4;
inline constexpr uint8_t kNextHeaderIpv6 = 41;
inline constexpr uint8_t kNextHeaderDummy = 59;  // RFC 4303 2.6

/// Bytes before the encrypted part: ESP header and IV.
constexpr uint32_t EspPayloadOffset(Algorithm a) {
  return static_cast<uint32_t>(sizeof(EspHeader)) + Info(a).iv_bytes;
}

/// Of AlgorithmInfo::pad_to, a power of two.
constexpr uint8_t EspPadMask(Algorithm a) {
  return static_cast<uint8_t>(Info(a).pad_to - 1);
}

/// Padding bytes, 0..15, so that inner packet, padding and trailer fill whole blocks (2.4).
constexpr uint32_t EspPadLength(uint8_t pad_mask, uint32_t inner_length) {
  const uint32_t used = inner_length + static_cast<uint32_t>(sizeof(EspTrailer));
  return -used & pad_mask;
}
constexpr uint32_t EspPadLength(Algorithm a, uint32_t inner_length) {
  return EspPadLength(EspPadMask(a), inner_length);
}

/// From the SPI to the end of the ICV.
constexpr uint32_t EspLength(Algorithm a, uint32_t inner_length) {
  return EspPayloadOffset(a) + inner_length + EspPadLength(a, inner_length) +
         static_cast<uint32_t>(sizeof(EspTrailer)) + Info(a).icv_bytes;
}

/// What ESP adds to an inner packet of this length (outer IP and UDP headers not counted).
constexpr uint32_t EspOverhead(Algorithm a, uint32_t inner_length) {
  return EspLength(a, inner_length) - inner_length;
}

/// The longest inner packet whose ESP is at most `room` bytes; 0 when none fits.
constexpr uint32_t EspMaxInner(Algorithm a, uint32_t room) {
  const uint32_t fixed = EspPayloadOffset(a) + Info(a).icv_bytes;
  if (room < fixed) return 0;
  const uint32_t blocks = (room - fixed) & ~uint32_t{EspPadMask(a)};
  return blocks < sizeof(EspTrailer) ? 0 : blocks - static_cast<uint32_t>(sizeof(EspTrailer));
}

/// The shortest ESP that can be genuine: nothing but a trailer, padded.
constexpr uint32_t EspMinLength(Algorithm a) {
  return EspLength(a, 0);
}

/// Writes padding and trailer right behind the inner packet: EspPadLength() + 2 bytes. The padding
/// counts 1, 2, 3 … (2.4).
inline void WriteEspTrailer(uint8_t* end_of_inner, uint32_t pad_length,
                            uint8_t next_header) noexcept {
  for (uint32_t i = 0; i < pad_length; ++i) end_of_inner[i] = static_cast<uint8_t>(i + 1);
  end_of_inner[pad_length] = static_cast<uint8_t>(pad_length);
  end_of_inner[pad_length + 1] = next_header;
}

struct EspPayload {
  uint32_t length;  // inner packet, with TFC padding if there is any: its own header tells
  uint8_t pad_length;
  uint8_t next_header;
};

/// Reads the trailer of a decrypted payload (everything between IV and ICV). False when the pad
/// length contradicts the payload's length.
inline bool ReadEspTrailer(std::span<const uint8_t> decrypted, EspPayload& payload) noexcept {
  const size_t size = decrypted.size();
  if (size < sizeof(EspTrailer)) return false;
  const uint8_t pad = decrypted[size - 2];
  if (pad > size - sizeof(EspTrailer)) return false;
  payload = {static_cast<uint32_t>(size - sizeof(EspTrailer) - pad), pad, decrypted[size - 1]};
  return true;
}

/// Whether the padding counts 1, 2, 3 … as 2.4 has the receiver inspect. It ends at `end`, where
/// the pad length stands; header and IV are in front of it, so that 16 bytes before `end` can be
/// read. Genuine packets of sloppy senders fail this.
inline bool PaddingIsStandard(const uint8_t* end, uint8_t length) noexcept {
  if (length < sizeof(uint64_t)) {  // all that an AEAD needs, in one comparison
    uint64_t last = 0;
    std::memcpy(&last, end - sizeof(last), sizeof(last));
    constexpr uint64_t kCount = 0x0007060504030201;
    // The first byte of padding to the bottom; two shifts, since one by 64 is none.
    const uint64_t padding = last >> 1U >> (63U - 8U * length);
    return padding == (kCount & ((uint64_t{1} << (8U * length)) - 1));
  }
  uint8_t wrong = 0;
  for (uint32_t i = 0; i < length; ++i) {
    wrong = static_cast<uint8_t>(wrong | (end[i - int64_t{length}] ^ static_cast<uint8_t>(i + 1)));
  }
  return wrong == 0;
}

}  // namespace portcullis
