// When the kernel would forward around the gate, and when it could not.
#include "bpf/host.hpp"

#include <fstream>

#include "bpf/loader.hpp"
#include "bpf/test_port.hpp"

namespace portcullis {
namespace {

class Forwarding : public PortTest {
 protected:
  static void Sysctl(const std::string& path, int value) {
    std::ofstream file("/proc/sys/net/" + path);
    file << value << std::flush;
    ASSERT_TRUE(file) << path;
  }
  void SetUp() override {
    PortTest::SetUp();
    Sysctl("ipv4/ip_forward", 0);
    Sysctl("ipv6/conf/all/forwarding", 0);
  }
};

TEST_F(Forwarding, OffIsFine) {
  const auto checked = CheckForwardingOff("wire0");
  EXPECT_TRUE(checked) << checked.error().Text();
}

TEST_F(Forwarding, EachSysctlThatIsOnIsRefusedByName) {
  for (const char* path :
       {"ipv4/conf/wire0/forwarding", "ipv6/conf/all/forwarding", "ipv6/conf/wire0/forwarding"}) {
    Sysctl(path, 1);
    const auto refused = CheckForwardingOff("wire0");
    ASSERT_FALSE(refused) << path;
    EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
    EXPECT_NE(refused.error().message.find("sysctl -w"), std::string::npos);
    EXPECT_NE(refused.error().message.find(std::string("net/") + path + "=0"), std::string::npos)
        << refused.error().Text();
    Sysctl(path, 0);
    EXPECT_TRUE(CheckForwardingOff("wire0")) << path;
  }
}

TEST_F(Forwarding, AnotherInterfacesIpv4ForwardingDoesNotMatter) {
  Sysctl("ipv4/conf/far0/forwarding", 1);
  EXPECT_TRUE(CheckForwardingOff("wire0"));
  EXPECT_FALSE(CheckForwardingOff("far0"));
}

TEST_F(Forwarding, BridgeIsNoVrf) {
  Ip("link add name outer type bridge");
  Ip("link set wire0 master outer");
  Ip("link set far0 master outer");
  const auto master = FindMaster("wire0");
  ASSERT_TRUE(master);
  EXPECT_EQ(master->name, "outer");
  EXPECT_EQ(master->kind, "bridge");
  EXPECT_EQ(master->members, std::vector<std::string>{"far0"});
  EXPECT_EQ(FindMaster("outer")->name, "");
  Sysctl("ipv4/conf/wire0/forwarding", 1);
  EXPECT_FALSE(CheckForwardingOff("wire0"));
}

TEST_F(Forwarding, UnknownInterface) {
  EXPECT_EQ(CheckForwardingOff("nosuch0").error().kind, ErrorKind::kNotFound);
}

TEST(JudgeForwarding, VrfMustBeThePortsOwn) {
  const std::vector<std::string> on = {"net/ipv4/conf/wire0/forwarding"};
  const std::vector<std::string> companions = {"wire1"};
  EXPECT_TRUE(JudgeForwarding("wire0", on, {"outer", "vrf", {}}, {}));
  EXPECT_TRUE(JudgeForwarding("wire0", on, {"outer", "vrf", {"wire1"}}, companions));
  EXPECT_FALSE(JudgeForwarding("wire0", on, {"outer", "vrf", {"wire1"}}, {}));
  EXPECT_FALSE(JudgeForwarding("wire0", on, {"outer", "bond", {}}, {}));
  EXPECT_TRUE(JudgeForwarding("wire0", {}, {"outer", "vrf", {"core0"}}, {}));
  const auto refused =
      JudgeForwarding("wire0", on, {"outer", "vrf", {"wire1", "core0"}}, companions);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().found.find("VRF outer shared with core0"), std::string::npos);
}

}  // namespace
}  // namespace portcullis
