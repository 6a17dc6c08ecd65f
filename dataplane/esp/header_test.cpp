#include "dataplane/esp/header.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace portcullis {
namespace {

constexpr Algorithm kAll[] = {Algorithm::aes_128_gcm_16, Algorithm::aes_256_gcm_16,
                              Algorithm::chacha20_poly1305, Algorithm::aes_128_cbc_hmac_sha_256_128,
                              Algorithm::aes_256_cbc_hmac_sha_256_128};

TEST(EspHeader, ByteOrder) {
  const uint8_t wire[] = {0, 0, 0x10, 1, 0, 0, 0, 5};
  EspHeader header;
  std::memcpy(&header, wire, sizeof(header));
  EXPECT_EQ(header.spi.host(), 0x1001U);
  EXPECT_EQ(header.sequence.host(), 5U);
}

TEST(EspLength, ByHand) {
  // 8 + 8 + 64 + 2 padding + 2 + 16; 8 + 16 + 64 + 14 + 2 + 16.
  EXPECT_EQ(EspLength(Algorithm::aes_128_gcm_16, 64), 100U);
  EXPECT_EQ(EspOverhead(Algorithm::aes_128_gcm_16, 64), 36U);
  EXPECT_EQ(EspLength(Algorithm::aes_128_cbc_hmac_sha_256_128, 64), 120U);
  EXPECT_EQ(EspPadLength(Algorithm::aes_128_cbc_hmac_sha_256_128, 62), 0U);
  EXPECT_EQ(EspPadLength(Algorithm::aes_128_cbc_hmac_sha_256_128, 63), 15U);
}

TEST(EspLength, AlignedAndInverse) {
  for (const Algorithm a : kAll) {
    for (uint32_t inner = 0; inner < 3000; ++inner) {
      const uint32_t length = EspLength(a, inner);
      ASSERT_EQ((length - EspPayloadOffset(a) - Info(a).icv_bytes) % Info(a).pad_to, 0U);
      ASSERT_LT(EspPadLength(a, inner), Info(a).pad_to);
      ASSERT_GE(EspMaxInner(a, length), inner);
      ASSERT_LE(EspLength(a, EspMaxInner(a, length)), length);
      ASSERT_GT(EspLength(a, EspMaxInner(a, length) + 1), length);
      if (inner > 0 && EspPadLength(a, inner) == 0) {
        ASSERT_LT(EspMaxInner(a, length - 1), inner);
      }
    }
    EXPECT_EQ(EspMaxInner(a, 10), 0U);
    EXPECT_EQ(EspMinLength(a), EspPayloadOffset(a) + Info(a).pad_to + 16);
  }
}

TEST(EspTrailer, WrittenAndRead) {
  for (const Algorithm a : kAll) {
    for (uint32_t inner = 0; inner < 70; ++inner) {
      const uint32_t pad = EspPadLength(a, inner);
      constexpr size_t kBefore = 16;  // header and IV
      std::vector<uint8_t> packet(kBefore + inner + pad + 2, 0xaa);
      uint8_t* const text = packet.data() + kBefore;
      WriteEspTrailer(text + inner, pad, kNextHeaderIpv6);
      EspPayload payload;
      ASSERT_TRUE(ReadEspTrailer({text, inner + pad + 2}, payload));
      EXPECT_EQ(payload.length, inner);
      EXPECT_EQ(payload.pad_length, pad);
      EXPECT_EQ(payload.next_header, kNextHeaderIpv6);
      const auto length = static_cast<uint8_t>(pad);
      EXPECT_TRUE(PaddingIsStandard(text + inner + pad, length));
      for (uint32_t wrong = 0; wrong < pad; ++wrong) {
        text[inner + wrong] ^= 1;
        EXPECT_FALSE(PaddingIsStandard(text + inner + pad, length)) << pad << " " << wrong;
        text[inner + wrong] ^= 1;
      }
    }
  }
}

TEST(EspTrailer, PadLengthThatExceedsThePayload) {
  std::vector<uint8_t> text(20);
  text[18] = 19;
  EspPayload payload;
  EXPECT_FALSE(ReadEspTrailer(text, payload));
  text[18] = 18;
  ASSERT_TRUE(ReadEspTrailer(text, payload));
  EXPECT_EQ(payload.length, 0U);
  EXPECT_FALSE(ReadEspTrailer(std::span(text).first(1), payload));
  EXPECT_FALSE(ReadEspTrailer({}, payload));
}

TEST(EspTrailer, PaddingOfAllLengths) {
  std::vector<uint8_t> packet(16 + 255, 0xaa);
  const auto padding = std::span(packet).subspan(16);
  for (unsigned length = 0; length <= 255; ++length) {
    std::iota(padding.begin(), padding.begin() + length, uint8_t{1});
    const uint8_t* end = padding.data() + length;
    EXPECT_TRUE(PaddingIsStandard(end, static_cast<uint8_t>(length))) << length;
    for (unsigned wrong = 0; wrong < length; ++wrong) {
      padding[wrong] ^= 0x80;
      EXPECT_FALSE(PaddingIsStandard(end, static_cast<uint8_t>(length))) << length << " " << wrong;
      padding[wrong] ^= 0x80;
    }
  }
}

}  // namespace
}  // namespace portcullis
