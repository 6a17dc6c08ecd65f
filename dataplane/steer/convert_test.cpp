// What control sends is checked field by field: here the first line, each refusal beside the same
// made right.
#include "dataplane/steer/convert.hpp"

#include <gtest/gtest.h>

#include "dataplane/steer/messages.hpp"

namespace portcullis::steer {
namespace {

ApplySnapshot Good() {
  ApplySnapshot message;
  message.set_generation(1);
  FirstLine& line = *message.mutable_first_line();
  line.set_deny_strangers(true);
  SourceRule& admitted = *line.add_sources();
  *admitted.mutable_prefix() = ToMessage(*portcullis::Prefix::Parse("192.0.2.0/24"));
  SourceRule& denied = *line.add_sources();
  *denied.mutable_prefix() = ToMessage(*portcullis::Prefix::Parse("10.0.0.0/8"));
  denied.set_deny(true);
  line.mutable_packets()->set_per_second(1000);
  line.mutable_packets()->set_burst(10);
  Service& session = *line.add_sessions();
  session.set_protocol(6);
  session.mutable_ports()->set_first(4433);
  session.mutable_ports()->set_last(4434);
  line.set_some_of_host(true);
  line.add_host()->set_protocol(132);
  return message;
}

TEST(Convert, TheFirstLineComesOverWhole) {
  const auto update = ToPolicyUpdate(Good());
  ASSERT_TRUE(update) << update.error().Text();
  ASSERT_TRUE(update->first_line);
  const portcullis::FirstLine& line = *update->first_line;
  EXPECT_FALSE(line.admit_strangers);
  EXPECT_FALSE(line.whole_host);
  EXPECT_EQ(line.sources, (std::vector<portcullis::SourceRule>{
                              {*portcullis::Prefix::Parse("10.0.0.0/8"), false},
                              {*portcullis::Prefix::Parse("192.0.2.0/24"), true}}));
  EXPECT_EQ(line.packets, (portcullis::SourceLimit{1000, 10}));
  EXPECT_EQ(line.handshakes, portcullis::SourceLimit{});
  EXPECT_EQ(line.ipv4_length, 32);
  EXPECT_EQ(line.ipv6_length, 64);
  EXPECT_EQ(line.sessions, (std::vector<ServiceRange>{{6, 4433, 4434}}));
  EXPECT_EQ(line.host, (std::vector<ServiceRange>{{132, 0, UINT16_MAX}}));
}

TEST(Convert, AChangeNeedNotNameIt) {
  ApplySnapshot message = Good();
  message.clear_first_line();
  EXPECT_FALSE(ToPolicyUpdate(message)->first_line);
}

TEST(Convert, RefusesAFirstLineThatContradictsItself) {
  const auto refused = [](const auto& change) {
    ApplySnapshot message = Good();
    change(*message.mutable_first_line());
    const auto update = ToPolicyUpdate(message);
    return update ? std::string() : update.error().where;
  };
  EXPECT_EQ(refused([](FirstLine&) {}), "");
  EXPECT_EQ(refused([](FirstLine& line) { *line.add_sources() = line.sources(0); }),
            "first_line.sources");
  EXPECT_EQ(refused([](FirstLine& line) { line.mutable_sources(0)->clear_prefix(); }),
            "first_line.sources[0].prefix");
  EXPECT_EQ(refused([](FirstLine& line) { line.mutable_packets()->set_burst(0); }),
            "first_line.packets");
  EXPECT_EQ(refused([](FirstLine& line) { line.mutable_packets()->set_per_second(1ULL << 40U); }),
            "first_line.packets");
  EXPECT_EQ(refused([](FirstLine& line) { line.set_ipv4_length(33); }), "first_line.ipv4_length");
  EXPECT_EQ(refused([](FirstLine& line) { line.set_ipv6_length(129); }), "first_line.ipv6_length");
  EXPECT_EQ(refused([](FirstLine& line) { line.mutable_sessions(0)->set_protocol(256); }),
            "first_line.sessions[0].protocol");
  EXPECT_EQ(
      refused([](FirstLine& line) { line.mutable_sessions(0)->mutable_ports()->set_first(5000); }),
      "first_line.sessions[0].ports");
  EXPECT_EQ(refused([](FirstLine& line) {
              for (int i = 0; i < 15; ++i) line.add_host()->set_protocol(6);
            }),
            "first_line");
}

}  // namespace
}  // namespace portcullis::steer
