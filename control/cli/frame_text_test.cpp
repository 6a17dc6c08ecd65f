#include "control/cli/frame_text.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "control/cli/render.hpp"

namespace portcullis::cli {
namespace {

std::vector<uint8_t> Bytes(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

const std::string kMacs = "020000000001020000000002";
// 20 bytes, protocol and addresses as given.
std::string Ipv4(const std::string& protocol, const std::string& fragment = "0000") {
  return "0800"
         "450000280000" +
         fragment + "40" + protocol +
         "0000"
         "c0000207"
         "c6336401";
}
std::string Ipv6(const std::string& next) {
  return "86dd"
         "600000000020" +
         next +
         "40"
         "20010db8000000000000000000000007"
         "20010db8000000000000000000000001";
}

TEST(FrameText, SaysWhoSentWhatToWhom) {
  const auto text = [](const std::string& hex) { return FrameText(Bytes(kMacs + hex)); };
  EXPECT_EQ(text(Ipv4("32") + "dead000100000001"), "192.0.2.7 > 198.51.100.1 esp 0xdead0001");
  EXPECT_EQ(text(Ipv4("06") + "9c401151"
                              "0000000000000000"
                              "5002"),
            "192.0.2.7:40000 > 198.51.100.1:4433 tcp syn");
  EXPECT_EQ(text(Ipv4("11") + "11941194"
                              "00140000"
                              "dead0001"),
            "192.0.2.7:4500 > 198.51.100.1:4500 udp esp 0xdead0001");
  EXPECT_EQ(text(Ipv4("01") + "0303"), "192.0.2.7 > 198.51.100.1 icmp type 3 code 3");
  EXPECT_EQ(text(Ipv4("11", "00b9") + "11941194"), "192.0.2.7 > 198.51.100.1 udp fragment")
      << "what stands where ports would be are none";
  EXPECT_EQ(text("81000007" + Ipv6("32") + "0000abcd"),
            "vlan 7 2001:db8::7 > 2001:db8::1 esp 0x0000abcd");
  EXPECT_EQ(text(Ipv6("00") + "0600000000000000"
                              "9c401151"),
            "[2001:db8::7]:40000 > [2001:db8::1]:4433 tcp");
  EXPECT_EQ(text("88b5"), "ethertype 0x88b5");
}

TEST(FrameText, LooksAtNoByteThatIsNotThere) {
  const std::vector<uint8_t> whole = Bytes(kMacs + Ipv6("00") +
                                           "0600000000000000"
                                           "9c401151"
                                           "0000000000000000"
                                           "5002");
  for (size_t length = 0; length < whole.size(); ++length) {
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_FALSE(FrameText(cut).empty());
  }
  EXPECT_EQ(FrameText({}), "[cut short]");
}

TEST(FrameText, ADropIsOneLine) {
  const nlohmann::json drop = {{"time", "2026-11-21T18:00:00.000Z"},
                               {"port", "wire"},
                               {"verdict", "xdp_unknown_spi"},
                               {"length", 142},
                               {"frame", kMacs + Ipv4("32") + "DEAD0001"}};
  EXPECT_EQ(RenderDrop(drop),
            "2026-11-21T18:00:00.000Z  wire     xdp_unknown_spi       "
            "192.0.2.7 > 198.51.100.1 esp 0xdead0001, 142 bytes\n");
}

}  // namespace
}  // namespace portcullis::cli
