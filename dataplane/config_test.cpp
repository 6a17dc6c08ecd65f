#include "dataplane/config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

namespace portcullis {
namespace {

constexpr const char* kPorts = R"(ports:
  - { name: wire, role: untrusted, device: { interface: wire0 } }
  - { name: core, role: trusted, device: { interface: core0 } }
)";

// A file that is refused, and what makes it right: `wrong` and `right` are appended to the ports
// above unless they have ports of their own. `says` is all of the message.
struct Case {
  const char* name;
  std::string wrong;
  std::string right;
  const char* says;
};

std::string Whole(const std::string& part) {
  return part.find("ports:") != std::string::npos || part.starts_with('!') ? part : kPorts + part;
}

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class Refused : public testing::TestWithParam<Case> {};

TEST_P(Refused, WithAMessageAndItsTwinPasses) {
  const auto wrong = ParseConfig(Whole(GetParam().wrong), "dp.yaml");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().Text(), GetParam().says);
  const auto right = ParseConfig(Whole(GetParam().right), "dp.yaml");
  EXPECT_TRUE(right) << right.error().Text();
}

std::string TwoPorts(const std::string& second) {
  return "ports:\n  - { name: wire, role: untrusted, device: { interface: wire0 } }\n  - { " +
         second + " }\n";
}
std::string OwnedPorts(const std::string& more) {
  return "ports:\n  - { name: wire, role: untrusted, device: { pci: \"0000:01:00.0\" } }\n"
         "  - { name: core, role: trusted, device: { vdev: net_ring0 } }\n" +
         more;
}

