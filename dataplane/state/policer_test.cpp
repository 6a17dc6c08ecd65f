#include "dataplane/state/policer.hpp"

#include <gtest/gtest.h>

namespace portcullis {
namespace {

constexpr uint64_t kHz = 2'000'000'000;

// Offers `offered` packets a second for ten seconds, evenly; returns how many were admitted.
uint64_t Admitted(Policer policer, uint64_t offered, uint32_t bytes) {
  uint64_t admitted = 0;
  for (uint64_t i = 0; i < 10 * offered; ++i) {
    const uint64_t now = kHz + i * kHz / offered;
    Policer unlimited;
    if (!Policer::Take(policer, unlimited, now, 1, bytes)) continue;
    ++admitted;
  }
  return admitted;
}

TEST(Policer, UnlimitedAdmitsAll) {
  EXPECT_EQ(Admitted(Policer(Rate{}, kHz), 100'000, 1400), 1'000'000U);
}

TEST(Policer, PacketRateIsExactPlusOneBurst) {
  const Policer policer(Rate{.packets_per_second = 1000, .burst_ms = 100}, kHz);
  EXPECT_EQ(Admitted(policer, 500, 64), 5'000U);  // below the rate: nothing lost
  EXPECT_NEAR(Admitted(policer, 50'000, 64), 10'000 + 100, 2);
}

TEST(Policer, BitRateIsExactPlusOneBurst) {
  const Policer policer(Rate{.bits_per_second = 8'000'000, .burst_ms = 100}, kHz);
  EXPECT_NEAR(Admitted(policer, 50'000, 1000), 10'000 + 100, 2);  // 1000 packets/s of 8000 bits
}

TEST(Policer, SlowRatesStillAdmitWholePackets) {
  const Policer policer(Rate{.packets_per_second = 1, .bits_per_second = 10'000, .burst_ms = 1},
                        kHz);
  EXPECT_GE(Admitted(policer, 10, 1000), 10U);
}

TEST(Policer, HighRatesDoNotOverflow) {
  const Policer policer(Rate{.packets_per_second = 148'800'000, .bits_per_second = 400'000'000'000},
                        kHz);
  EXPECT_EQ(Admitted(policer, 100'000, 1400), 1'000'000U);
}

}  // namespace
}  // namespace portcullis
