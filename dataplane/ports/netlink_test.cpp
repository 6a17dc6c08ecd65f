// The mirror against a real kernel, in network namespaces of the test's own.
#include "dataplane/ports/netlink.hpp"

#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>

#include <algorithm>
#include <map>
#include <optional>

#include "dataplane/ports/test_namespaces.hpp"

namespace portcullis {
namespace {

using std::chrono::milliseconds;

class Mirror : public testing::Test {
 protected:
  void SetUp() override {
    EnterOwnNamespace();
    far_.emplace();
    far_->Wire("wire0", "peer0", 1);
    far_->Wire("core0", "server0", 2);
    Sh("ip link add guard1 address 02:00:00:00:03:01 type veth peer name guard0 address "
       "02:00:00:00:03:02");
    Sh("ip link set guard0 up; ip link set guard1 up");
    Sh("ip addr add 192.0.2.1/24 dev wire0; ip addr add 2001:db8::1/64 dev wire0");
    Sh("ip addr add 10.2.0.1/24 dev core0");
    far_->Run("ip addr add 192.0.2.9/24 dev peer0");
    far_->Run("ip addr add 2001:db8::9/64 dev peer0");
    far_->Run("ip addr add 10.2.0.10/24 dev server0");
  }

  static NetworkPort PortOn(uint16_t id, const char* name, PortRole role, const char* interface) {
    NetworkPort port;
    port.id = id;
    port.name = name;
    port.role = role;
    port.ifindex = static_cast<int>(if_nametoindex(interface));
    return port;
  }

  void Open() {
    NetworkPort guard = PortOn(2, "guard", PortRole::kLocal, "guard1");
    guard.prefixes = {*Prefix::Parse("10.9.0.1/32")};
    auto opened = NetlinkMirror::Open(
        {PortOn(0, "wire", PortRole::kUntrusted, "wire0"),
         PortOn(1, "core", PortRole::kTrusted, "core0"), guard},
        {},
        {[this](FibInput input) {
           fib_ = std::move(input);
           ++builds_;
         },
         [this](uint16_t port, const std::vector<Address>& own) { own_[port] = own; },
         [this](uint16_t port, bool up) { up_[port] = up; }});
    ASSERT_TRUE(opened) << opened.error().Text();
    mirror_ = *std::move(opened);
  }

  /// Serves the mirror until `wish` holds, two seconds at most.
  template <class Wish>
  bool Eventually(Wish wish) {
    const auto end = std::chrono::steady_clock::now() + milliseconds(2000);
    while (!wish()) {
      if (std::chrono::steady_clock::now() > end) return false;
      const auto timeout = mirror_->Timeout();
      pollfd ready{mirror_->fd(), POLLIN, 0};
      poll(&ready, 1,
           timeout.count() < 0 ? 50 : static_cast<int>(std::min<long>(timeout.count(), 50)));
      EXPECT_TRUE(mirror_->Run());
    }
    return true;
  }
  void Settle() {
    const auto end = std::chrono::steady_clock::now() + milliseconds(300);
    Eventually([&] { return std::chrono::steady_clock::now() > end; });
  }

  /// "wire", "wire via 192.0.2.9", "wire via ... 02" (resolved), "nowhere", "absent".
  std::string Find(const char* prefix) {
    const auto route = std::ranges::find(fib_.routes, *Prefix::Parse(prefix), &Route::prefix);
    if (route == fib_.routes.end()) return "absent";
    if (route->next_hop == Route::kUnreachable) return "nowhere";
    const NextHop& hop = fib_.next_hops[route->next_hop];
    std::string text = std::array{"wire", "core", "guard"}[hop.port];
    if (hop.gateway != Address()) text += " via " + hop.gateway.Text();
    if (hop.resolved) text += fmt::format(" {:02x}:{:02x}", hop.destination[4], hop.destination[5]);
    return text;
  }
  bool Becomes(const char* prefix, const char* expected) {
    const bool became = Eventually([&] { return Find(prefix) == expected; });
    EXPECT_EQ(Find(prefix), expected) << prefix;
    return became;
  }