const auto kCases = std::to_array<Case>({
    {"UnknownKey", "worker: { count: 2 }", "workers: { count: 2 }",
     "dp.yaml:4: worker: unknown key; expected \"workers\"?; found \"worker\""},
    {"UnknownKeyWithoutANearOne", "memory: { swap: 1 }", "memory: { buffers: 4096 }",
     "dp.yaml:4: memory.swap: unknown key; expected one of hugepages, megabytes, buffers; "
     "found \"swap\""},
    {"KeyTwice", "lab: true\nlab: false", "lab: true",
     "dp.yaml:5: lab: given twice; expected one; found two"},
    {"NotASection", "workers: 2", "workers: { count: 2 }",
     "dp.yaml:4: workers: not a section; expected a mapping with some of count, cores, idle; "
     "found \"2\""},
    {"NotTruth", "lab: perhaps", "lab: yes",
     "dp.yaml:4: lab: not a truth value; expected true or false; found \"perhaps\""},
    {"InstanceName", "instance: Gate_1", "instance: gate-1",
     "dp.yaml:4: instance: not a name; expected 1 to 16 of a-z, 0-9 and -; found \"Gate_1\""},
    {"NoWorkers", "workers: { count: 0 }", "workers: { count: 1 }",
     "dp.yaml:4: workers.count: not in range; expected a number from 1 to 64; found \"0\""},
    {"WorkersAreANumber", "workers: { count: two }", "workers: { count: 2 }",
     "dp.yaml:4: workers.count: not in range; expected a number from 1 to 64; found \"two\""},
    {"CoresPerWorker", "workers: { count: 2, cores: [1] }", "workers: { count: 2, cores: [1, 2] }",
     "dp.yaml:4: workers.cores: not one core per worker; expected 2 cores; found 1"},
    {"CoreTwice", "workers: { count: 2, cores: [1, 1] }", "workers: { count: 2, cores: [1, 2] }",
     "dp.yaml:4: workers.cores: one core for two workers; expected different cores; found 1, 1"},
    {"Idle", "workers: { idle: nap }", "workers: { idle: poll }",
     "dp.yaml:4: workers.idle: not a known value; expected one of sleep, poll; found \"nap\""},
    {"Hugepages", "memory: { hugepages: always }", "memory: { hugepages: require }",
     "dp.yaml:4: memory.hugepages: not a known value; expected one of auto, require, never; "
     "found \"always\""},
    {"CapacityPowerOfTwo", "sas: { capacity: 10000 }", "sas: { capacity: 8192 }",
     "dp.yaml:4: sas.capacity: not a power of two (the slot is part of the SPI); expected 8192 or "
     "16384; found \"10000\""},
    {"CapacityRange", "sas: { capacity: 32 }", "sas: { capacity: 64 }",
     "dp.yaml:4: sas.capacity: not in range; expected a number from 64 to 1048576; found \"32\""},
    {"Window", "sas: { max_replay_window: 16384 }", "sas: { max_replay_window: 8192 }",
     "dp.yaml:4: sas.max_replay_window: not in range; expected a number from 64 to 8192; found "
     "\"16384\""},
    {"SteeringSocket", "steering: { socket: steer.sock }", "steering: { socket: /run/steer.sock }",
     "dp.yaml:4: steering.socket: not a socket path; expected an absolute path of at most 107 "
     "characters; found \"steer.sock\""},
    {"SteeringUsers", "steering: { users: [] }", "steering: { users: [root, portcullis] }",
     "dp.yaml:4: steering.users: nobody may steer; expected at least one user; found none"},
    {"Fragments", "fragments: keep", "fragments: reassemble",
     "dp.yaml:4: fragments: not a known value; expected one of drop, reassemble; found \"keep\""},
    {"CpuPercent", "auth_failures: { cpu_percent: 101 }", "auth_failures: { cpu_percent: 100 }",
     "dp.yaml:4: auth_failures.cpu_percent: not in range; expected a number from 1 to 100; found "
     "\"101\""},
    {"NeighbourTimeout", "neighbours: { timeout_ms: 1 }", "neighbours: { timeout_ms: 10 }",
     "dp.yaml:4: neighbours.timeout_ms: not in range; expected a number from 10 to 60000; found "
     "\"1\""},
    {"NoPorts", "ports: []", kPorts,
     "dp.yaml:1: ports: nothing faces the wire; expected at least one port of role untrusted; "
     "found none"},
    {"NothingBehind", TwoPorts("name: two, role: untrusted, device: { interface: two0 }"),
     TwoPorts("name: two, role: trusted, device: { interface: two0 }"),
     "dp.yaml:2: ports: nothing lies behind the gate; expected at least one port of role trusted "
     "or local; found none"},
    {"PortsAreAList", "ports: { name: wire }", kPorts,
     "dp.yaml:1: ports: not a list; expected a list; found a mapping"},
    {"PortNameTwice", TwoPorts("name: wire, role: trusted, device: { interface: core0 }"),
     TwoPorts("name: core, role: trusted, device: { interface: core0 }"),
     "dp.yaml:3: ports[1].name: used by two ports; expected a name of its own; found \"wire\""},
    {"DeviceTwice", TwoPorts("name: core, role: trusted, device: { interface: wire0 }"),
     TwoPorts("name: core, role: trusted, device: { interface: core0 }"),
     "dp.yaml:3: ports[1].device: used by two ports; expected a device of its own; found wire0"},
    {"NoRole", TwoPorts("name: core, device: { interface: core0 }"),
     TwoPorts("name: core, role: trusted, device: { interface: core0 }"),
     "dp.yaml:3: ports[1].role: missing; expected one of untrusted, trusted, local, exception; "
     "found nothing"},
    {"NoDevice", TwoPorts("name: core, role: trusted"),
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }"),
     "dp.yaml:3: ports[1].device: missing; expected one of interface, vdev, pci; found nothing"},
    {"TwoDevices", TwoPorts("name: core, role: trusted, device: { interface: a, vdev: net_ring0 }"),
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }"),
     "dp.yaml:3: ports[1].device: not one device; expected exactly one of interface, vdev, pci; "
     "found 2"},
    {"InterfaceName",
     TwoPorts("name: core, role: trusted, device: { interface: a-name-of-sixteen }"),
     TwoPorts("name: core, role: trusted, device: { interface: a-name-of-15-ch }"),
     "dp.yaml:3: ports[1].device.interface: not an interface name; expected up to 15 characters "
     "without space, comma or slash (see `ip link`); found \"a-name-of-sixteen\""},
    {"NotANetVdev", TwoPorts("name: core, role: trusted, device: { vdev: crypto_null0 }"),
     TwoPorts("name: core, role: trusted, device: { vdev: net_null0 }"),
     "dp.yaml:3: ports[1].device.vdev: not a network device of DPDK; expected net_... or "
     "virtio_user...; found \"crypto_null0\""},
    {"AfXdpVdev", TwoPorts("name: core, role: trusted, device: { vdev: \"net_af_xdp0,iface=a\" }"),
     TwoPorts("name: core, role: trusted, device: { interface: a }"),
     "dp.yaml:3: ports[1].device.vdev: AF_XDP is not configured as a vdev; expected device: { "
     "interface: ... }; found \"net_af_xdp0,iface=a\""},
    {"PciAddress", TwoPorts("name: core, role: trusted, device: { pci: \"01:00.0\" }"),
     TwoPorts("name: core, role: trusted, device: { pci: \"0000:01:00.0\" }"),
     "dp.yaml:3: ports[1].device.pci: not a PCI address; expected domain:bus:slot.function as in "
     "0000:01:00.0; found \"01:00.0\""},
    {"AfXdpMtu", TwoPorts("name: core, role: trusted, device: { interface: core0 }, mtu: 9000"),
     TwoPorts("name: core, role: trusted, device: { interface: core0 }, mtu: 3498"),
     "dp.yaml:3: ports[1].mtu: too large for AF_XDP, where a frame must fit into one page; "
     "expected at most 3498; for more give DPDK the device whole (pci); found \"9000\""},
    {"JumboBesideAfXdp",
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, mtu: 9000"),
     "ports:\n  - { name: wire, role: untrusted, device: { pci: \"0000:01:00.0\" } }\n"
     "  - { name: core, role: trusted, device: { vdev: net_ring0 }, mtu: 9000 }",
     "dp.yaml:3: ports[1].mtu: too large beside an AF_XDP port, with which it shares packet "
     "buffers "
     "of one page; expected at most 3498, or no port with interface; found \"9000\""},
    {"SmallMtu", TwoPorts("name: core, role: trusted, device: { interface: core0 }, mtu: 575"),
     TwoPorts("name: core, role: trusted, device: { interface: core0 }, mtu: 576"),
     "dp.yaml:3: ports[1].mtu: not in range; expected a number from 576 to 9216; found \"575\""},
    {"KernelKnowsTheMac",
     TwoPorts("name: core, role: trusted, device: { interface: a }, mac: \"02:00:00:00:00:01\""),
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, mac: \"02:00:00:00:00:01\""),
     "dp.yaml:3: ports[1].mac: the kernel says this for an interface; expected no such key here; "
     "found one"},
    {"Mac", TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, mac: \"02:00:00\""),
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, mac: \"02:00:00:00:00:01\""),
     "dp.yaml:3: ports[1].mac: not a link-layer address; expected six bytes as in "
     "02:00:00:00:00:01; found \"02:00:00\""},
    {"GroupMac",
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, mac: \"01:00:00:00:00:01\""),
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, mac: \"00:00:00:00:00:01\""),
     "dp.yaml:3: ports[1].mac: not the address of one station; expected a unicast address; found "
     "\"01:00:00:00:00:01\""},
    {"PortAddress",
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, addresses: [192.0.2.1/33]"),
     TwoPorts("name: core, role: trusted, device: { vdev: net_ring0 }, addresses: [192.0.2.1/32]"),
     "dp.yaml:3: ports[1].addresses[0]: not an address with its prefix length; expected as in "
     "192.0.2.1/24; found \"192.0.2.1/33\""},
    {"LocalWithoutPrefixes", TwoPorts("name: guard, role: local, device: { interface: guard1 }"),
     TwoPorts("name: guard, role: local, device: { interface: guard1 }, prefixes: [10.9.0.1/32]"),
     "dp.yaml:3: ports[1].prefixes: a local port without anything behind it; expected at least one "
     "prefix; found none"},
    {"PrefixHostBits",
     TwoPorts("name: g, role: local, device: { interface: g1 }, prefixes: [10.9.0.1/24]"),
     TwoPorts("name: g, role: local, device: { interface: g1 }, prefixes: [10.9.0.0/24]"),
     "dp.yaml:3: ports[1].prefixes[0]: bits are set beyond the prefix length; expected a prefix "
     "such "
     "as 10.0.0.0/8 or 2001:db8::/32; found \"10.9.0.1/24\""},
    {"MoreQueuesThanWorkers",
     TwoPorts("name: c, role: trusted, device: { interface: c0 }, queues: 2"),
     TwoPorts("name: c, role: trusted, device: { interface: c0 }, queues: 2") +
         "workers: { count: 2 }\n",
     "dp.yaml:3: ports[1].queues: a queue that no worker serves; expected at most 1, as many as "
     "workers; found \"2\""},
    {"PrefixesOfATrustedPort",
     TwoPorts("name: c, role: trusted, device: { interface: c0 }, prefixes: [10.9.0.0/24]"),
     TwoPorts("name: c, role: local, device: { interface: c0 }, prefixes: [10.9.0.0/24]"),
     "dp.yaml:3: ports[1].prefixes: only a local port has prefixes; expected role: local; found "
     "role: trusted"},
    {"ExceptionForNobody",
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 } }"),
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }"),
     "dp.yaml:4: ports[2].exception: belongs to role exception, and role exception needs it; "
     "expected the name of the port whose host traffic this one carries; found nothing"},
    {"ExceptionOfATrustedPort",
     OwnedPorts("  - { name: x, role: trusted, device: { vdev: net_tap0 }, exception: wire }"),
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }"),
     "dp.yaml:4: ports[2].exception: belongs to role exception, and role exception needs it; "
     "expected the name of the port whose host traffic this one carries; found role: trusted"},
    {"ExceptionForAStranger",
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wired }"),
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }"),
     "dp.yaml:4: ports[2].exception: no such port; expected the name of a port of another role; "
     "found \"wired\""},
    {"ExceptionForAfXdp",
     std::string(kPorts) +
         "  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }",
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }"),
     "dp.yaml:4: ports[2].exception: an AF_XDP port needs no exception port: its host traffic "
     "stays in the kernel; expected a port with vdev or pci; found \"wire\""},
    {"TwoExceptions",
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }\n"
                "  - { name: y, role: exception, device: { vdev: net_tap1 }, exception: wire }"),
     OwnedPorts("  - { name: x, role: exception, device: { vdev: net_tap0 }, exception: wire }\n"
                "  - { name: y, role: exception, device: { vdev: net_tap1 }, exception: core }"),
     "dp.yaml:5: ports[3].exception: has an exception port already; expected one exception port "
     "each; found \"wire\""},
    {"RouteToAStranger",
     OwnedPorts("routes: [{ prefix: 10.0.0.0/8, port: cor, mac: \"02:00:00:00:00:01\" }]"),
     OwnedPorts("routes: [{ prefix: 10.0.0.0/8, port: core, mac: \"02:00:00:00:00:01\" }]"),
     "dp.yaml:4: routes[0].port: no such port; expected the name of a port under ports:; found "
     "\"cor\""},
    {"RouteWithoutMac", OwnedPorts("routes: [{ prefix: 10.0.0.0/8, port: core }]"),
     OwnedPorts("routes: [{ prefix: 10.0.0.0/8, port: core, mac: \"02:00:00:00:00:01\" }]"),
     "dp.yaml:4: routes[0].mac: missing; expected prefix, port and mac; found nothing"},
    {"RouteOfTheKernel", "routes: [{ prefix: 10.0.0.0/8, port: core, mac: \"02:00:00:00:00:01\" }]",
     OwnedPorts("routes: [{ prefix: 10.0.0.0/8, port: core, mac: \"02:00:00:00:00:01\" }]"),
     "dp.yaml:4: routes[0].port: a static route to a port whose routes the kernel has; expected a "
     "port without kernel interface; for this one: ip route add; found \"core\""},
    {"NotYaml", "lab: [true", "lab: true", "dp.yaml:4: not YAML: end of sequence flow not found"},
});

