#include "base/ip.hpp"

#include <gtest/gtest.h>

namespace portcullis {
namespace {

TEST(Address, BothFamiliesRoundTrip) {
  for (const char* text : {"192.0.2.1", "2001:db8::1", "0.0.0.0", "::"}) {
    EXPECT_EQ(Address::Parse(text)->Text(), text);
  }
}

TEST(Prefix, ContainsItsOwnAndNothingElse) {
  const auto prefix = *Prefix::Parse("10.16.0.0/12");
  EXPECT_TRUE(prefix.Contains(*Address::Parse("10.31.255.255")));
  EXPECT_FALSE(prefix.Contains(*Address::Parse("10.32.0.0")));
  EXPECT_FALSE(prefix.Contains(*Address::Parse("2001:db8::1")));
  EXPECT_TRUE(Prefix::Parse("0.0.0.0/0")->Contains(*Address::Parse("8.8.8.8")));
  EXPECT_FALSE(Prefix::Parse("0.0.0.0/0")->Contains(*Address::Parse("2001:db8::1")));
  EXPECT_TRUE(Prefix::Parse("::/0")->Contains(*Address::Parse("2001:db8::1")));
}

TEST(Prefix, WritesTheLengthThatPeopleRead) {
  EXPECT_EQ(Prefix::Parse("10.16.0.0/12")->Text(), "10.16.0.0/12");
  EXPECT_EQ(Prefix::Parse("192.0.2.1")->Text(), "192.0.2.1/32");
  EXPECT_EQ(Prefix::Parse("2001:db8::/32")->Text(), "2001:db8::/32");
}

TEST(Prefix, RefusesWithWhatWasExpectedAndFound) {
  for (const char* text : {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8x", "ten", ""}) {
    const auto prefix = Prefix::Parse(text);
    ASSERT_FALSE(prefix) << text;
    EXPECT_NE(prefix.error().Text().find(text), std::string::npos) << prefix.error().Text();
  }
  EXPECT_TRUE(Prefix::Parse("10.0.0.0/8"));
}

}  // namespace
}  // namespace portcullis
