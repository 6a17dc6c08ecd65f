#include "control/cli/document.hpp"

#include <gtest/gtest.h>

namespace portcullis::cli {
namespace {

using nlohmann::json;

json Parse(const std::string& text) {
  const auto value = ParseDocument(text, "f.yaml");
  return value ? *value : json("FAILED: " + value.error().text);
}

TEST(DocumentTest, YamlIsTypedAsJsonWould) {
  EXPECT_EQ(
      Parse("a: 1\nb: -5\nc: true\nd: null\ne: ~\nf:\n"),
      (json{{"a", 1}, {"b", -5}, {"c", true}, {"d", nullptr}, {"e", nullptr}, {"f", nullptr}}));
  EXPECT_EQ(Parse("list: [a, 2, {b: c}]"), (json{{"list", {"a", 2, {{"b", "c"}}}}}));
  EXPECT_EQ(Parse("s: \"1\"\nt: 'true'"), (json{{"s", "1"}, {"t", "true"}}));
}

// YAML 1.1 would make 4097, infinity, an octal number and a boolean of these.
TEST(DocumentTest, SpisKeysAndWordsStayText) {
  for (const char* text : {"0x00001001", "12e4567890", "0010203040", "no", "1.5",
                           "12345678901234567890123456789012345678"}) {
    EXPECT_EQ(Parse(std::string("v: ") + text)["v"], json(text)) << text;
  }
}

TEST(DocumentTest, JsonIsReadAsJson) {
  EXPECT_EQ(Parse("\n {\"a\": [1, \"2\"],\n\t\"b\": 1.5}"), (json{{"a", {1, "2"}}, {"b", 1.5}}));
}

TEST(DocumentTest, AKeyTwiceIsRefusedInBothFormats) {
  EXPECT_FALSE(ParseDocument("a: 1\na: 2", "f"));
  EXPECT_TRUE(ParseDocument("a: 1\nb: {a: 2}", "f"));
  EXPECT_FALSE(ParseDocument(R"({"a": 1, "a": 2})", "f"));
  EXPECT_TRUE(ParseDocument(R"({"a": 1, "b": {"a": 2}, "c": {"a": 3}})", "f"));
}

TEST(DocumentTest, ErrorsSayWhere) {
  const auto yaml = ParseDocument("a: 1\nb: [1, 2\nc: 3\n", "policy.yaml");
  ASSERT_FALSE(yaml);
  EXPECT_EQ(yaml.error().code, ExitCode::kUsage);
  EXPECT_EQ(yaml.error().text.substr(0, 14), "policy.yaml:3:") << yaml.error().text;
  const auto json = ParseDocument("{\"a\": 1,\n \"b\" 2}", "policy.json");
  ASSERT_FALSE(json);
  EXPECT_NE(json.error().text.find("line 2"), std::string::npos) << json.error().text;
  EXPECT_FALSE(ParseDocument(" \n", "empty"));
  EXPECT_FALSE(ReadDocument("/does/not/exist"));
}

TEST(DocumentTest, WhatIsPrintedAsYamlReadsBackTheSame) {
  const json value = {
      {"interfaces",
       {{{"name", "nsmf"},
         {"prefixes", {"10.2.0.10/32", "2001:db8::/32"}},
         {"ports", json::array()}}}},
      {"odd",
       {"", "true", "null", "~", "1", "-1", "01", "0x10", "a: b", "# c", "- d", "'", "\"", " e "}},
      {"number", 5},
      {"no", false},
      {"nothing", nullptr},
      {"empty", json::object()}};
  EXPECT_EQ(Parse(ToYaml(value)), value) << ToYaml(value);
}

}  // namespace
}  // namespace portcullis::cli
