#include "dataplane/state/fib.hpp"

#include <gtest/gtest.h>
#include <rte_eal.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <thread>

#include "base/test_seed.hpp"

namespace portcullis {
namespace {

// The table's nodes live in DPDK's memory.
class WithEal : public testing::Environment {
 public:
  void SetUp() override {
    std::array<std::string, 8> text = {"fib_test",
                                       "--no-huge",
                                       "-m",
                                       "64",
                                       "--no-pci",
                                       "--no-shconf",
                                       "--no-telemetry",
                                       "--log-level=lib.eal:error"};
    std::array<char*, 8> argv{};
    std::ranges::transform(text, argv.begin(), [](std::string& s) { return s.data(); });
    ASSERT_GE(rte_eal_init(argv.size(), argv.data()), 0);
  }
  void TearDown() override { rte_eal_cleanup(); }
};
const auto* const kEal = testing::AddGlobalTestEnvironment(new WithEal);

NextHop Via(uint16_t port) {
  NextHop hop;
  hop.port = port;
  return hop;
}

/// One next hop per route, on port 0, 1, 2 ...
FibInput Numbered(std::initializer_list<const char*> prefixes) {
  FibInput input;
  for (const char* text : prefixes) {
    input.routes.push_back({*Prefix::Parse(text), static_cast<uint32_t>(input.next_hops.size())});
    input.next_hops.push_back(Via(static_cast<uint16_t>(input.next_hops.size())));
  }
  return input;
}

int PortFor(const Fib& fib, const char* address) {
  const NextHop* hop = fib.Lookup(*Address::Parse(address));
  return hop == nullptr ? -1 : hop->port;
}

TEST(Fib, LongestPrefixWins) {
  const auto fib = Fib::Build(
      Numbered({"10.0.0.0/8", "10.2.0.0/16", "10.2.0.10/32", "2001:db8::/32", "2001:db8:1::/48"}));
  ASSERT_TRUE(fib) << fib.error().Text();
  EXPECT_EQ(PortFor(**fib, "10.1.0.1"), 0);
  EXPECT_EQ(PortFor(**fib, "10.2.0.1"), 1);
  EXPECT_EQ(PortFor(**fib, "10.2.0.10"), 2);
  EXPECT_EQ(PortFor(**fib, "2001:db8::1"), 3);
  EXPECT_EQ(PortFor(**fib, "2001:db8:1::1"), 4);
  EXPECT_EQ(PortFor(**fib, "11.0.0.1"), -1);
  EXPECT_EQ(PortFor(**fib, "2001:db9::1"), -1);
  EXPECT_EQ((*fib)->size(), 5U);
}

TEST(Fib, OfEqualPrefixesTheFirstWins) {
  const auto fib = Fib::Build(Numbered({"10.0.0.0/8", "10.0.0.0/8"}));
  ASSERT_TRUE(fib);
  EXPECT_EQ(PortFor(**fib, "10.1.0.1"), 0);
  EXPECT_EQ((*fib)->size(), 1U);
}

TEST(Fib, DefaultRoutesStayInTheirFamily) {
  const auto six = Fib::Build(Numbered({"::/0"}));
  ASSERT_TRUE(six);
  EXPECT_EQ(PortFor(**six, "2001:db8::1"), 0);
  EXPECT_EQ(PortFor(**six, "192.0.2.1"), -1);
  const auto four = Fib::Build(Numbered({"0.0.0.0/0"}));
  ASSERT_TRUE(four);
  EXPECT_EQ(PortFor(**four, "192.0.2.1"), 0);
  EXPECT_EQ(PortFor(**four, "2001:db8::1"), -1);
}

TEST(Fib, UnreachableHidesTheLessSpecific) {
  FibInput input = Numbered({"10.0.0.0/8", "10.2.0.10/32"});
  input.routes.push_back({*Prefix::Parse("10.2.0.0/16"), Route::kUnreachable});
  const auto fib = Fib::Build(input);
  ASSERT_TRUE(fib);
  EXPECT_EQ(PortFor(**fib, "10.1.0.1"), 0);
  EXPECT_EQ(PortFor(**fib, "10.2.0.1"), -1);
  EXPECT_EQ(PortFor(**fib, "10.2.0.10"), 1);
}

TEST(Fib, EmptyHasNoRoute) {
  const auto fib = Fib::Build({});
  ASSERT_TRUE(fib) << fib.error().Text();
  EXPECT_EQ(PortFor(**fib, "10.0.0.1"), -1);
  EXPECT_EQ((*fib)->size(), 0U);
}

TEST(Fib, RefusesANextHopThatIsNotThere) {
  FibInput input = Numbered({"10.0.0.0/8"});
  input.routes[0].next_hop = 1;
  ASSERT_FALSE(Fib::Build(input));
  input.next_hops.push_back(Via(7));
  const auto fib = Fib::Build(input);
  ASSERT_TRUE(fib);
  EXPECT_EQ(PortFor(**fib, "10.0.0.1"), 7);
}

TEST(Fib, RefusesMoreThanMemoryHolds) {
  FibInput input = Numbered({"10.0.0.0/8"});
  input.routes.resize(2'000'000, input.routes[0]);
  const auto fib = Fib::Build(input);
  ASSERT_FALSE(fib);
  EXPECT_EQ(fib.error().kind, ErrorKind::kExhausted);
  EXPECT_NE(fib.error().message.find("memory.megabytes"), std::string::npos);
  input.routes.resize(1000);
  EXPECT_TRUE(Fib::Build(input));
}

/// Longest prefix match by looking at every route, families apart.
const NextHop* Naive(const FibInput& input, const Address& destination) {
  const Route* best = nullptr;
  for (const Route& route : input.routes) {
    if (route.prefix.IsV4() != destination.IsV4() || !route.prefix.Contains(destination)) continue;
    if (best == nullptr || route.prefix.length() > best->prefix.length()) best = &route;
  }
  if (best == nullptr || best->next_hop == Route::kUnreachable) return nullptr;
  return &input.next_hops[best->next_hop];
}

/// Random addresses that agree in long heads, so that prefixes nest.
class Clustered {
 public:
  explicit Clustered(uint32_t seed) : random_(seed) {}
  Address Draw() {
    std::array<uint8_t, 16> bytes{};
    for (uint8_t& b : bytes) b = random_() % 8 == 0 ? static_cast<uint8_t>(random_()) : 0x20;
    return random_() % 2 == 0 ? Address::V4(&bytes[12]) : Address::V6(bytes.data());
  }
  unsigned Length(const Address& address) {
    return address.IsV4() ? 96 + random_() % 33 : random_() % 129;
  }
  unsigned Below(unsigned n) { return random_() % n; }

