#include "dataplane/ports/kernel_routes.hpp"

#include <gtest/gtest.h>
#include <linux/rtnetlink.h>

#include <algorithm>

namespace portcullis {
namespace {

constexpr Mac kWireMac{2, 0, 0, 0, 0, 1}, kCoreMac{2, 0, 0, 0, 0, 2}, kGuardMac{2, 0, 0, 0, 0, 3};
constexpr Mac kPeerMac{2, 0, 0, 0, 0, 9}, kFarMac{2, 0, 0, 0, 0, 4};
constexpr int kWire = 10, kCore = 11, kGuard = 12, kFar = 13, kOther = 14;

/// Three ports: wire (0), core (1), guard (2, local, prefix 10.9.0.0/24); far is guard's other end.
class Routes : public testing::Test {
 protected:
  void SetUp() override {
    kernel_.links = {{kWire, kWireMac, 1500, true, 0, 0},
                     {kCore, kCoreMac, 1400, true, 0, 0},
                     {kGuard, kGuardMac, 1500, true, 0, kFar},
                     {kFar, kFarMac, 1500, true, 0, kGuard},
                     {kOther, {}, 1500, true, 0, 0}};
    ports_ = {{0, "wire", PortRole::kUntrusted, kWire, 0, kWireMac, 1500, {}, {}},
              {1, "core", PortRole::kTrusted, kCore, 0, kCoreMac, 1500, {}, {}},
              {2,
               "guard",
               PortRole::kLocal,
               kGuard,
               0,
               kGuardMac,
               1500,
               {},
               {*Prefix::Parse("10.9.0.0/24")}}};
  }

  KernelRoute& Route(const char* prefix, int ifindex, const char* gateway = nullptr) {
    KernelRoute route;
    route.prefix = *Prefix::Parse(prefix);
    route.table = RT_TABLE_MAIN;
    route.forwards = true;
    KernelHop hop{ifindex, {}};
    if (gateway != nullptr) hop.gateway = *Address::Parse(gateway);
    route.hops.push_back(hop);
    return kernel_.routes.emplace_back(route);
  }
  KernelRoute& Nowhere(const char* prefix, uint32_t table = RT_TABLE_MAIN) {
    KernelRoute& route = Route(prefix, 0);
    route.table = table;
    route.forwards = false;
    route.hops.clear();
    return route;
  }
  void Neighbour(int ifindex, const char* address, bool usable = true) {
    kernel_.neighbours.push_back(
        {ifindex, *Address::Parse(address), kPeerMac, usable, false, false});
  }

  /// "wire", "wire via 192.0.2.9", "wire 02:..:09" (resolved), "nowhere" or "absent".
  std::string Find(const char* prefix) {
    const CompiledRoutes compiled = CompileRoutes(kernel_, ports_, statics_);
    const auto route =
        std::ranges::find(compiled.fib.routes, *Prefix::Parse(prefix), &portcullis::Route::prefix);
    if (route == compiled.fib.routes.end()) return "absent";
    if (route->next_hop == portcullis::Route::kUnreachable) return "nowhere";
    hop_ = compiled.fib.next_hops[route->next_hop];
    std::string text = ports_[hop_.port].name;
    if (hop_.gateway != Address()) text += " via " + hop_.gateway.Text();
    if (hop_.resolved) text += fmt::format(" {:02x}", hop_.destination[5]);
    return text;
  }

