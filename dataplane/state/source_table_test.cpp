// Who is admitted, what one source is, and what it has used of its limits.
#include "dataplane/state/source_table.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <set>

namespace portcullis {
namespace {

constexpr uint64_t kHz = 1'000'000'000;
using enum SourceTable::Standing;

Address At(const std::string& text) {
  return Address::Parse(text).value();
}
SourceRule Rule(const char* prefix, bool admit) {
  return {Prefix::Parse(prefix).value(), admit};
}
std::shared_ptr<const SourceTable> Make(const FirstLine& line) {
  return SourceTable::Make(line, kHz).value();
}

TEST(SourceTable, TheLongestPrefixDecides) {
  const auto table = Make({.sources = {Rule("192.0.2.0/24", false), Rule("192.0.2.7/32", true),
                                       Rule("2001:db8::/32", true), Rule("2001:db8:6::/48", false),
                                       Rule("::/0", false)}});
  EXPECT_EQ(table->Of(At("192.0.2.6")), denied);
  EXPECT_EQ(table->Of(At("192.0.2.7")), admitted);
  EXPECT_EQ(table->Of(At("192.0.3.7")), stranger) << "::/0 is IPv6's";
  EXPECT_EQ(table->Of(At("2001:db8::1")), admitted);
  EXPECT_EQ(table->Of(At("2001:db8:6::1")), denied);
  EXPECT_EQ(table->Of(At("2001:db9::1")), denied);
}

TEST(SourceTable, StrangersAreAdmittedOrNot) {
  for (const bool admit : {true, false}) {
    const auto table = Make({.admit_strangers = admit, .sources = {Rule("192.0.2.7/32", true)}});
    EXPECT_EQ(table->Admits(stranger), admit);
    EXPECT_TRUE(table->Admits(admitted));
    EXPECT_FALSE(table->Admits(denied));
    EXPECT_EQ(table->judges_packets(), !admit);
  }
}

TEST(SourceTable, JudgesOnlyWhereThereIsSomethingToJudge) {
  EXPECT_FALSE(Make({})->judges_packets());
  EXPECT_FALSE(Make({.sources = {Rule("192.0.2.7/32", true)}})->judges_packets());
  EXPECT_TRUE(Make({.sources = {Rule("192.0.2.7/32", false)}})->judges_packets());
  EXPECT_TRUE(Make({.packets = {.per_second = 1, .burst = 1}})->judges_packets());
  EXPECT_FALSE(Make({})->judges_services());
  EXPECT_TRUE(Make({.whole_host = false})->judges_services());
  EXPECT_TRUE(Make({.sessions = {{.protocol = 6, .first = 1, .last = 1}}})->judges_services());
}

TEST(SourceTable, OneSourceIsAPrefix) {
  const auto table = Make({.ipv4_length = 24, .ipv6_length = 56});
  EXPECT_EQ(table->OneOf(At("192.0.2.77")), At("192.0.2.0"));
  EXPECT_EQ(table->OneOf(At("2001:db8:0:1ff::9")), At("2001:db8:0:100::"));
  const auto all = Make({});
  EXPECT_EQ(all->OneOf(At("192.0.2.77")), At("192.0.2.77"));
  EXPECT_EQ(all->OneOf(At("2001:db8::1:2:3:4")), At("2001:db8::"));
  const auto one = Make({.ipv4_length = 0, .ipv6_length = 0});
  EXPECT_EQ(one->OneOf(At("192.0.2.77")), one->OneOf(At("10.0.0.1")));
  EXPECT_NE(one->OneOf(At("192.0.2.77")), one->OneOf(At("2001:db8::1"))) << "families are apart";
}

TEST(SourceTable, ServicesByProtocolAndPort) {
  const auto table = Make({.sessions = {{.protocol = 6, .first = 4433, .last = 4434}},
                           .whole_host = false,
                           .host = {{.protocol = 17, .first = 123, .last = 123}}});
  EXPECT_TRUE(table->IsSession(6, 4433));
  EXPECT_TRUE(table->IsSession(6, 4434));
  EXPECT_FALSE(table->IsSession(6, 4435));
  EXPECT_FALSE(table->IsSession(17, 4433));
  EXPECT_TRUE(table->IsOpen(17, 123));
  EXPECT_TRUE(table->IsOpen(6, 4433)) << "the guard's ports are open";
  EXPECT_FALSE(table->IsOpen(6, 123));
}

// ---- buckets

unsigned Admitted(const Bucket& full, uint64_t& due, uint64_t now, unsigned offered) {
  unsigned admitted = 0;
  for (unsigned i = 0; i < offered; ++i) admitted += SourceBuckets::Take(full, due, now) ? 1 : 0;
  return admitted;
}

TEST(SourceBuckets, ABurstThenTheRate) {
  const auto table = Make({.packets = {.per_second = 100, .burst = 20}});
  uint64_t due = 0;
  uint64_t now = 5 * kHz;
  EXPECT_EQ(Admitted(table->packets(), due, now, 100), 20U);
  now += kHz / 10;
  EXPECT_EQ(Admitted(table->packets(), due, now, 100), 10U);
  now += 10 * kHz;
  EXPECT_EQ(Admitted(table->packets(), due, now, 100), 20U) << "it saves no more than a burst";
  now += kHz / 101;
  EXPECT_EQ(Admitted(table->packets(), due, now, 1), 0U);
  now += kHz / 100;
  EXPECT_EQ(Admitted(table->packets(), due, now, 1), 1U);
}

TEST(SourceBuckets, TheSlowestAndTheFastest) {
  const auto slow = Make({.packets = {.per_second = 1, .burst = UINT32_MAX}});
  uint64_t due = 0;
  EXPECT_EQ(Admitted(slow->packets(), due, kHz, 1000), 1000U);
  const auto one = Make({.packets = {.per_second = 1, .burst = 1}});
  due = 0;
  EXPECT_EQ(Admitted(one->packets(), due, kHz, 1000), 1U);
  const auto fast = Make({.packets = {.per_second = 100'000'000, .burst = 1}});
  due = 0;
  EXPECT_EQ(Admitted(fast->packets(), due, kHz, 2), 1U);
  EXPECT_EQ(Admitted(fast->packets(), due, kHz + 10, 2), 1U);
}

TEST(SourceBuckets, ADebtOfAnotherPolicyIsForgiven) {
  const auto before = Make({.packets = {.per_second = 1, .burst = 1000}});
  const auto after = Make({.packets = {.per_second = 1000, .burst = 10}});
  uint64_t due = 0;
  EXPECT_EQ(Admitted(before->packets(), due, kHz, 2000), 1000U);
  EXPECT_EQ(Admitted(after->packets(), due, kHz, 2000), 10U);
}

TEST(SourceBuckets, NoLimit) {
  uint64_t due = 0;
  EXPECT_EQ(Admitted(Make({})->strangers(), due, kHz, 1000), 1000U);
}

// ---- the table of times

TEST(TimeTable, KeepsAsManyAsItHolds) {
  TimeTable table(1024);
  for (uint32_t i = 0; i < 256; ++i) table.At(Address::V4(&i)) = 1000 + i;
  unsigned kept = 0;
  for (uint32_t i = 0; i < 256; ++i) kept += table.Find(Address::V4(&i)) == 1000 + i ? 1 : 0;
  EXPECT_GT(kept, 250U);  // a quarter full, some sets are full by chance
  EXPECT_EQ(table.Find(At("2001:db8::1")), 0U);
}

// Strangers without number push out each other and whoever has the least left, not those who are
// in debt.
TEST(TimeTable, TheEarliestGoes) {
  TimeTable table(64);
  constexpr uint64_t kLate = 1'000'000;
  const std::set<std::string> kept = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};
  for (const std::string& source : kept) table.At(At(source)) = kLate;
  for (uint32_t i = 0; i < 100'000; ++i) table.At(Address::V4(&i)) = 10;
  for (const std::string& source : kept) EXPECT_EQ(table.Find(At(source)), kLate) << source;
}

}  // namespace
}  // namespace portcullis