 private:
  std::mt19937 random_;
};

TEST(Fib, AgreesWithANaiveTable) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    Clustered draw(static_cast<uint32_t>(TestSeed(seed)));
    FibInput input;
    for (uint16_t i = 0; i < 16; ++i) input.next_hops.push_back(Via(i));
    for (unsigned i = 0; i < 300; ++i) {
      const Address address = draw.Draw();
      const unsigned hop = draw.Below(17);
      input.routes.push_back(
          {Prefix(address, draw.Length(address)), hop == 16 ? Route::kUnreachable : hop});
    }
    const auto fib = Fib::Build(input);
    ASSERT_TRUE(fib) << fib.error().Text();
    for (unsigned i = 0; i < 2000; ++i) {
      const Address destination =
          i % 4 == 0 ? input.routes[draw.Below(300)].prefix.address() : draw.Draw();
      const NextHop* expected = Naive(input, destination);
      const NextHop* found = (*fib)->Lookup(destination);
      ASSERT_EQ(found == nullptr, expected == nullptr) << destination.Text() << " seed " << seed;
      if (found == nullptr) continue;
      ASSERT_EQ(*found, *expected) << destination.Text() << " seed " << seed;
    }
  }
}

TEST(Fib, ReadersDoNotDisturbEachOther) {
  Clustered draw(99);
  FibInput input;
  for (uint16_t i = 0; i < 16; ++i) input.next_hops.push_back(Via(i));
  for (unsigned i = 0; i < 1000; ++i) {
    const Address address = draw.Draw();
    input.routes.push_back({Prefix(address, draw.Length(address)), draw.Below(16)});
  }
  const auto fib = Fib::Build(input);
  ASSERT_TRUE(fib);
  std::array<unsigned, 2> wrong{};
  const auto read = [&](unsigned reader) {
    Clustered own(reader);
    for (unsigned i = 0; i < 1000; ++i) {
      const Address destination = own.Draw();
      const NextHop* expected = Naive(input, destination);
      const NextHop* found = (*fib)->Lookup(destination);
      if ((found == nullptr) != (expected == nullptr)) ++wrong[reader];
      if (found != nullptr && expected != nullptr && *found != *expected) ++wrong[reader];
    }
  };
  std::thread other(read, 1);
  read(0);
  other.join();
  EXPECT_EQ(wrong[0] + wrong[1], 0U);
}

// Tables come and go with every change of the kernel's routes, for months.
TEST(Fib, GivesItsMemoryBack) {
  for (unsigned i = 0; i < 3000; ++i) {
    const auto fib = Fib::Build(Numbered({"10.0.0.0/8", "10.2.0.0/16", "2001:db8::/32"}));
    ASSERT_TRUE(fib) << "table " << i << ": " << fib.error().Text();
  }
}

}  // namespace
}  // namespace portcullis
