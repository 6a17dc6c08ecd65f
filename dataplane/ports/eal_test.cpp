#include "dataplane/ports/eal.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace portcullis {
namespace {

DataplaneConfig Config(const std::string& more = {}) {
  const auto config = ParseConfig(R"(
instance: t1
ports:
  - { name: wire, role: untrusted, device: { interface: wire0 } }
  - { name: core, role: trusted, device: { vdev: "net_tap0,iface=core0" } }
)" + more,
                                  "dp.yaml");
  EXPECT_TRUE(config) << config.error().Text();
  return *config;
}

const HostFacts kPlain{{0, 1}, 0};
const HostFacts kRich{{0, 1, 2, 3}, 1024};

/// The argument after `option`; empty without it.
std::string After(const EalPlan& plan, const std::string& option) {
  const auto at = std::ranges::find(plan.arguments, option);
  return at == plan.arguments.end() || at + 1 == plan.arguments.end() ? "" : *(at + 1);
}
bool Has(const EalPlan& plan, const std::string& argument) {
  return std::ranges::find(plan.arguments, argument) != plan.arguments.end();
}

TEST(Eal, UnpinnedWorkersShareTheCpus) {
  const auto plan = PlanEal(Config("workers: { count: 2 }"), kPlain);
  ASSERT_TRUE(plan);
  EXPECT_EQ(After(*plan, "--lcores"), "0@(0,1),1@(0,1),2@(0,1)");
  EXPECT_EQ(After(*plan, "--main-lcore"), "0");
}

TEST(Eal, PinnedWorkersHaveTheirCoresAndTheMainThreadTheRest) {
  const auto plan = PlanEal(Config("workers: { count: 2, cores: [3, 1] }"), kRich);
  ASSERT_TRUE(plan);
  EXPECT_EQ(After(*plan, "--lcores"), "0@(0,2),1@(3),2@(1)");
  const auto all = PlanEal(Config("workers: { count: 2, cores: [0, 1] }"), kPlain);
  ASSERT_TRUE(all);
  EXPECT_EQ(After(*all, "--lcores"), "0@(0,1),1@(0),2@(1)") << "none is left for the main thread";
}

TEST(Eal, HugepagesWhenEnoughAreFree) {
  const auto with = PlanEal(Config(), kRich);
  ASSERT_TRUE(with);
  EXPECT_TRUE(with->hugepages);
  EXPECT_TRUE(Has(*with, "--in-memory"));
  EXPECT_FALSE(Has(*with, "--no-huge")) << "they exclude each other";
  EXPECT_EQ(with->note, "");
  const auto without = PlanEal(Config(), kPlain);
  ASSERT_TRUE(without);
  EXPECT_FALSE(without->hugepages);
  EXPECT_TRUE(Has(*without, "--no-huge"));
  EXPECT_FALSE(Has(*without, "--in-memory"));
  EXPECT_EQ(without->note, "no hugepages: 0 MB free, 256 MB wanted; running on normal pages");
  EXPECT_EQ(After(*without, "-m"), "256");
}

TEST(Eal, HugepagesCanBeForbiddenAndRequired) {
  const auto never = PlanEal(Config("memory: { hugepages: never }"), kRich);
  ASSERT_TRUE(never);
  EXPECT_FALSE(never->hugepages);
  EXPECT_EQ(never->note, "") << "as it was wished";
  const auto require = Config("memory: { hugepages: require }");
  const auto lacking = PlanEal(require, kPlain);
  ASSERT_FALSE(lacking);
  EXPECT_EQ(lacking.error().Text(),
            "dp.yaml: memory.hugepages: too few free hugepages; expected 256 MB; found 0 MB");
  EXPECT_TRUE(PlanEal(require, kRich));
}

TEST(Eal, WorkersThatNeverSleepNeedACpuEach) {
  const auto three = Config("workers: { count: 3, idle: poll }");
  const auto refused = PlanEal(three, kPlain);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().Text(),
            "dp.yaml: workers.count: workers that never sleep need a cpu each; expected at most 2, "
            "or idle: sleep; found 3");
  EXPECT_TRUE(PlanEal(three, kRich));
  EXPECT_TRUE(PlanEal(Config("workers: { count: 3 }"), kPlain));
}

TEST(Eal, OnlyConfiguredPciDevices) {
  const auto none = PlanEal(Config(), kPlain);
  ASSERT_TRUE(none);
  EXPECT_TRUE(Has(*none, "--no-pci"));
  DataplaneConfig config = Config();
  config.ports[0].device = PciDevice{"0000:01:00.0"};
  const auto one = PlanEal(config, kPlain);
  ASSERT_TRUE(one);
  EXPECT_FALSE(Has(*one, "--no-pci"));
  EXPECT_EQ(After(*one, "-a"), "0000:01:00.0");
}

TEST(Eal, DeviceNames) {
  const DataplaneConfig config = Config();
  EXPECT_EQ(DeviceName(config.ports[0]), "net_af_xdp_wire");
  EXPECT_EQ(DeviceName(config.ports[1]), "net_tap0");
}

}  // namespace
}  // namespace portcullis
