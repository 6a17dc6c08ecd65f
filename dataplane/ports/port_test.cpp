// Real ports: AF_XDP on one end of a veth pair, a tap, rings, all in network namespaces of the
// test's own. The EAL starts once in a process, so one set of ports serves all tests.
#include "dataplane/ports/port.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>

#include "bpf/loader.hpp"
#include "dataplane/ports/eal.hpp"
#include "dataplane/ports/netlink.hpp"
#include "dataplane/ports/test_namespaces.hpp"

namespace portcullis {
namespace {

const std::string kInstance = fmt::format("t{}", getpid());

std::string Yaml(const std::string& ports) {
  return fmt::format(
      "instance: {}\nlab: true\nworkers: {{ count: 2 }}\nmemory: {{ megabytes: 128 }}\n"
      "ports:\n{}",
      kInstance, ports);
}
const char* const kPorts = R"(
  - { name: wire, role: untrusted, device: { interface: wire0 } }
  - { name: core, role: trusted, device: { interface: core0 } }
  - { name: guard, role: local, device: { vdev: "net_tap0,iface=guard0" }, prefixes: [10.9.0.1/32] }
  - { name: side, role: trusted, device: { vdev: net_ring0 }, mac: "02:00:00:00:07:01",
      addresses: [10.7.0.1/24] }
  - { name: side-host, role: exception, device: { vdev: "net_tap1,iface=side0" }, exception: side }
)";

struct World {
  FarNamespace far;
  DataplaneConfig config;
  std::optional<Ports> ports;
};
World* world = nullptr;

class Start : public testing::Environment {
 public:
  void SetUp() override {
    EnterOwnNamespace();
    world = new World;
    world->far.Wire("wire0", "peer0", 1);
    world->far.Wire("core0", "server0", 2);
    world->far.Run("ip addr replace 192.0.2.9/24 dev peer0");
    world->far.Run("ip neigh replace 192.0.2.1 lladdr 02:00:00:00:01:01 dev peer0 nud permanent");
    Sh(fmt::format("ip link set core0 mtu {}", kMaxAfXdpMtu));
    world->far.Run(fmt::format("ip link set server0 mtu {}", kMaxAfXdpMtu));
    world->config = *ParseConfig(Yaml(kPorts), "dp.yaml");
    const auto started = StartEal(world->config);
    ASSERT_TRUE(started) << started.error().Text();
    auto opened = Ports::Open(world->config);
    ASSERT_TRUE(opened) << opened.error().Text();
    world->ports = *std::move(opened);
  }
  void TearDown() override {
    if (world == nullptr) return;
    world->ports.reset();
    for (const char* port : {"wire", "core"}) {
      const auto detached = XdpPort::Detach(kInstance, port);
      EXPECT_TRUE(detached) << detached.error().Text();
    }
    const std::string runtime = rte_eal_get_runtime_dir();
    rte_eal_cleanup();
    std::filesystem::remove_all(runtime);  // the telemetry socket's place, which DPDK leaves
    delete world;
  }
};
const auto* const kStart = testing::AddGlobalTestEnvironment(new Start);

Port& ThePort(const char* name) {
  return const_cast<Port&>(*world->ports->Find(name));
}

/// What the port receives within a second, the first frame for which `wish` holds.
template <class Wish>
bool Receives(const Port& port, Wish wish) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (std::chrono::steady_clock::now() < end) {
    for (uint16_t q = 0; q < port.rx_queues; ++q) {
      std::array<rte_mbuf*, 32> mbufs{};
      const uint16_t n = rte_eth_rx_burst(port.id, q, mbufs.data(), mbufs.size());
      bool found = false;
      for (rte_mbuf* m : std::span(mbufs.data(), n)) {
        found |= wish(std::span<const uint8_t>(rte_pktmbuf_mtod(m, uint8_t*), m->data_len));
        rte_pktmbuf_free(m);
      }
      if (found) return true;
    }
    usleep(1000);
  }
  return false;
}

