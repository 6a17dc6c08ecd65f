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
      std::vector<uint8_t> text(inner + pad + 2, 0xaa);
      WriteEspTrailer(text.data() + inner, pad, kNextHeaderIpv6);
      const auto payload = ReadEspTrailer(text);
      ASSERT_TRUE(payload);
      EXPECT_EQ(payload->length, inner);
      EXPECT_EQ(payload->pad_length, pad);
      EXPECT_EQ(payload->next_header, kNextHeaderIpv6);
      const std::span padding(text.data() + inner, pad);
      EXPECT_TRUE(PaddingIsStandard(padding));
      if (pad == 0) continue;
      text[inner] ^= 1;
      EXPECT_FALSE(PaddingIsStandard(padding));
    }
  }
}

TEST(EspTrailer, PadLengthThatExceedsThePayload) {
  std::vector<uint8_t> text(20);
  text[18] = 19;
  EXPECT_FALSE(ReadEspTrailer(text));
  text[18] = 18;
  ASSERT_TRUE(ReadEspTrailer(text));
  EXPECT_EQ(ReadEspTrailer(text)->length, 0U);
  EXPECT_FALSE(ReadEspTrailer(std::span(text).first(1)));
  EXPECT_FALSE(ReadEspTrailer({}));
}

TEST(EspTrailer, LongestPadding) {
  std::vector<uint8_t> padding(255);
  std::iota(padding.begin(), padding.end(), uint8_t{1});
  EXPECT_TRUE(PaddingIsStandard(padding));
  padding[254] = 0;
  EXPECT_FALSE(PaddingIsStandard(padding));
}

}  // namespace
}  // namespace portcullis
