// Random numbers of property tests: the same ones in every run, others when the long fuzz asks for
// them (gtest numbers its repetitions when it shuffles; see ./run check).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

namespace portcullis {

inline uint64_t TestSeed(uint64_t base) {
  constexpr uint64_t kApart = 1000003;
  return base + kApart * static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
}

}  // namespace portcullis