TEST(Ports, AreWhatWasConfigured) {
  ASSERT_EQ(world->ports->all().size(), 5U);
  const Port& wire = ThePort("wire");
  EXPECT_EQ(wire.mac, (Mac{2, 0, 0, 0, 1, 1})) << "the interface's own";
  EXPECT_EQ(wire.mtu, 1500);
  EXPECT_EQ(wire.ifindex, static_cast<int>(if_nametoindex("wire0")));
  EXPECT_EQ(wire.tx_queues, 1) << "AF_XDP has as many as receive queues; workers share";
  EXPECT_TRUE(wire.xdp);
  EXPECT_EQ(wire.RxQueueOf(0), 0);
  EXPECT_EQ(wire.RxQueueOf(1), Port::kNone);
  EXPECT_EQ(ThePort("core").mtu, kMaxAfXdpMtu) << "the interface's own";
  EXPECT_EQ(world->ports->FindId(wire.id), &wire);
  EXPECT_EQ(world->ports->FindId(99), nullptr);
}

TEST(Ports, ATapsInterfaceIsItsFarEnd) {
  const Port& guard = ThePort("guard");
  EXPECT_EQ(guard.ifindex, 0);
  EXPECT_EQ(guard.far_ifindex, static_cast<int>(if_nametoindex("guard0")));
  EXPECT_FALSE(guard.xdp);
}

TEST(Ports, AnExceptionPortSpeaksForItsOwner) {
  const Port& side = ThePort("side");
  const Port& host = ThePort("side-host");
  EXPECT_EQ(side.exception, host.id);
  EXPECT_EQ(host.exception_for, side.id);
  EXPECT_EQ(side.ifindex, static_cast<int>(if_nametoindex("side0")));
  EXPECT_EQ(side.mac, (Mac{2, 0, 0, 0, 7, 1}));
  EXPECT_EQ(host.mac, side.mac);
  Sh("ip link show side0 | grep -q 02:00:00:00:07:01");
  EXPECT_EQ(side.tx_queues, 2) << "a queue for each worker where there are as many";
}

TEST(Ports, TheMirrorKnowsThem) {
  Sh("ip addr add 10.7.0.1/24 dev side0; ip link set side0 up; ip link set guard0 up");
  FibInput fib;
  const auto mirror = NetlinkMirror::Open(
      NetworkPorts(*world->ports), {}, {[&](FibInput input) { fib = std::move(input); }, {}, {}});
  ASSERT_TRUE(mirror) << mirror.error().Text();
  const auto hop = [&](const char* prefix) {
    const auto route = std::ranges::find(fib.routes, *Prefix::Parse(prefix), &Route::prefix);
    return route == fib.routes.end() || route->next_hop == Route::kUnreachable
               ? NextHop{}
               : fib.next_hops[route->next_hop];
  };
  EXPECT_EQ(hop("10.9.0.1/32").port, ThePort("guard").id);
  EXPECT_TRUE(hop("10.9.0.1/32").resolved) << "the tap's own MAC";
  EXPECT_EQ(hop("10.7.0.0/24").port, ThePort("side").id) << "the exception interface's route";
  EXPECT_EQ(hop("10.7.0.0/24").source, (Mac{2, 0, 0, 0, 7, 1}));
}

// All that goes there or comes from there is the dataplane's to judge, cleartext too.
void Protect(Port& port, const char* prefix) {
  const XdpPolicy policy{.generation = port.xdp->generation() + 1,
                         .protected_nets = {*Prefix::Parse(prefix)},
                         .cleartext = true,
                         .first_line = {}};
  const auto prepared = port.xdp->Prepare(policy);
  ASSERT_TRUE(prepared) << prepared.error().Text();
  const auto committed = port.xdp->Commit();
  ASSERT_TRUE(committed) << committed.error().Text();
}

TEST(Ports, SaysHowTheyShareTheInterface) {
  const Port& wire = ThePort("wire");
  EXPECT_TRUE(wire.xdp->mode() == "native" || wire.xdp->mode() == "generic") << wire.xdp->mode();
  EXPECT_EQ(wire.af_xdp_mode, "copy") << "veth has no zero-copy";
  EXPECT_EQ(ThePort("side").af_xdp_mode, "") << "no AF_XDP";
}

