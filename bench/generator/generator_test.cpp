// The generator's books: a stream's arrivals, percentiles, sizes, and that no two keys are the
// same.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "bench/generator/histogram.hpp"
#include "bench/generator/lab.hpp"
#include "bench/generator/tag.hpp"

namespace portcullis::generator {
namespace {

using Arrival = Stream::Arrival;

TEST(Stream, TellsOrderReorderingAndDuplicates) {
  Stream stream;
  EXPECT_EQ(stream.Arrive(1), Arrival::in_order);
  EXPECT_EQ(stream.Arrive(3), Arrival::in_order);  // 2 is missing, so far
  EXPECT_EQ(stream.Arrive(2), Arrival::reordered);
  EXPECT_EQ(stream.Arrive(2), Arrival::duplicate);
  EXPECT_EQ(stream.Arrive(3), Arrival::duplicate);
}

TEST(Stream, ForgetsNothingWithinItsMemoryAndAllBeyond) {
  Stream stream;
  EXPECT_EQ(stream.Arrive(10), Arrival::in_order);
  EXPECT_EQ(stream.Arrive(9 + Stream::kMemory), Arrival::in_order);
  EXPECT_EQ(stream.Arrive(10), Arrival::duplicate);
  EXPECT_EQ(stream.Arrive(9), Arrival::late);
  EXPECT_EQ(stream.Arrive(11), Arrival::reordered);
  EXPECT_EQ(stream.Arrive(100 * Stream::kMemory), Arrival::in_order);
  EXPECT_EQ(stream.Arrive(100 * Stream::kMemory - 1), Arrival::reordered);
}

TEST(Stream, CountsEachPacketOnceInAnyOrder) {
  std::vector<uint64_t> counters(20000);
  for (size_t i = 0; i < counters.size(); ++i) counters[i] = i + 1;
  std::mt19937 random(4);  // NOLINT(cert-msc51-cpp)
  for (size_t i = 0; i + 1000 < counters.size(); i += 1000) {
    std::shuffle(counters.begin() + static_cast<long>(i),
                 counters.begin() + static_cast<long>(i) + 1000, random);
  }
  Stream stream;
  size_t arrived = 0;
  for (const uint64_t counter : counters) {
    const Arrival first = stream.Arrive(counter);
    arrived += first == Arrival::in_order || first == Arrival::reordered ? 1 : 0;
    EXPECT_EQ(stream.Arrive(counter), Arrival::duplicate);
  }
  EXPECT_EQ(arrived, counters.size());
}

TEST(Histogram, IsNeverTooLowAndAtMostThreePercentTooHigh) {
  EXPECT_EQ(Histogram{}.Percentile(500), 0U);
  std::mt19937_64 random(1);  // NOLINT(cert-msc51-cpp)
  std::vector<uint64_t> values;
  Histogram histogram;
  for (int i = 0; i < 10000; ++i) {
    values.push_back(random() >> (random() % 64));
    histogram.Add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const unsigned per_mille : {1U, 500U, 990U, 999U, 1000U}) {
    const uint64_t exact = values[values.size() * per_mille / 1000 - 1];
    EXPECT_GE(histogram.Percentile(per_mille), exact);
    EXPECT_LE(static_cast<double>(histogram.Percentile(per_mille)),
              1.032 * static_cast<double>(exact) + 1);
  }
  EXPECT_EQ(histogram.max(), values.back());
}

TEST(Sizes, ReadsMixesAndRefusesOthers) {
  EXPECT_EQ(*ParseSizes("64"), std::vector<uint16_t>{64});
  const auto mix = *ParseSizes("64x7,576x4,1400x1");
  EXPECT_EQ(std::count(mix.begin(), mix.end(), 64), 7);
  EXPECT_EQ(std::count(mix.begin(), mix.end(), 576), 4);
  EXPECT_EQ(mix, *ParseSizes("imix"));
  for (const char* wrong : {"", "59", "9001", "64x", "64x0", "64,", ",64", "64 ", "x7", "sixty"}) {
    EXPECT_FALSE(ParseSizes(wrong)) << wrong;
  }
}

TEST(Lab, EveryKeyAndSpiIsItsOwn) {
  std::set<std::vector<uint8_t>> keys;
  std::set<Spi> spis;
  for (size_t a = 0; a < kAlgorithms.size(); ++a) {
    const Options options{.seed = std::string(64, 'a'), .algorithm = static_cast<Algorithm>(a)};
    for (uint32_t sa = 0; sa < 100; ++sa) {
      for (const Direction d : {Direction::inbound, Direction::outbound}) {
        const auto key = KeyOf(options, sa, d);
        EXPECT_EQ(key.size(), kAlgorithms[a].key_bytes);
        EXPECT_TRUE(keys.insert(key).second);
        if (a == 0) {
          EXPECT_TRUE(spis.insert(SpiOf(sa, d)).second);
        }
      }
    }
  }
  EXPECT_NE(KeyOf({.seed = std::string(64, 'a')}, 0, Direction::inbound),
            KeyOf({.seed = std::string(64, 'b')}, 0, Direction::inbound));
}

}  // namespace
}  // namespace portcullis::generator
