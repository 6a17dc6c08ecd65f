// A gate inside one test program: the real pipeline on net_ring ports, its workers driven round by
// round, so that every burst is the test's own; or by threads of their own (Start). Two ports: 0
// the wire, 1 the trusted side. Worker 0 receives and sends; others get what is handed to them.
#pragma once

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include <cstdio>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/crypto/iv.hpp"
#include "dataplane/esp/header.hpp"
#include "dataplane/esp/sequence.hpp"
#include "dataplane/packet/rewrite.hpp"
#include "dataplane/pipeline/test_order.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {

using Bytes = std::vector<uint8_t>;

class TestGate {
 public:
  static constexpr uint16_t kWire = 0;
  static constexpr uint16_t kCore = 1;
  static constexpr unsigned kRing = 2048;

  explicit TestGate(unsigned workers = 1, const AuthFailureConfig& auth = {},
                    bool reassemble = false)
      : path_("/dev/shm/portcullis-test-" + std::to_string(getpid()) + ".state") {
    StartEalOnce();
    config_.workers.count = workers;
    config_.auth_failures = auth;
    if (reassemble) config_.fragments = FragmentMode::kReassemble;
    config_.lab = true;
    config_.neighbours.queue = 16;
    for (uint16_t p : {kWire, kCore}) AddPort(p);
    auto engine = MakeIpsecMbEngine();
    auto file = StateFile::Open(path_, kCapacity, "test-boot");
    if (!engine || !file) throw std::runtime_error("no engine or state file");
    state_ = std::make_unique<State>(
        StateConfig{
            .sa_capacity = kCapacity, .workers = workers, .lab = true, .tsc_hz = rte_get_tsc_hz()},
        std::move(*engine), std::move(*file));
    shared_.reset(new WorkerShared{
        .state = *state_,
        .config = config_,
        .ports = ports_,
        .pool = Pool(),
        .to_main = rte_ring_create_elem(Unique("main").c_str(), 64, 1024, SOCKET_ID_ANY, 0),
        .handoff = {},
        .transmit_rings = *MakeTransmitRings(ports_, workers),
        .tsc_hz = rte_get_tsc_hz()});
    for (unsigned w = 0; w < workers; ++w) {
      shared_->handoff.push_back(
          rte_ring_create(Unique("handoff").c_str(), 1024, SOCKET_ID_ANY, 0));
    }
    for (unsigned w = 0; w < workers; ++w) {
      workers_.push_back(std::move(*Worker::Make(*shared_, w)));
    }
    Route("10.2.0.0/16", kCore);
    Route("2001:db8:2::/48", kCore);
    Route("192.0.2.0/24", kWire);
    Route("2001:db8::/48", kWire);
    state_->Publish(std::move(*Fib::Build(fib_)));
    HostAddresses hosts(RTE_MAX_ETHPORTS);
    hosts[kWire] = {*Address::Parse("192.0.2.1"), *Address::Parse("2001:db8::1")};
    state_->Publish(std::make_unique<const HostAddresses>(std::move(hosts)));
  }
  ~TestGate() {
    Stop();
    workers_.clear();
    state_.reset();
    std::remove(path_.c_str());
  }

  static rte_mempool* Pool() {
    static rte_mempool* pool = TestPool::Make("test", 8191);
    return pool;
  }
  State& state() { return *state_; }
  Worker& worker() { return *workers_[0]; }
  DataplaneConfig& config() { return config_; }
  Port& port(uint16_t id) { return ports_[id]; }