INSTANTIATE_TEST_SUITE_P(Config, Refused, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(Config, DefaultsAreThoseOfTheStruct) {
  const auto config = ParseConfig(kPorts, "dp.yaml");
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->instance, "gate");
  EXPECT_FALSE(config->lab);
  EXPECT_EQ(config->workers.count, 1U);
  EXPECT_EQ(config->workers.idle, Idle::kSleep);
  EXPECT_EQ(config->memory.hugepages, Hugepages::kAuto);
  EXPECT_EQ(config->sas.capacity, 16384U);
  EXPECT_EQ(config->state_file, "/dev/shm/portcullis-gate.state");
  EXPECT_EQ(config->steering.socket, "/run/portcullis/gate/steer.sock");
  EXPECT_EQ(config->steering.users, std::vector<std::string>{"root"});
  EXPECT_EQ(config->fragments, FragmentMode::kDrop);
  EXPECT_TRUE(config->mss_clamp);
  EXPECT_EQ(config->ports[0].mtu, 0);
}

TEST(Config, EverythingIsRead) {
  const auto config = ParseConfig(R"(
instance: lab-2
lab: true
workers: { count: 2, cores: [1, 3], idle: poll }
memory: { hugepages: never, megabytes: 512, buffers: 4096 }
ports:
  - name: wire
    role: untrusted
    device: { vdev: "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap" }
    queues: 2
    mtu: 3000
    mac: "02:00:00:00:00:01"
    addresses: [192.0.2.1/24, "2001:db8::1/64"]
  - { name: host, role: exception, device: { vdev: net_tap0 }, exception: wire }
  - { name: guard, role: local, device: { interface: guard1 }, prefixes: [10.9.0.1/32, "fd00::/64"] }
routes:
  - { prefix: 10.2.0.0/24, port: wire, mac: "02:00:00:00:02:0A" }
sas: { capacity: 1024, max_replay_window: 128 }
state_file: /tmp/state
steering: { socket: /tmp/steer.sock, users: [root, control] }
fragments: reassemble
auth_failures: { per_second: 5, suspect_seconds: 6, cpu_percent: 7 }
mss_clamp: false
neighbours: { queue: 8, timeout_ms: 90 }
)",
                                  "dp.yaml");
  ASSERT_TRUE(config) << config.error().Text();
  EXPECT_EQ(config->instance, "lab-2");
  EXPECT_TRUE(config->lab);
  EXPECT_EQ(config->workers.cores, (std::vector<unsigned>{1, 3}));
  EXPECT_EQ(config->workers.idle, Idle::kPoll);
  EXPECT_EQ(config->memory.hugepages, Hugepages::kNever);
  EXPECT_EQ(config->memory.megabytes, 512U);
  EXPECT_EQ(config->memory.buffers, 4096U);
  ASSERT_EQ(config->ports.size(), 3U);
  const PortConfig& wire = config->ports[0];
  EXPECT_EQ(Text(wire.device), "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap");
  EXPECT_EQ(wire.queues, 2);
  EXPECT_EQ(wire.mtu, 3000);
  EXPECT_EQ(wire.mac, (Mac{2, 0, 0, 0, 0, 1}));
  ASSERT_EQ(wire.addresses.size(), 2U);
  EXPECT_EQ(wire.addresses[0].address.Text(), "192.0.2.1");
  EXPECT_EQ(wire.addresses[0].prefix.Text(), "192.0.2.0/24");
  EXPECT_EQ(wire.addresses[1].prefix.Text(), "2001:db8::/64");
  EXPECT_EQ(config->ports[1].exception_for, "wire");
  EXPECT_EQ(config->ports[2].prefixes[1].Text(), "fd00::/64");
  EXPECT_EQ(config->routes[0].mac, (Mac{2, 0, 0, 0, 2, 10}));
  EXPECT_EQ(config->sas.max_replay_window, 128U);
  EXPECT_EQ(config->state_file, "/tmp/state");
  EXPECT_EQ(config->steering.users[1], "control");
  EXPECT_EQ(config->fragments, FragmentMode::kReassemble);
  EXPECT_EQ(config->auth_failures.per_second, 5U);
  EXPECT_EQ(config->auth_failures.suspect_seconds, 6U);
  EXPECT_EQ(config->auth_failures.cpu_percent, 7U);
  EXPECT_FALSE(config->mss_clamp);
  EXPECT_EQ(config->neighbours.queue, 8U);
  EXPECT_EQ(config->neighbours.timeout_ms, 90U);
}

