#include "bench/rig.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace portcullis::bench {
namespace {

constexpr uint16_t kDescriptors = 512;
// Enough that nothing is dropped, limited so that the buckets really count.
constexpr Rate kRate = {.packets_per_second = 1'000'000'000, .bits_per_second = 10'000'000'000'000};

std::string Unique(const std::string& name) {
  static unsigned serial = 0;
  return name + std::to_string(serial++);
}

}  // namespace

void Die(const std::string& why) {
  throw std::runtime_error(why);
}

Device::Device(const std::string& driver, const std::string& arguments, rte_mempool* pool,
               uint16_t queues)
    : name_(Unique(driver)) {
  if (rte_vdev_init(name_.c_str(), arguments.c_str()) != 0) {
    Die(fmt::format("no device {},{}: {}", name_, arguments, rte_strerror(rte_errno)));
  }
  rte_eth_dev_get_port_by_name(name_.c_str(), &id_);
  rte_eth_conf conf{};
  bool ok = rte_eth_dev_configure(id_, queues, queues, &conf) == 0;
  for (uint16_t q = 0; ok && q < queues; ++q) {
    ok = rte_eth_rx_queue_setup(id_, q, kDescriptors, SOCKET_ID_ANY, nullptr, pool) == 0 &&
         rte_eth_tx_queue_setup(id_, q, kDescriptors, SOCKET_ID_ANY, nullptr) == 0;
  }
  if (!ok || rte_eth_dev_start(id_) != 0)
    Die(fmt::format("{},{} does not start", name_, arguments));
}

Device::~Device() {
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
  rte_vdev_uninit(name_.c_str());
}

Rig::Rig(const Layout& layout, uint16_t wire, uint16_t core, uint16_t queues, rte_mempool* pool)
    : layout_(layout), path_(Unique(fmt::format("/dev/shm/portcullis-bench-{}-", getpid()))) {
  config_.workers.count = layout.workers;
  config_.workers.idle = Idle::kPoll;
  config_.lab = true;
  // A flood of forgeries is to be measured, not refused.
  config_.auth_failures = {.per_second = 1'000'000'000, .suspect_seconds = 1, .cpu_percent = 100};
  AddPort(wire, PortRole::kUntrusted, queues);
  AddPort(core, PortRole::kTrusted, queues);
  auto engine = MakeIpsecMbEngine();
  if (!engine) Die(engine.error().Text());
  auto file = StateFile::Open(path_, layout.capacity(), "benchmark");
  if (!file) Die(file.error().Text());
  const uint64_t tsc_hz = rte_get_tsc_hz();
  state_ = std::make_unique<State>(
      StateConfig{.sa_capacity = layout.capacity(),
                  .workers = layout.workers,
                  .lab = true,
                  .auth = {.failures_per_second = config_.auth_failures.per_second,
                           .suspect_seconds = 1,
                           .cpu_percent = 100},
                  .tsc_hz = tsc_hz},
      std::move(*engine), std::move(*file));
  auto rings = MakeTransmitRings(ports_, layout.workers);
  if (!rings) Die(rings.error().Text());
  shared_.reset(new WorkerShared{
      .state = *state_,
      .config = config_,
      .ports = ports_,
      .pool = pool,
      .to_main =
          rte_ring_create_elem(Unique("main").c_str(), sizeof(MainMessage), 1024, SOCKET_ID_ANY, 0),
      .handoff = {},
      .transmit_rings = *rings,
      .tsc_hz = tsc_hz});
  for (unsigned w = 0; w < layout.workers; ++w) {
    shared_->handoff.push_back(
        rte_ring_create(Unique("handoff").c_str(), 4096, SOCKET_ID_ANY, RING_F_SC_DEQ));
  }
  for (unsigned w = 0; w < layout.workers; ++w) {
    auto worker = Worker::Make(*shared_, w);
    if (!worker) Die(worker.error().Text());
    workers_.push_back(std::move(*worker));
  }

  FibInput fib;
  for (const auto& [prefix, port] : {std::pair{"10.2.0.0/24", core}, {"192.0.2.0/24", wire}}) {
    fib.routes.push_back({*Prefix::Parse(prefix), static_cast<uint32_t>(fib.next_hops.size())});
    fib.next_hops.push_back({.destination = {2, 0, 0, 0, 1, 1},
                             .source = {2, 0, 0, 0, 0, 1},
                             .port = port,
                             .resolved = true});
  }
  state_->Publish(std::move(*Fib::Build(std::move(fib))));
  HostAddresses hosts(RTE_MAX_ETHPORTS);
  hosts[wire] = {*Address::Parse(layout.client ? "192.0.2.2" : "192.0.2.1")};
  state_->Publish(std::make_unique<const HostAddresses>(std::move(hosts)));
  ApplyPolicy();
}

Rig::~Rig() {
  workers_.clear();
  state_.reset();
  std::remove(path_.c_str());
}

void Rig::AddPort(uint16_t id, PortRole role, uint16_t queues) {
  Port port;
  port.id = id;
  port.name = role == PortRole::kUntrusted ? "wire" : "core";
  port.role = role;
  port.mac = {2, 0, 0, 0, 0, 1};
  port.rx_queues = port.tx_queues = queues;
  ports_.push_back(std::move(port));
}

void Rig::ApplyPolicy() {
  PolicyUpdate update{.generation = 1, .full = true};
  const Prefix servers = *Prefix::Parse("10.2.0.0/24");
  constexpr PortRange kClients = {1024, UINT16_MAX};
  for (uint32_t p = 0; p < layout_.sas; ++p) {
    const Prefix own(layout_.PeerOf(p), 128);
    PeerPolicy peer{.name = "peer-" + std::to_string(p), .tenant = "a", .prefixes = {own}};
    for (uint32_t r = 0; r < layout_.rules; ++r) {
      const auto port = static_cast<uint16_t>(kFirstPort + r);
      const PortRange server = {port, port};
      if (layout_.client) {
        peer.rules.push_back({own, servers, IPPROTO_UDP, kClients, server});
      } else {
        peer.rules.push_back({servers, own, IPPROTO_UDP, server, kClients});
      }
    }
    if (layout_.client) peer.prefixes = {servers};
    peer.rate = kRate;
    update.peers.push_back(std::move(peer));
  }
  if (layout_.first_line) {
    update.first_line = std::make_shared<const FirstLine>(
        FirstLine{.sources = {{*Prefix::Parse("203.0.113.0/24"), false}},
                  .packets = {.per_second = kRate.packets_per_second, .burst = 1U << 30U}});
  }
  if (auto applied = state_->Apply(std::move(update)); !applied) Die(applied.error().Text());
}

void Rig::AddSas(Direction direction) {
  std::vector<SaSpec> specs;
  for (uint32_t i = 0; i < layout_.sas; ++i) {
    SaSpec spec{.id = std::to_string(i), .peer = "peer-" + std::to_string(i)};
    spec.direction = direction;
    spec.spi = layout_.SpiOf(i);
    spec.algorithm = layout_.algorithm;
    spec.key = Secret(layout_.KeyOf(i));
    spec.esn = layout_.esn;
    spec.replay_window = direction == Direction::inbound ? layout_.window : uint16_t{0};
    const Prefix servers = *Prefix::Parse("10.2.0.0/24");
    const Prefix own(layout_.PeerOf(i), 128);
    constexpr PortRange kServers = {kFirstPort, UINT16_MAX};
    constexpr PortRange kClients = {1024, UINT16_MAX};
    if (layout_.client) {
      spec.selectors = {{own, servers, IPPROTO_UDP, kClients, kServers}};
    } else {
      spec.selectors = {{servers, own, IPPROTO_UDP, kServers, kClients}};
    }
    spec.tunnel = {.local = *Address::Parse("192.0.2.1"), .remote = *Address::Parse("192.0.2.2")};
    if (layout_.client) std::swap(spec.tunnel.local, spec.tunnel.remote);
    spec.rate = kRate;
    spec.hard = {.packets = 1ULL << 48U, .bytes = 1ULL << 56U};
    spec.lab = true;
    specs.push_back(std::move(spec));
  }
  for (const auto& added : state_->AddSas(std::move(specs), true)) {
    if (!added.fingerprint) Die(added.fingerprint.error().Text());
  }
  for (uint32_t i = 0; i < layout_.sas; ++i) sas_.push_back(state_->sas().at(std::to_string(i)));
}

void Rig::ResetWindows(size_t first, size_t step) {
  for (size_t i = first; i < sas_.size(); i += step) {
    SaRecord& record = *sas_[i]->record;
    record.highest = 0;
    std::fill_n(record.words(), size_t{record.word_mask} + 1, 0);
  }
}

uint64_t Rig::Count(Verdict verdict) const {
  uint64_t count = 0;
  for (const auto& worker : workers_) {
    count += worker->counters().Read().packets[static_cast<size_t>(verdict)];
  }
  return count;
}

}  // namespace portcullis::bench
