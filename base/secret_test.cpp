#include "base/secret.hpp"

#include <gtest/gtest.h>

#include <array>

namespace portcullis {
namespace {

constexpr std::array<uint8_t, 4> kKey = {1, 2, 3, 4};

TEST(Secret, MovesAndDoesNotCopy) {
  static_assert(!std::is_copy_constructible_v<Secret>);
  Secret a(kKey);
  const Secret b(std::move(a));
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is the point
  EXPECT_TRUE(std::ranges::equal(b.bytes(), kKey));
}

TEST(Secret, FingerprintNamesKeyAndAlgorithm) {
  const std::string one = KeyFingerprint("aes-gcm", kKey);
  EXPECT_EQ(one.size(), 32U);
  EXPECT_EQ(one, KeyFingerprint("aes-gcm", kKey));
  EXPECT_NE(one, KeyFingerprint("chacha20-poly1305", kKey));
  EXPECT_NE(one, KeyFingerprint("aes-gcm", std::array<uint8_t, 4>{1, 2, 3, 5}));
}

}  // namespace
}  // namespace portcullis