  std::optional<FarNamespace> far_;
  std::unique_ptr<NetlinkMirror> mirror_;
  FibInput fib_;
  unsigned builds_ = 0;
  std::map<uint16_t, std::vector<Address>> own_;
  std::map<uint16_t, bool> up_;
};

TEST_F(Mirror, ReadsWhatIsThere) {
  Sh("ip route add 10.7.0.0/16 via 192.0.2.9");
  Sh("ip route add 10.8.0.0/16 via 10.2.0.10 mtu 1300");
  Sh("ip -6 route add 2001:db8:7::/48 via 2001:db8::9");
  Sh("ip route add default via 192.0.2.9");
  Sh("ip route add blackhole 10.66.0.0/16; ip route add unreachable 10.67.0.0/16");
  Open();
  EXPECT_EQ(Find("192.0.2.0/24"), "wire");
  EXPECT_EQ(Find("10.2.0.0/24"), "core");
  EXPECT_EQ(Find("2001:db8::/64"), "wire");
  EXPECT_EQ(Find("10.9.0.1/32"), "guard 03:02") << "the other end of the pair, without ARP";
  EXPECT_EQ(Find("10.66.0.0/16"), "nowhere");
  EXPECT_EQ(Find("10.67.0.0/16"), "nowhere");
  EXPECT_EQ(Find("192.0.2.1/32"), "nowhere") << "the host's own";
  EXPECT_EQ(Find("192.0.2.255/32"), "nowhere") << "broadcast";
  EXPECT_EQ(Find("fe80::/64"), "absent");
  EXPECT_EQ(Find("ff00::/8"), "absent");
  EXPECT_TRUE(up_.at(0) && up_.at(1) && up_.at(2));
  // Gateways are resolved unasked.
  Becomes("10.7.0.0/16", "wire via 192.0.2.9 01:02");
  Becomes("0.0.0.0/0", "wire via 192.0.2.9 01:02");
  Becomes("10.8.0.0/16", "core via 10.2.0.10 02:02");
  Becomes("2001:db8:7::/48", "wire via 2001:db8::9 01:02");
  const auto route = std::ranges::find(fib_.routes, *Prefix::Parse("10.8.0.0/16"), &Route::prefix);
  EXPECT_EQ(fib_.next_hops[route->next_hop].mtu, 1300);
  EXPECT_EQ(fib_.next_hops[route->next_hop].source, (Mac{2, 0, 0, 0, 2, 1}));
}

TEST_F(Mirror, FollowsChanges) {
  Open();
  EXPECT_EQ(Find("10.7.0.0/16"), "absent");
  Sh("ip route add 10.7.0.0/16 via 192.0.2.9");
  Becomes("10.7.0.0/16", "wire via 192.0.2.9 01:02");
  Sh("ip route replace 10.7.0.0/16 via 10.2.0.10");
  Becomes("10.7.0.0/16", "core via 10.2.0.10 02:02");
  Sh("ip route del 10.7.0.0/16");
  Becomes("10.7.0.0/16", "absent");
  Sh("ip addr add 198.51.100.1/24 dev wire0");
  Becomes("198.51.100.0/24", "wire");
  Becomes("198.51.100.1/32", "nowhere");
  Sh("ip addr del 198.51.100.1/24 dev wire0");
  Becomes("198.51.100.0/24", "absent");
}

TEST_F(Mirror, ResolvesOnDemandAndForgets) {
  Open();
  EXPECT_EQ(Find("192.0.2.9/32"), "absent");
  mirror_->Resolve(0, *Address::Parse("192.0.2.9"));
  mirror_->Resolve(0, *Address::Parse("2001:db8::9"));
  Becomes("192.0.2.9/32", "wire via 192.0.2.9 01:02");
  Becomes("2001:db8::9/128", "wire via 2001:db8::9 01:02");
  Sh("ip neigh del 192.0.2.9 dev wire0");
  Becomes("192.0.2.9/32", "absent");
  Settle();
  mirror_->Resolve(0, *Address::Parse("192.0.2.9"));
  Becomes("192.0.2.9/32", "wire via 192.0.2.9 01:02");
}

TEST_F(Mirror, NobodyThereStaysUnresolved) {
  Open();
  mirror_->Resolve(0, *Address::Parse("192.0.2.77"));
  Settle();
  EXPECT_EQ(Find("192.0.2.77/32"), "absent");
  EXPECT_EQ(Find("192.0.2.0/24"), "wire");
}

TEST_F(Mirror, PermanentNeighboursStayPermanent) {
  Sh("ip neigh add 192.0.2.50 lladdr 02:00:00:00:50:50 dev wire0 nud permanent");
  Sh("ip route add 10.50.0.0/16 via 192.0.2.50");
  Open();
  EXPECT_EQ(Find("10.50.0.0/16"), "wire via 192.0.2.50 50:50");
  mirror_->Resolve(0, *Address::Parse("192.0.2.50"));
  Settle();
  Sh("ip neigh show 192.0.2.50 dev wire0 | grep -q PERMANENT");
}

TEST_F(Mirror, AStaleNeighbourInUseIsProbed) {
  Sh("ip neigh add 192.0.2.9 lladdr 02:00:00:00:01:02 dev wire0 nud stale");
  Open();
  EXPECT_EQ(Find("192.0.2.9/32"), "wire via 192.0.2.9 01:02") << "stale is usable";
  mirror_->Touch(0, *Address::Parse("192.0.2.9"));
  // First it waits for a sign of life (DELAY), which no kernel socket gives here.
  Sh("ip neigh show 192.0.2.9 dev wire0 | grep -qE 'DELAY|PROBE|REACHABLE'");
}

TEST_F(Mirror, AGatewayIsKept) {
  Sh("ip route add 10.7.0.0/16 via 192.0.2.9");
  Open();
  Becomes("10.7.0.0/16", "wire via 192.0.2.9 01:02");
  Sh("ip neigh show 192.0.2.9 dev wire0 | grep -q managed");
  // Flushed by somebody: it comes back without a packet.
  Sh("ip neigh del 192.0.2.9 dev wire0");
  Becomes("10.7.0.0/16", "wire via 192.0.2.9");
  Becomes("10.7.0.0/16", "wire via 192.0.2.9 01:02");
}

TEST_F(Mirror, ALinkThatGoesDownTakesItsRoutes) {
  Sh("ip route add 10.7.0.0/16 via 192.0.2.9");
  Open();
  ASSERT_NE(Find("10.7.0.0/16"), "absent");
  Sh("ip link set wire0 down");
  Becomes("10.7.0.0/16", "absent");
  EXPECT_TRUE(Eventually([&] { return !up_.at(0); }));
  EXPECT_EQ(Find("10.2.0.0/24"), "core");
  Sh("ip link set wire0 up");
  EXPECT_TRUE(Eventually([&] { return up_.at(0); }));
  Becomes("192.0.2.0/24", "wire");
}

TEST_F(Mirror, TheFarEndsCarrierCounts) {
  Open();
  EXPECT_TRUE(up_.at(0));
  far_->Run("ip link set peer0 down");
  EXPECT_TRUE(Eventually([&] { return !up_.at(0); }));
  far_->Run("ip link set peer0 up");
  EXPECT_TRUE(Eventually([&] { return up_.at(0); }));
}

TEST_F(Mirror, AnInterfaceThatIsDeleted) {
  Open();
  Sh("ip link del core0");
  Becomes("10.2.0.0/24", "absent");
  EXPECT_FALSE(up_.at(1));
}

TEST_F(Mirror, OwnAddressesAreTold) {
  Open();
  const auto has = [&](uint16_t port, const char* address) {
    return std::ranges::count(own_.at(port), *Address::Parse(address)) == 1;
  };
  EXPECT_TRUE(has(0, "192.0.2.1"));
  EXPECT_TRUE(has(0, "2001:db8::1"));
  EXPECT_TRUE(has(0, "fe80::ff:fe00:101")) << "link-local, for neighbour discovery";
  EXPECT_FALSE(has(0, "10.2.0.1"));
  Sh("ip addr add 192.0.2.2/24 dev wire0");
  EXPECT_TRUE(Eventually([&] { return has(0, "192.0.2.2"); }));
  Sh("ip addr del 192.0.2.2/24 dev wire0");
  EXPECT_TRUE(Eventually([&] { return !has(0, "192.0.2.2"); }));
}

TEST_F(Mirror, ManyChangesAreFewTables) {
  Open();
  Settle();
  const unsigned before = builds_;
  Sh("for i in $(seq 0 199); do echo route add 10.100.$i.0/24 dev core0; done | ip -batch -");
  Becomes("10.100.199.0/24", "core");
  Settle();
  EXPECT_LE(builds_ - before, 10U);
  EXPECT_EQ(Find("10.100.0.0/24"), "core");
  const unsigned quiet = builds_;
  Sh("ip link set dev guard0 alias same");  // news that change nothing
  Settle();
  EXPECT_EQ(builds_, quiet);
}

TEST_F(Mirror, AnOverrunIsMadeGood) {
  Open();
  // More news than the socket holds while nobody reads.
  Sh("for n in 1 2 3; do for a in add del; do for i in $(seq 1 4000); do echo route $a "
     "10.$((100 + i / 250)).$((i % 250)).0/24 dev core0; done; done; done | ip -batch -");
  Sh("ip route add 10.99.0.0/16 dev core0");
  Becomes("10.99.0.0/16", "core");
  Becomes("10.101.1.0/24", "absent");
}

}  // namespace
}  // namespace portcullis