TEST(Ports, ProtectedTrafficComesInOverAfXdpAndGoesOut) {
  Port& wire = ThePort("wire");
  world->far.Run("ip route replace 10.2.0.0/24 via 192.0.2.1");
  Protect(wire, "10.2.0.0/24");
  world->far.Run("ping -c 3 -i 0.05 -W 0.1 -s 100 10.2.0.10 >/dev/null || true");
  const auto is_ping = [](std::span<const uint8_t> frame) {
    return frame.size() == 14 + 20 + 8 + 100 && frame[12] == 8 && frame[13] == 0 &&
           frame[23] == IPPROTO_ICMP;
  };
  EXPECT_TRUE(Receives(wire, is_ping));

  // And out: what we send on core arrives at the far end's kernel.
  const Port& core = ThePort("core");
  const auto before = *Ports::Read(core);
  rte_mbuf* out = rte_pktmbuf_alloc(world->ports->pool());
  ASSERT_NE(out, nullptr);
  auto* frame = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(out, 60));
  ASSERT_NE(frame, nullptr);
  std::memset(frame, 0, 60);
  const std::array<uint8_t, 14> header = {2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 2, 1, 0x88, 0xb5};
  std::memcpy(frame, header.data(), header.size());
  const auto received = [&] {
    std::array<char, 64> text{};
    const std::string command = fmt::format(
        "nsenter --net=/proc/{}/ns/net cat /proc/net/dev | awk '/server0/ {{print $3}}'",
        world->far.pid());
    FILE* pipe = popen(command.c_str(), "r");
    (void)!fgets(text.data(), text.size(), pipe);
    pclose(pipe);
    return std::strtoul(text.data(), nullptr, 10);
  };
  const unsigned long far_before = received();
  ASSERT_EQ(rte_eth_tx_burst(core.id, 0, &out, 1), 1);
  for (int i = 0; i < 100 && received() == far_before; ++i) usleep(10'000);
  EXPECT_GT(received(), far_before);
  const auto after = *Ports::Read(core);
  EXPECT_EQ(after.tx_packets - before.tx_packets, 1U);
  EXPECT_TRUE(after.link_up);
}

TEST(Ports, AfXdpTakesWholeFramesOfItsLargestMtu) {
  Port& core = ThePort("core");
  world->far.Run("ip addr replace 10.2.0.10/24 dev server0");
  world->far.Run("ip neigh replace 10.2.0.1 lladdr 02:00:00:00:02:01 dev server0 nud permanent");
  world->far.Run("ip route replace 10.1.0.0/24 via 10.2.0.1");
  Protect(core, "10.2.0.0/24");
  world->far.Run(fmt::format("ping -c 2 -i 0.05 -W 0.1 -M do -s {} 10.1.0.2 >/dev/null || true",
                             kMaxAfXdpMtu - 28));
  EXPECT_TRUE(Receives(core, [](std::span<const uint8_t> frame) {
    return frame.size() == size_t{14} + kMaxAfXdpMtu && frame[23] == IPPROTO_ICMP;
  }));
}

TEST(Ports, WhatIsNotProtectedIsDroppedAndCounted) {
  const auto before = *Ports::Read(ThePort("wire"));
  world->far.Run("ip route replace 10.3.0.0/24 via 192.0.2.1");
  world->far.Run("ping -c 3 -i 0.05 -W 0.1 10.3.0.10 >/dev/null || true");
  const auto after = *Ports::Read(ThePort("wire"));
  EXPECT_GE(after.xdp_dropped - before.xdp_dropped, 3U);
}

TEST(Ports, FramesUpToTheMtuHaveRoom) {
  rte_mbuf* m = rte_pktmbuf_alloc(world->ports->pool());
  ASSERT_NE(m, nullptr);
  EXPECT_EQ(rte_pktmbuf_headroom(m), kHeadroom);
  EXPECT_GE(rte_pktmbuf_tailroom(m), 14 + 8 + kMaxAfXdpMtu + kTailroom);
  EXPECT_EQ(m->priv_size, 0);
  rte_pktmbuf_free(m);
}