  /// From here on the workers run by themselves, as in the program.
  void Start() {
    for (const auto& worker : workers_) threads_.emplace_back([&worker] { worker->Run(); });
  }
  void Stop() {
    shared_->stop = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  /// As if the kernel had not resolved (or had resolved again) the neighbours on a port.
  void Resolve(uint16_t port, bool resolved) {
    for (NextHop& hop : fib_.next_hops) {
      if (hop.port == port) hop.resolved = resolved;
    }
    state_->Publish(std::move(*Fib::Build(fib_)));
  }
  void AddRoute(const char* prefix, uint16_t port) {
    Route(prefix, port);
    state_->Publish(std::move(*Fib::Build(fib_)));
  }
  /// What the workers have told the main thread since the last call.
  std::vector<MainMessage> Told() {
    std::vector<MainMessage> told;
    MainMessage message;
    while (rte_ring_sc_dequeue_bulk_elem(shared_->to_main, &message, sizeof(message), 1, nullptr)) {
      told.push_back(message);
    }
    return told;
  }

  /// One peer, "csmf", at 10.1.0.0/16 and 2001:db8:1::/48, that may reach `rules` (default: all).
  void Policy(std::vector<Selector> rules = {Selector{}}, Rate rate = {}) {
    PolicyUpdate update{.full = true};
    update.peers.push_back(Peer("csmf", {"10.1.0.0/16", "2001:db8:1::/48"}));
    update.peers.back().rules = std::move(rules);
    update.peers.back().rate = rate;
    Apply(std::move(update));
  }
  static PeerPolicy Peer(const std::string& name, const std::vector<const char*>& prefixes) {
    PeerPolicy peer{.name = name, .tenant = "a", .rules = {Selector{}}};
    for (const char* prefix : prefixes) peer.prefixes.push_back(*Prefix::Parse(prefix));
    return peer;
  }
  /// The next generation, whatever `update` says.
  void Apply(PolicyUpdate update) {
    update.base_generation = generation_;
    update.generation = ++generation_;
    if (auto applied = state_->Apply(std::move(update)); !applied) {
      throw std::runtime_error(applied.error().Text());
    }
  }

  struct SaOptions {
    Algorithm algorithm = Algorithm::aes_128_gcm_16;
    bool esn = true;
    uint16_t window = 1024;
    uint8_t key_byte = 0;  // 0: a key never used before in this program
    std::vector<Selector> selectors = {Selector{}};
    Rate rate = {};
    Limits hard = {};
    const char* peer = "csmf";
    Tunnel tunnel = {.local = *Address::Parse("192.0.2.1"), .remote = *Address::Parse("192.0.2.2")};
    const char* replaces = "";
  };
  /// Adds an SA and says with what key.
  Bytes AddSa(const std::string& id, Direction direction, uint32_t spi, const SaOptions& options) {
    Bytes key(Info(options.algorithm).key_bytes, options.key_byte);
    static uint32_t serial = 0;
    if (options.key_byte == 0) std::memcpy(key.data(), &++serial, sizeof(serial));
    SaSpec spec{.id = id, .peer = options.peer, .direction = direction, .spi = Spi{spi}};
    spec.algorithm = options.algorithm;
    spec.key = Secret(key);
    spec.esn = options.esn;
    spec.replay_window = direction == Direction::inbound ? options.window : 0;
    spec.selectors = options.selectors;
    spec.tunnel = options.tunnel;
    spec.replaces = options.replaces;
    spec.rate = options.rate;
    spec.hard = options.hard;
    spec.lab = true;
    std::vector<SaSpec> specs;
    specs.push_back(std::move(spec));
    const auto added = state_->AddSas(std::move(specs), true);
    if (!added[0].fingerprint) throw std::runtime_error(added[0].fingerprint.error().Text());
    return key;
  }

  /// Puts a frame on a port. False: its queue is full.
  bool Offer(uint16_t in, const Bytes& frame) {
    rte_mbuf* mbuf = rte_pktmbuf_alloc(Pool());
    if (mbuf == nullptr) throw std::runtime_error("no buffer");
    std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size())), frame.data(),
                frame.size());
    Rings(in).order.received.Release();
    if (rte_ring_enqueue(Rings(in).rx, mbuf) == 0) return true;
    rte_pktmbuf_free(mbuf);
    return false;
  }
  /// Puts frames on a port and runs rounds until all are judged; returns what left by `out`.
  std::vector<Bytes> Run(uint16_t in, const std::vector<Bytes>& frames, uint16_t out) {
    for (const Bytes& frame : frames) {
      if (!Offer(in, frame)) throw std::runtime_error("ring full");
    }
    Rounds();
    return Left(out);
  }
  /// Every worker, until none finds anything to do.
  void Rounds() {
    for (unsigned handled = 1; handled > 0;) {
      handled = 0;
      for (const auto& worker : workers_) handled += worker->Round();
    }
  }
  /// What left by `out` since the last call; what left by the other port is forgotten.
  std::vector<Bytes> Left(uint16_t out) {
    Take(out == kWire ? kCore : kWire);
    return Take(out);
  }
  /// What left by `port` since the last call.
  std::vector<Bytes> Take(uint16_t port) {
    std::vector<Bytes> left;
    void* mbuf = nullptr;
    while (rte_ring_dequeue(Rings(port).tx, &mbuf) == 0) {
      Rings(port).order.sent.Acquire();
      auto* m = static_cast<rte_mbuf*>(mbuf);
      const auto* data = rte_pktmbuf_mtod(m, const uint8_t*);
      left.emplace_back(data, data + rte_pktmbuf_data_len(m));
      rte_pktmbuf_free(m);
    }
    return left;
  }
  [[nodiscard]] uint64_t Count(Verdict verdict) const {
    uint64_t count = 0;
    for (const auto& worker : workers_) {
      count += worker->counters().Read().packets[static_cast<size_t>(verdict)];
    }
    return count;
  }
  /// How many packets have a verdict, by whatever name.
  [[nodiscard]] uint64_t Judged() const {
    uint64_t count = 0;
    for (const auto& worker : workers_) {
      const auto packets = worker->counters().Read().packets;
      count = std::accumulate(packets.begin(), packets.end(), count);
    }
    return count;
  }
  [[nodiscard]] uint64_t CountOfSa(const std::string& id, Verdict verdict) const {
    return state_->sas().at(id)->counters.Read().packets[static_cast<size_t>(verdict)];
  }

 private:
  static constexpr uint32_t kCapacity = 4096;
  struct Pair {
    rte_ring* rx;
    rte_ring* tx;
    TestPortOrder order;
  };

  static void StartEalOnce() {
    static const bool kStarted = [] {
      const char* args[] = {
          "test",           "--no-huge",        "-m", "256", "--no-pci", "-l", "0", "--no-shconf",
          "--no-telemetry", "--log-level=error"};
      if (rte_eal_init(static_cast<int>(std::size(args)), const_cast<char**>(args)) < 0) {
        throw std::runtime_error("EAL did not start");
      }
      return true;
    }();
    (void)kStarted;
  }
  static std::string Unique(const std::string& name) {
    static unsigned serial = 0;
    return name + "_" + std::to_string(serial++);
  }
  // The ports live as long as the program: the EAL has no second start.
  static Pair& Rings(uint16_t port) {
    static Pair pairs[2];
    return pairs[port];
  }
  void AddPort(uint16_t id) {
    Pair& pair = Rings(id);
    if (pair.rx == nullptr) {
      pair.rx = rte_ring_create(Unique("rx").c_str(), kRing, SOCKET_ID_ANY, 0);
      pair.tx = rte_ring_create(Unique("tx").c_str(), kRing, SOCKET_ID_ANY, 0);
      const int port = rte_eth_from_rings(Unique("port").c_str(), &pair.rx, 1, &pair.tx, 1, 0);
      rte_eth_conf conf{};
      const auto p = static_cast<uint16_t>(port);
      if (port != id || rte_eth_dev_configure(p, 1, 1, &conf) != 0 ||
          rte_eth_rx_queue_setup(p, 0, 64, 0, nullptr, Pool()) != 0 ||
          rte_eth_tx_queue_setup(p, 0, 64, 0, nullptr) != 0 || rte_eth_dev_start(p) != 0 ||
          !pair.order.Attach(p)) {
        throw std::runtime_error("no ring port");
      }
    }
    Port port;
    port.id = id;
    port.name = id == kWire ? "wire" : "core";
    port.role = id == kWire ? PortRole::kUntrusted : PortRole::kTrusted;
    port.mac = {2, 0, 0, 0, 0, static_cast<uint8_t>(id + 1)};
    ports_.push_back(std::move(port));
  }
  void Route(const char* prefix, uint16_t port) {
    fib_.routes.push_back({*Prefix::Parse(prefix), static_cast<uint32_t>(fib_.next_hops.size())});
    fib_.next_hops.push_back({.destination = {2, 0, 0, 0, 1, static_cast<uint8_t>(port)},
                              .source = {2, 0, 0, 0, 0, static_cast<uint8_t>(port + 1)},
                              .port = port,
                              .resolved = true});
  }

  std::string path_;
  DataplaneConfig config_;
  std::vector<Port> ports_;
  FibInput fib_;
  std::unique_ptr<State> state_;
  std::unique_ptr<WorkerShared> shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  uint64_t generation_ = 0;
};

