#include "control/cli/table.hpp"

#include <gtest/gtest.h>

namespace portcullis::cli {
namespace {

TEST(TableTest, AlignsAndEndsLinesWithoutBlanks) {
  Table table({{"NAME"}, {"PACKETS", Table::Align::kRight}, {"NOTE"}});
  table.Add({"csmf-1", "5", ""});
  table.Add({"m", "12345678", "suspect"});
  EXPECT_EQ(table.Text(),
            "NAME     PACKETS  NOTE\n"
            "csmf-1         5\n"
            "m       12345678  suspect\n");
}

TEST(TableTest, LeavesOutColumnsThatSayNothing) {
  Table table({{"NAME"}, {"CLIENTS"}, {"ZONE"}});
  table.Add({"nsmf", "", "external"});
  EXPECT_EQ(table.Text(), "NAME  ZONE\nnsmf  external\n");
  table.Add({"scef", "10.1.0.0/24", "external"});
  EXPECT_NE(table.Text().find("CLIENTS"), std::string::npos);
}

TEST(TableTest, CountsCodePointsNotBytes) {
  EXPECT_EQ(Width("─▶"), 2U);
  Table table({{"NAME"}, {"X"}});
  table.Add({"Zürich", "1"});
  table.Add({"Berlin", "2"});
  EXPECT_EQ(table.Text(), "NAME    X\nZürich  1\nBerlin  2\n");
}

TEST(TableTest, Durations) {
  EXPECT_EQ(Duration(0), "0 s");
  EXPECT_EQ(Duration(59), "59 s");
  EXPECT_EQ(Duration(60), "1 min 0 s");
  EXPECT_EQ(Duration(3 * 3600 + 125), "3 h 2 min");
  EXPECT_EQ(Duration(86400 + 3600), "1 d 1 h");
}

TEST(TableTest, Numbers) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1234567), "1 234 567");
  EXPECT_EQ(Bits(10000000), "10 Mbit/s");
  EXPECT_EQ(Bits(1500000), "1.5 Mbit/s");
  EXPECT_EQ(Bits(1234567), "1234567 bit/s");  // not rounded: it is a contract
  EXPECT_EQ(Bits(500), "500 bit/s");
}

}  // namespace
}  // namespace portcullis::cli