// What a host can lack; the EAL runs already, so these stop before it or open ports of their own.
class Lacks : public testing::Test {
 protected:
  static std::string Opening(const std::string& ports) {
    const auto config = ParseConfig(Yaml(ports), "dp.yaml");
    EXPECT_TRUE(config) << config.error().Text();
    std::string all;
    for (const Error& error : CheckHost(*config)) all += error.Text() + "\n";
    return all;
  }
};

TEST_F(Lacks, Nothing) {
  EXPECT_EQ(Opening(kPorts), "");
}

TEST_F(Lacks, AnInterface) {
  const std::string said = Opening(
      "  - { name: a, role: untrusted, device: { interface: nowhere0 } }\n"
      "  - { name: b, role: trusted, device: { interface: core0 } }\n");
  EXPECT_EQ(said.find("port a: there is no interface nowhere0 in this network namespace; expected "
                      "an existing one; found "),
            0U)
      << said;
  EXPECT_NE(said.find("wire0"), std::string::npos) << "it says which there are: " << said;
}

TEST_F(Lacks, ALinkThatIsUp) {
  Sh("ip link add down0 type veth peer name down1");
  EXPECT_EQ(Opening("  - { name: a, role: untrusted, device: { interface: down0 } }\n"
                    "  - { name: b, role: trusted, device: { interface: core0 } }\n"),
            "port a: down0 is down; expected ip link set dev down0 up\n");
  Sh("ip link del down0");
}

TEST_F(Lacks, MtuAndQueues) {
  Sh("ip link add big0 mtu 9000 numrxqueues 2 numtxqueues 2 type veth peer name big1 mtu 9000");
  Sh("ip link set big0 up");
  EXPECT_EQ(Opening("  - { name: a, role: untrusted, device: { interface: big0 } }\n"
                    "  - { name: b, role: trusted, device: { interface: wire0 }, mtu: 2000 }\n"),
            "port a: the MTU of big0 is too large for AF_XDP; expected ip link set dev big0 mtu "
            "3498; found 9000\n"
            "port a: big0 has not as many receive queues as the port; expected queues: 2, or "
            "ethtool -L big0 with 1; found queues: 1\n"
            "port b: mtu 2000 is more than wire0 has; expected ip link set dev wire0 mtu 2000; "
            "found 1500\n");
  Sh("ip link del big0");
}

TEST_F(Lacks, ADriverThatDpdkHasNot) {
  DataplaneConfig config =
      *ParseConfig(Yaml("  - { name: a, role: untrusted, device: { vdev: net_nosuch0 } }\n"
                        "  - { name: b, role: trusted, device: { vdev: net_null0 } }\n"),
                   "dp.yaml");
  config.memory.buffers = 2048;  // a pool beside that of the others
  const auto opened = Ports::Open(config);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().Text().find("port a (net_nosuch0): DPDK cannot open net_nosuch0: "), 0U)
      << opened.error().Text();
  config.ports[0].device = VdevDevice{"net_null1"};
  const auto right = Ports::Open(config);
  EXPECT_TRUE(right) << right.error().Text();
}

TEST_F(Lacks, QueuesOfADevice) {
  DataplaneConfig config = *ParseConfig(
      Yaml(
          "  - { name: a, role: untrusted, device: { vdev: \"net_tap7,iface=tap7\" }, queues: 2 }\n"
          "  - { name: b, role: trusted, device: { vdev: net_null2 }, mtu: 1600 }\n"),
      "dp.yaml");
  config.memory.buffers = 4096;
  config.ports[0].queues = 17;
  {
    const auto refused = Ports::Open(config);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().Text(),
              "port a (net_tap7,iface=tap7): the device has not that many receive queues; expected "
              "queues: 16 or fewer; found 17");
  }
  config.ports[0].queues = 2;
  const auto right = Ports::Open(config);
  EXPECT_TRUE(right) << right.error().Text();
}

TEST_F(Lacks, Buffers) {
  DataplaneConfig config = *ParseConfig(Yaml(kPorts), "dp.yaml");
  config.memory.buffers = 4096;
  const auto refused = Ports::Open(config);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().Text(),
            "dp.yaml: memory.buffers: too few for the rings of the ports; expected at least 9920; "
            "found 4096");
}

}  // namespace
}  // namespace portcullis