TEST(Config, TheShippedFileIsRight) {
  const auto config = LoadConfig(SHIPPED_CONFIG);
  EXPECT_TRUE(config) << config.error().Text();
}

// What the shipped file shows as defaults in comments is what the program does.
TEST(Config, TheShippedFileTellsTheDefaults) {
  std::ifstream in(SHIPPED_CONFIG);
  std::string shown;
  for (std::string line; std::getline(in, line);) {
    const size_t hash = line.find("# ");
    const bool is_default =
        hash != std::string::npos && line.find(": ", hash) < line.find("# ", hash + 2);
    for (const char* key : {"lab:", "fragments:", "auth_failures:", "mss_clamp:", "neighbours:"}) {
      if (is_default && line.compare(hash + 2, std::strlen(key), key) == 0) {
        shown += line.substr(hash + 2) + "\n";
      }
    }
  }
  EXPECT_EQ(std::ranges::count(shown, '\n'), 5) << shown;
  const auto told = ParseConfig(kPorts + shown, "dp.yaml");
  const auto silent = ParseConfig(kPorts, "dp.yaml");
  ASSERT_TRUE(told) << told.error().Text();
  EXPECT_EQ(told->lab, silent->lab);
  EXPECT_EQ(told->fragments, silent->fragments);
  EXPECT_EQ(told->auth_failures.per_second, silent->auth_failures.per_second);
  EXPECT_EQ(told->auth_failures.suspect_seconds, silent->auth_failures.suspect_seconds);
  EXPECT_EQ(told->auth_failures.cpu_percent, silent->auth_failures.cpu_percent);
  EXPECT_EQ(told->mss_clamp, silent->mss_clamp);
  EXPECT_EQ(told->neighbours.queue, silent->neighbours.queue);
  EXPECT_EQ(told->neighbours.timeout_ms, silent->neighbours.timeout_ms);
}

TEST(Config, AFileThatIsNotThere) {
  const auto config = LoadConfig("/nowhere/dp.yaml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().Text(), "/nowhere/dp.yaml: cannot be read: No such file or directory");
  EXPECT_FALSE(LoadConfig("/"));
}

}  // namespace
}  // namespace portcullis
