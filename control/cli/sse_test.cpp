#include "control/cli/sse.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace portcullis::cli {
namespace {

using Messages = std::vector<std::string>;

TEST(SseTest, EveryLineEnding) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    SseParser parser;
    const std::string stream =
        fmt::format(": comment{0}{0}id: 1{0}event: x{0}data: {{\"a\":1}}{0}{0}data:b{0}{0}", end);
    EXPECT_EQ(parser.Feed(stream), (Messages{"{\"a\":1}", "b"}));
  }
}

TEST(SseTest, AByteAtATime) {
  SseParser parser;
  Messages all;
  for (const char c : std::string("data: one\r\ndata: two\r\n\r\ndata: three\r\n\r\n")) {
    for (auto& message : parser.Feed(std::string_view(&c, 1))) all.push_back(message);
  }
  EXPECT_EQ(all, (Messages{"one\ntwo", "three"}));
}

TEST(SseTest, AnUnfinishedMessageIsHeldBack) {
  SseParser parser;
  EXPECT_TRUE(parser.Feed("data: half\n").empty());
  EXPECT_EQ(parser.Feed("\n"), (Messages{"half"}));
}

TEST(SseTest, CommentsAndOtherFieldsAreNoMessages) {
  SseParser parser;
  EXPECT_TRUE(parser.Feed(":\n\nevent: x\n\nid: 4\n\ndatax: y\n\n").empty());
}

}  // namespace
}  // namespace portcullis::cli