/// An IPv4 UDP packet of `size` bytes, without Ethernet.
inline Bytes InnerPacket(size_t size, const char* from = "10.1.0.2", const char* to = "10.2.0.10",
                         uint16_t from_port = 40000, uint16_t to_port = 8080) {
  Bytes packet(size, 0x5a);
  auto* ip = reinterpret_cast<rte_ipv4_hdr*>(packet.data());
  *ip = {};
  ip->version_ihl = RTE_IPV4_VHL_DEF;
  ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(size));
  ip->time_to_live = 64;
  ip->next_proto_id = 17;
  std::memcpy(&ip->src_addr, Address::Parse(from)->wire().data(), 4);
  std::memcpy(&ip->dst_addr, Address::Parse(to)->wire().data(), 4);
  SetIpv4Checksum(packet.data());
  const be16 ports[2] = {be16(from_port), be16(to_port)};
  std::memcpy(&packet[20], ports, sizeof(ports));
  return packet;
}

inline Bytes WithEthernet(const Bytes& ip) {
  Bytes frame(12, 2);
  frame.push_back(ip[0] >> 4U == 4 ? 0x08 : 0x86);
  frame.push_back(ip[0] >> 4U == 4 ? 0x00 : 0xdd);
  frame.insert(frame.end(), ip.begin(), ip.end());
  return frame;
}

