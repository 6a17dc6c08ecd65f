#include "dataplane/steer/frame.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "dataplane/steer/messages.hpp"

namespace portcullis::steer {
namespace {

Request HelloFrom(const std::string& name, uint64_t id = 1) {
  Request request;
  request.set_id(id);
  request.mutable_hello()->set_client(name);
  return request;
}

void Feed(FrameReader& reader, std::span<const uint8_t> bytes) {
  const auto room = reader.Room(bytes.size());
  ASSERT_GE(room.size(), bytes.size());
  std::copy(bytes.begin(), bytes.end(), room.begin());
  reader.Filled(bytes.size());
}

TEST(FrameTest, LengthIsFourBytesBigEndian) {
  const auto frame = ToFrame(HelloFrom(std::string(300, 'x')));
  ASSERT_TRUE(frame);
  const size_t size = frame->size() - 4;
  EXPECT_EQ((*frame)[0], 0);
  EXPECT_EQ((*frame)[1], 0);
  EXPECT_EQ((*frame)[2], size >> 8U);
  EXPECT_EQ((*frame)[3], size & 0xffU);
}

TEST(FrameTest, OneByteAtATime) {
  const auto frame = ToFrame(HelloFrom("control", 7));
  FrameReader reader;
  Request got;
  for (size_t i = 0; i + 1 < frame->size(); ++i) {
    Feed(reader, std::span(*frame).subspan(i, 1));
    const auto next = reader.Next(got);
    ASSERT_TRUE(next);
    EXPECT_FALSE(*next) << i;
  }
  Feed(reader, std::span(*frame).last(1));
  const auto next = reader.Next(got);
  ASSERT_TRUE(next && *next);
  EXPECT_EQ(got.id(), 7U);
  EXPECT_EQ(got.hello().client(), "control");
}

TEST(FrameTest, SeveralInOneReadAndAHalf) {
  FrameBytes stream;
  for (uint64_t id = 1; id <= 5; ++id) {
    const auto frame = ToFrame(HelloFrom("c", id));
    stream.insert(stream.end(), frame->begin(), frame->end());
  }
  const auto last = ToFrame(HelloFrom("late", 6));
  stream.insert(stream.end(), last->begin(), last->begin() + 6);
  FrameReader reader;
  Feed(reader, stream);
  Request got;
  for (uint64_t id = 1; id <= 5; ++id) {
    ASSERT_TRUE(reader.Next(got).value());
    EXPECT_EQ(got.id(), id);
  }
  EXPECT_FALSE(reader.Next(got).value());
  Feed(reader, std::span(*last).subspan(6));
  ASSERT_TRUE(reader.Next(got).value());
  EXPECT_EQ(got.hello().client(), "late");
}

TEST(FrameTest, TheLargestLengthIsWaitedForAndOneMoreIsRefused) {
  Request got;
  FrameReader largest;
  Feed(largest, std::array<uint8_t, 4>{0x01, 0x00, 0x00, 0x00});  // 16 MiB
  EXPECT_FALSE(largest.Next(got).value());

  FrameReader larger;
  Feed(larger, std::array<uint8_t, 4>{0x01, 0x00, 0x00, 0x01});
  const auto next = larger.Next(got);
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().expected, "at most 16777216 bytes");
  EXPECT_EQ(next.error().found, "16777217 bytes");
}

TEST(FrameTest, WhatIsNoProtobufIsRefused) {
  FrameReader reader;
  Feed(reader, std::array<uint8_t, 7>{0, 0, 0, 3, 0xff, 0xff, 0xff});
  Request got;
  EXPECT_FALSE(reader.Next(got));
}

TEST(FrameTest, AMessageTooLargeIsNotSent) {
  const auto frame = ToFrame(HelloFrom(std::string(kMaxFrameBytes, 'x')));
  ASSERT_FALSE(frame);
  EXPECT_EQ(frame.error().kind, ErrorKind::kExhausted);
  EXPECT_TRUE(ToFrame(HelloFrom(std::string(kMaxFrameBytes - 64, 'x'))));
}

// The memory that a reader hands out again must not show the key that went through it.
TEST(FrameTest, ReadFramesAreWiped) {
  const std::string key(64, 'K');
  FrameReader reader;
  const auto frame = ToFrame(HelloFrom(key));
  Feed(reader, *frame);
  Request got;
  ASSERT_TRUE(reader.Next(got).value());
  ASSERT_EQ(got.hello().client(), key);
  const auto room = reader.Room(1);
  EXPECT_EQ(std::count(room.begin(), room.end(), 'K'), 0);
}

TEST(MessagesTest, KeysAreWipedInPlace) {
  Request request;
  SaSpec* sa = request.mutable_add_sas()->add_sas();
  sa->set_key(std::string(36, 'K'));
  const char* memory = sa->key().data();
  WipeKeys(request);
  EXPECT_TRUE(sa->key().empty());
  EXPECT_EQ(std::count(memory, memory + 36, 'K'), 0);  // the string keeps its memory

  Response response;
  SaSpec* state = response.mutable_list_sas()->add_sas()->mutable_spec();
  state->set_key(std::string(36, 'K'));
  WipeKeys(response);
  EXPECT_TRUE(state->key().empty());
}

TEST(MessagesTest, PrefixesBothWays) {
  for (const char* text : {"10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::/0"}) {
    const auto prefix = portcullis::Prefix::Parse(text);
    ASSERT_TRUE(prefix) << text;
    const auto back = FromMessage(ToMessage(*prefix), "prefix");
    ASSERT_TRUE(back) << text;
    EXPECT_EQ(*back, *prefix) << text;
  }
}

TEST(MessagesTest, WrongPrefixesAreNamed) {
  Prefix message;
  message.set_address("\x0a\x00\x00", 3);
  EXPECT_EQ(FromMessage(message, "/local").error().found, "3 bytes");
  message.set_address("\x0a\x00\x00\x00", 4);
  message.set_length(33);
  EXPECT_EQ(FromMessage(message, "/local").error().expected, "0 to 32");
  message.set_address("\x0a\x00\x00\x01", 4);
  message.set_length(8);
  EXPECT_EQ(FromMessage(message, "/local").error().where, "/local");
  message.set_length(32);
  EXPECT_TRUE(FromMessage(message, "/local"));
}

TEST(MessagesTest, FailuresBothWays) {
  const Error error{ErrorKind::kConflict, "taken", "/spi", "a free one", "0x1001"};
  const Error back = ToError(ToFailure(error));
  EXPECT_EQ(back.kind, ErrorKind::kConflict);
  EXPECT_EQ(back.Text(), error.Text());
  Failure unknown;
  unknown.set_kind(99);
  EXPECT_EQ(ToError(unknown).kind, ErrorKind::kInternal);
}

}  // namespace
}  // namespace portcullis::steer