  KernelState kernel_;
  std::vector<NetworkPort> ports_;
  std::vector<StaticRoute> statics_;
  NextHop hop_;  // of the last Find
};

TEST_F(Routes, OnLinkAndGateway) {
  Route("192.0.2.0/24", kWire);
  Route("10.2.0.0/16", kCore, "10.1.0.9");
  Route("2001:db8::/32", kWire, "fe80::9");
  EXPECT_EQ(Find("192.0.2.0/24"), "wire");
  EXPECT_EQ(hop_.source, kWireMac);
  EXPECT_EQ(hop_.mtu, 1500);
  EXPECT_EQ(Find("10.2.0.0/16"), "core via 10.1.0.9");
  EXPECT_EQ(hop_.mtu, 1400) << "the link's, which is less than the port's";
  EXPECT_EQ(Find("2001:db8::/32"), "wire via fe80::9");
  const auto gateways = CompileRoutes(kernel_, ports_, statics_).gateways;
  ASSERT_EQ(gateways.size(), 2U);
  EXPECT_EQ(gateways[0], std::pair(uint16_t{0}, *Address::Parse("fe80::9")));
  EXPECT_EQ(gateways[1], std::pair(uint16_t{1}, *Address::Parse("10.1.0.9")));
}

TEST_F(Routes, NeighboursResolve) {
  Route("192.0.2.0/24", kWire);
  Route("10.2.0.0/16", kWire, "192.0.2.9");
  Route("2001:db8::/32", kWire, "fe80::9");
  Neighbour(kWire, "192.0.2.9");
  Neighbour(kWire, "192.0.2.10", false);
  Neighbour(kWire, "fe80::9");
  EXPECT_EQ(Find("192.0.2.9"), "wire via 192.0.2.9 09");
  EXPECT_EQ(Find("192.0.2.10"), "absent") << "an unusable entry falls to the on-link prefix";
  EXPECT_EQ(Find("192.0.2.0/24"), "wire");
  EXPECT_EQ(Find("10.2.0.0/16"), "wire via 192.0.2.9 09");
  EXPECT_EQ(Find("2001:db8::/32"), "wire via fe80::9 09") << "a gateway may be link-local";
  EXPECT_EQ(Find("fe80::9"), "absent") << "a destination may not";
}

TEST_F(Routes, ANeighbourDrawsNoTrafficAway) {
  Route("10.2.0.0/24", kCore);
  Route("10.3.0.0/24", kWire, "192.0.2.9");
  Neighbour(kWire, "10.2.0.10");  // claimed on the wire, but it lives behind core
  Neighbour(kWire, "10.3.0.10");  // behind a gateway
  Neighbour(kWire, "10.9.0.1");   // behind the local port
  EXPECT_EQ(Find("10.2.0.10"), "absent");
  EXPECT_EQ(Find("10.3.0.10"), "absent");
  EXPECT_EQ(Find("10.9.0.1"), "absent");
  Neighbour(kCore, "10.2.0.10");
  EXPECT_EQ(Find("10.2.0.10"), "core via 10.2.0.10 09");
}

TEST_F(Routes, LocalPrefixComesFirst) {
  EXPECT_EQ(Find("10.9.0.0/24"), "guard 04") << "the other end's MAC, without ARP";
  EXPECT_EQ(hop_.source, kGuardMac);
  Route("10.9.0.5/32", kWire);
  Route("10.9.0.0/24", kCore);
  Nowhere("10.9.0.1/32", RT_TABLE_LOCAL);
  EXPECT_EQ(Find("10.9.0.0/24"), "guard 04");
  EXPECT_EQ(Find("10.9.0.5"), "absent");
  EXPECT_EQ(Find("10.9.0.1"), "absent");
  Route("10.9.0.128/25", kGuard, "10.9.0.7");
  EXPECT_EQ(Find("10.9.0.128/25"), "guard via 10.9.0.7") << "its own port may say more";
}

TEST_F(Routes, LocalPortWithoutAFarEndHereNeedsItsNeighbour) {
  kernel_.links[2].veth_peer = 0;
  EXPECT_EQ(Find("10.9.0.0/24"), "guard");
  Neighbour(kGuard, "10.9.0.1");
  EXPECT_EQ(Find("10.9.0.1"), "guard via 10.9.0.1 09");
}

TEST_F(Routes, TapsFarEndIsTheKernelsInterface) {
  ports_[2].ifindex = 0;
  ports_[2].far_ifindex = kFar;
  Route("10.8.0.0/24", kFar);  // the kernel's way to us, not ours
  EXPECT_EQ(Find("10.9.0.0/24"), "guard 04");
  EXPECT_EQ(Find("10.8.0.0/24"), "nowhere");
}

TEST_F(Routes, NowhereHidesWhatIsLessSpecific) {
  Route("0.0.0.0/0", kWire, "192.0.2.9");
  Nowhere("10.5.0.0/16");
  Route("10.6.0.0/16", kOther);
  EXPECT_EQ(Find("0.0.0.0/0"), "wire via 192.0.2.9");
  EXPECT_EQ(Find("10.5.0.0/16"), "nowhere");
  EXPECT_EQ(Find("10.6.0.0/16"), "nowhere") << "the kernel leads it elsewhere";
}

TEST_F(Routes, TheHostsOwnAddressesAndBroadcasts) {
  Route("192.0.2.0/24", kWire);
  Nowhere("192.0.2.1/32", RT_TABLE_LOCAL);
  Nowhere("192.0.2.255/32", RT_TABLE_LOCAL);
  Neighbour(kWire, "192.0.2.255");
  EXPECT_EQ(Find("192.0.2.1"), "nowhere");
  EXPECT_EQ(Find("192.0.2.255"), "nowhere");
}

TEST_F(Routes, NeverForwarded) {
  for (const char* prefix :
       {"fe80::/64", "ff00::/8", "224.0.0.0/4", "127.0.0.0/8", "169.254.0.0/16", "::1/128"}) {
    Route(prefix, kWire);
    EXPECT_EQ(Find(prefix), "absent") << prefix;
  }
  Route("fd00::/64", kWire);
  EXPECT_EQ(Find("fd00::/64"), "wire");
}

TEST_F(Routes, TheLowerMetricWins) {
  Route("10.2.0.0/16", kWire).metric = 200;
  Route("10.2.0.0/16", kCore).metric = 100;
  EXPECT_EQ(Find("10.2.0.0/16"), "core");
  Nowhere("10.2.0.0/16").metric = 50;
  EXPECT_EQ(Find("10.2.0.0/16"), "nowhere");
}

TEST_F(Routes, OursBeforeAnotherInterfacesOfTheSamePrefix) {
  Route("0.0.0.0/0", kOther, "198.51.100.1").metric = 100;
  EXPECT_EQ(Find("0.0.0.0/0"), "nowhere");
  Route("0.0.0.0/0", kWire, "192.0.2.9").metric = 200;
  EXPECT_EQ(Find("0.0.0.0/0"), "wire via 192.0.2.9");
}

TEST_F(Routes, TheFirstLivingHopOfSeveral) {
  KernelRoute& route = Route("10.2.0.0/16", kCore, "10.1.0.9");
  route.hops.push_back({kCore, *Address::Parse("10.1.0.10")});
  EXPECT_EQ(Find("10.2.0.0/16"), "core via 10.1.0.9");
  kernel_.routes[0].hops.erase(kernel_.routes[0].hops.begin());
  EXPECT_EQ(Find("10.2.0.0/16"), "core via 10.1.0.10");
  kernel_.routes[0].hops.clear();
  EXPECT_EQ(Find("10.2.0.0/16"), "nowhere") << "all are down";
}

TEST_F(Routes, ARoutesMtuIsRespectedDownwards) {
  Route("10.2.0.0/16", kCore).mtu = 1300;
  Route("10.3.0.0/16", kCore).mtu = 9000;
  EXPECT_EQ(Find("10.2.0.0/16"), "core");
  EXPECT_EQ(hop_.mtu, 1300);
  EXPECT_EQ(Find("10.3.0.0/16"), "core");
  EXPECT_EQ(hop_.mtu, 1400);
}

TEST_F(Routes, APortInAVrfFollowsItsTable) {
  kernel_.links[0].table = 100;
  Route("10.2.0.0/16", kWire);
  EXPECT_EQ(Find("10.2.0.0/16"), "nowhere") << "the main table is not the port's";
  kernel_.routes[0].table = 100;
  EXPECT_EQ(Find("10.2.0.0/16"), "wire");
}

TEST_F(Routes, AVrfsUnreachableDefaultHidesNoOtherVrfsRoute) {
  kernel_.links[0].table = 100;
  kernel_.links[1].table = 200;
  Nowhere("0.0.0.0/0", 100).metric = 4278198272;
  EXPECT_EQ(Find("0.0.0.0/0"), "nowhere");
  Route("0.0.0.0/0", kCore, "10.1.0.9").table = 200;
  EXPECT_EQ(Find("0.0.0.0/0"), "core via 10.1.0.9");
}

TEST_F(Routes, APortWithoutKernelInterfaceIsTold) {
  ports_ = {
      {0,
       "wire",
       PortRole::kUntrusted,
       0,
       0,
       kWireMac,
       1500,
       {*InterfaceAddress::Parse("192.0.2.1/24")},
       {}},
      {1, "guard", PortRole::kLocal, 0, 0, kGuardMac, 1500, {}, {*Prefix::Parse("10.9.0.0/24")}}};
  statics_ = {{*Prefix::Parse("10.2.0.0/16"), "wire", kPeerMac}};
  EXPECT_EQ(Find("10.2.0.0/16"), "wire 09");
  EXPECT_EQ(hop_.source, kWireMac);
  EXPECT_EQ(Find("192.0.2.0/24"), "wire");
  EXPECT_EQ(Find("192.0.2.1"), "nowhere") << "its own address";
  EXPECT_EQ(Find("10.9.0.0/24"), "guard");
  statics_.push_back({*Prefix::Parse("10.9.0.0/24"), "guard", kPeerMac});
  EXPECT_EQ(Find("10.9.0.0/24"), "guard 09");
  statics_.push_back({*Prefix::Parse("10.9.0.1/32"), "wire", kPeerMac});
  EXPECT_EQ(Find("10.9.0.1"), "absent") << "another port has no say inside a local prefix";
}

TEST_F(Routes, NextHopsAreShared) {
  for (int i = 0; i < 100; ++i) Route(fmt::format("10.2.{}.0/24", i).c_str(), kCore, "10.1.0.9");
  const CompiledRoutes compiled = CompileRoutes(kernel_, ports_, statics_);
  EXPECT_EQ(compiled.fib.routes.size(), 101U);
  EXPECT_EQ(compiled.fib.next_hops.size(), 2U);
  EXPECT_EQ(compiled.gateways.size(), 1U);
}

}  // namespace
}  // namespace portcullis
