// Entries as several threads change them; what the program makes of them: xdp_verdict_test.cpp.
#include "bpf/spi_table.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <bit>
#include <thread>

#include "bpf/shared.h"

namespace portcullis {
namespace {

struct SpiTableTest : ::testing::Test {
  struct Entry {
    uint32_t spi, oldest;
    bool operator==(const Entry&) const = default;
  };
  Entry Of(size_t slot) {
    const auto entry = std::bit_cast<portcullis_spi>(
        std::atomic_ref(memory[slot]).load(std::memory_order_relaxed));
    return {ntohl(entry.spi), entry.oldest};
  }

  std::array<uint64_t, 16> memory{};
  const SpiTable table{memory};
};

TEST_F(SpiTableTest, WhoseTheSlotIs) {
  table.Add(Spi{0x12345675}, 7);
  EXPECT_EQ(Of(5), (Entry{0x12345675, 7}));
  table.Advance(Spi{0x12345675}, 0xfffffff0);
  EXPECT_EQ(Of(5), (Entry{0x12345675, 0xfffffff0}));
  table.Advance(Spi{0x22345675}, 9);  // the same slot
  table.Remove(Spi{0x22345675});
  EXPECT_EQ(Of(5), (Entry{0x12345675, 0xfffffff0}));
  table.Add(Spi{0x22345675}, 0);
  table.Advance(Spi{0x12345675}, 9);
  table.Remove(Spi{0x12345675});
  EXPECT_EQ(Of(5), (Entry{0x22345675, 0}));
  table.Add(Spi{0x1}, 1);
  table.Remove(Spi{0x22345675});
  table.Advance(Spi{0x22345675}, 9);
  EXPECT_EQ(Of(5), (Entry{0, 0}));
  EXPECT_EQ(Of(1), (Entry{1, 1}));
  table.RemoveAll();
  EXPECT_EQ(Of(1), (Entry{0, 0}));
}

// The worker of an SA that is replaced, in its own slot, does not know yet. What it still says must
// never be read as its successor's, or the successor's first packets would be stale.
TEST_F(SpiTableTest, ASuccessorNeverHasTheNumberOfTheOneBefore) {
  constexpr uint32_t kSpi = 0x15, kPairs = 2000;
  std::atomic<uint32_t> in_force = kSpi - 0x10;  // the one before the first, in the same slot
  std::atomic<bool> stop = false;
  // Odd numbers are the worker's; those that Add() gives are even.
  std::thread worker([&] {
    for (uint32_t number = 1; !stop; number += 2) table.Advance(Spi{in_force.load()}, number);
  });
  uint32_t advanced = 0;
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < kPairs; ++i) {
    const uint32_t spi = kSpi + (i << 8U);
    table.Add(Spi{spi}, i << 1U);
    // It still works for the one before, so this one's number stays.
    for (int look = 0; look < 20; ++look) wrong += Of(5) == Entry{spi, i << 1U} ? 0 : 1;
    in_force = spi;
    if (i % 64 == 0) {
      while (Of(5).oldest % 2 == 0) std::this_thread::yield();
    }
    advanced += Of(5).oldest % 2;
    if (i % 2 != 0) {
      table.Remove(Spi{spi});
      for (int look = 0; look < 20; ++look) wrong += Of(5) == Entry{0, 0} ? 0 : 1;
    }
  }
  stop = true;
  worker.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_GE(advanced, kPairs / 64);
}

}  // namespace
}  // namespace portcullis