/// The other ESP party: seals packets with any sequence number.
class TestSender {
 public:
  TestSender(Algorithm algorithm, const Bytes& key, uint32_t spi, bool esn)
      : algorithm_(algorithm), spi_(spi), esn_(esn), engine_(*MakeIpsecMbEngine()) {
    if (!engine_->Expand(algorithm, key, schedule_)) throw std::runtime_error("key");
  }
  static constexpr size_t kEspAt = 14 + 20;

  /// A frame: Ethernet, IPv4 192.0.2.2 → 192.0.2.1, ESP.
  Bytes Seal(const Bytes& inner, uint64_t sequence, uint8_t next_header = 4) {
    const uint32_t pad = EspPadLength(algorithm_, static_cast<uint32_t>(inner.size()));
    Bytes payload = inner;
    payload.resize(inner.size() + pad + sizeof(EspTrailer));
    WriteEspTrailer(payload.data() + inner.size(), pad, next_header);
    return SealRaw(payload, sequence);
  }
  /// With a trailer of the test's own making: `payload` is everything between IV and ICV.
  Bytes SealRaw(const Bytes& payload, uint64_t sequence) {
    const auto length = static_cast<uint32_t>(EspPayloadOffset(algorithm_) + payload.size() +
                                              Info(algorithm_).icv_bytes);
    Bytes outer(20 + length);
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(outer.data());
    ip->version_ihl = RTE_IPV4_VHL_DEF;
    ip->total_length = rte_cpu_to_be_16(static_cast<uint16_t>(outer.size()));
    ip->time_to_live = 64;
    ip->next_proto_id = 50;
    std::memcpy(&ip->src_addr, Address::Parse("192.0.2.2")->wire().data(), 4);
    std::memcpy(&ip->dst_addr, Address::Parse("192.0.2.1")->wire().data(), 4);
    SetIpv4Checksum(outer.data());
    uint8_t* esp = outer.data() + 20;
    const EspHeader header{be32(spi_), be32(static_cast<uint32_t>(sequence))};
    std::memcpy(esp, &header, sizeof(header));
    WriteIv(algorithm_, schedule_, Sequence{sequence}, esp + sizeof(header));
    std::memcpy(esp + EspPayloadOffset(algorithm_), payload.data(), payload.size());
    CryptoOp op{.key = &schedule_,
                .esp = esp,
                .length = length,
                .esn_high = static_cast<uint32_t>(sequence >> 32U),
                .algorithm = algorithm_,
                .esn = esn_};
    engine_->Seal({&op, 1});
    return WithEthernet(outer);
  }

 private:
  Algorithm algorithm_;
  uint32_t spi_;
  bool esn_;
  std::unique_ptr<Engine> engine_;
  KeySchedule schedule_;
};

}  // namespace portcullis
