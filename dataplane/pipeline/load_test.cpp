// State changes while workers work on it: two workers run by themselves, traffic of several peers
// flows in both directions, and the main thread does everything that it ever does to State.
// Every packet is accounted for, end to end: of those whom no change concerns, none is lost.
//
// The traffic is a closed loop, a few packets in flight at a time, so that no queue can overflow
// however slow the machine is; what is lost is then lost for a reason that the test is about.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <utility>

#include "dataplane/esp/header.hpp"
#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

using std::chrono::steady_clock;

constexpr uint16_t kWire = TestGate::kWire;
constexpr uint16_t kCore = TestGate::kCore;
constexpr unsigned kWorkers = 2;
constexpr unsigned kLinks = 4;
constexpr unsigned kRevoked = 3;  // the link whose peer is revoked, and back again
constexpr int kRounds = 20;
// No more than one worker lets wait for a neighbour (TestGate), so that none is lost there either.
constexpr uint64_t kInFlight = 16;
constexpr auto kPatience = std::chrono::seconds(60);  // with sanitizers, on a busy machine

template <class Condition>
bool Until(Condition&& condition, std::chrono::microseconds nap = std::chrono::microseconds(50)) {
  const auto give_up = steady_clock::now() + kPatience;
  while (!condition()) {
    if (steady_clock::now() > give_up) return false;
    if (nap.count() == 0) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(nap);
    }
  }
  return true;
}

// A peer with one inbound and one outbound SA at a time.
struct Link {
  std::string name;
  std::string address;
  std::string inbound;   // ids of its SAs
  std::string outbound;  //
  std::atomic<uint64_t> offered = 0;

  std::mutex mutex;
  std::unique_ptr<TestSender> sender;
  uint64_t sealed = 0;  // under this key

  Bytes Seal() {
    const std::lock_guard lock(mutex);
    return sender->Seal(InnerPacket(100, address.c_str()), ++sealed);
  }
  /// Returns how many packets the sender before has sealed.
  uint64_t Use(std::unique_ptr<TestSender> next) {
    const std::lock_guard lock(mutex);
    sender = std::move(next);
    return std::exchange(sealed, 0);
  }
};
using Links = std::array<Link, kLinks>;

// Both ends of all links, in a thread of its own.
class Traffic {
 public:
  Traffic(TestGate& gate, Links& links) : gate_(gate), links_(links), thread_([this] { Run(); }) {}
  ~Traffic() { Stop(); }
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  /// Sends no more, and returns when all is judged and taken.
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  // ---- after Stop
  [[nodiscard]] bool stalled() const { return stalled_; }
  [[nodiscard]] uint64_t InboundOf(unsigned link) const { return to_core_.at(link); }
  [[nodiscard]] uint64_t OutboundOf(unsigned link) const { return to_wire_.at(link); }
  [[nodiscard]] uint64_t number_used_twice() const { return used_twice_; }

 private:
  void Run() {
    while (!stop_ && !stalled_) {
      for (unsigned i = 0; i < kLinks; ++i) {
        Offer(kWire, links_.at(i), links_.at(i).Seal());
        Offer(kCore, links_.at(i),
              WithEthernet(InnerPacket(100, "10.2.0.10", links_.at(i).address.c_str())));
      }
    }
    WaitForFewerThan(1);
    // What one worker passed to the other to be sent is accepted before it has left.
    if (!Until([&] { return Take() == gate_.Count(Verdict::accepted); })) stalled_ = true;
  }
  void Offer(uint16_t port, Link& link, const Bytes& frame) {
    WaitForFewerThan(kInFlight);
    if (stalled_ || !gate_.Offer(port, frame)) {
      stalled_ = true;
      return;
    }
    ++offered_;
    link.offered.fetch_add(1, std::memory_order_relaxed);
  }
  // Without a nap: when workers always have something to do, changes meet them at work.
  void WaitForFewerThan(uint64_t most) {
    const auto room_for_more = [&] {
      Take();
      return offered_ - gate_.Judged() < most;
    };
    const bool room = Until(room_for_more, std::chrono::microseconds(0));
    if (!room) stalled_ = true;
  }
  // Returns how many have left since the beginning.
  uint64_t Take() {
    constexpr size_t kInnerSource = 14 + 12;
    for (const Bytes& frame : gate_.Take(kCore)) ++to_core_.at(frame.at(kInnerSource + 2));
    for (const Bytes& frame : gate_.Take(kWire)) {
      EspHeader esp;
      std::memcpy(&esp, &frame.at(TestSender::kEspAt), sizeof(esp));
      // The SPI says whose it is (Load::NextSpi). One number twice under one key breaks GCM.
      ++to_wire_.at(esp.spi.host() >> 24U);
      if (!numbers_.emplace(esp.spi.host(), esp.sequence.host()).second) ++used_twice_;
    }
    return std::accumulate(to_core_.begin(), to_core_.end(), uint64_t{0}) +
           std::accumulate(to_wire_.begin(), to_wire_.end(), uint64_t{0});
  }

  TestGate& gate_;
  Links& links_;
  std::atomic<bool> stop_ = false;
  bool stalled_ = false;
  uint64_t offered_ = 0;
  std::array<uint64_t, kLinks> to_core_{};
  std::array<uint64_t, kLinks> to_wire_{};
  std::set<std::pair<uint32_t, uint32_t>> numbers_;
  uint64_t used_twice_ = 0;
  std::thread thread_;
};

struct Load : ::testing::Test {
  TestGate gate{kWorkers};
  Links links;
  uint32_t serial = 0;
  bool flowing = false;
  std::array<uint64_t, kLinks> accepted_before{};

  void SetUp() override {
    for (unsigned i = 0; i < kLinks; ++i) {
      links.at(i).name = "link-" + std::to_string(i);
      links.at(i).address = "10.1." + std::to_string(i) + ".2";
    }
    Policy(false, 0);
    for (unsigned i = 0; i < kLinks; ++i) {
      RenewInbound(i);
      links.at(i).outbound = Add(i, Direction::outbound);
    }
    std::set<uint16_t> owners;
    for (const auto& [id, sa] : gate.state().sas()) owners.insert(sa->worker);
    ASSERT_EQ(owners.size(), kWorkers) << "each worker has SAs, or nothing is handed over";
  }
  // Of no link twice, and no two in one slot for as long as the test lasts.
  uint32_t NextSpi(unsigned link) { return (link << 24U) + 0x1000 + ++serial; }
  std::string Add(unsigned link, Direction direction, TestGate::SaOptions options = {}) {
    const uint32_t spi = NextSpi(link);
    options.peer = links.at(link).name.c_str();
    Flow();
    gate.AddSa(std::to_string(spi), direction, spi, options);
    return std::to_string(spi);
  }
  void Remove(const std::vector<std::string>& ids) {
    Flow();
    EXPECT_EQ(gate.state().RemoveSas(ids), ids.size());
  }
  uint64_t Accepted(unsigned link) {
    return gate.state()
        .PeerCounters()
        .at(links.at(link).name)
        .packets.at(static_cast<size_t>(Verdict::accepted));
  }

  // A change that comes while workers nap shows nothing: each waits until packets flow.
  void Flow() {
    constexpr uint64_t kSome = 8;
    if (!flowing) return;
    const uint64_t judged = gate.Judged();
    EXPECT_TRUE(Until([&] { return gate.Judged() >= judged + kSome; }));
  }

  // ---- what the main thread does

  /// The links' peers, whose rate changes but never binds; and perhaps a guest.
  void Policy(bool with_guest, uint64_t round) {
    PolicyUpdate update{.full = true};
    for (const Link& link : links) update.peers.push_back(PeerOf(link, round));
    if (with_guest) update.peers.push_back(TestGate::Peer("guest", {"10.9.0.0/24"}));
    Flow();
    gate.Apply(std::move(update));
  }
  static PeerPolicy PeerOf(const Link& link, uint64_t round) {
    const std::string prefix = link.address.substr(0, link.address.rfind('.')) + ".0/24";
    PeerPolicy peer = TestGate::Peer(link.name, {prefix.c_str()});
    peer.rate.packets_per_second = 100'000'000 + round;
    return peer;
  }
  // The new SA is there before the peer uses it, the old one until nothing is under way under it.
  void RenewInbound(unsigned i) {
    Link& link = links.at(i);
    const std::string old = link.inbound;
    const uint32_t spi = NextSpi(i);
    link.inbound = std::to_string(spi);
    const Bytes key =
        gate.AddSa(link.inbound, Direction::inbound, spi, {.peer = link.name.c_str()});
    const uint64_t sealed =
        link.Use(std::make_unique<TestSender>(Algorithm::aes_128_gcm_16, key, spi, true));
    if (old.empty()) return;
    ASSERT_TRUE(Until([&] { return gate.CountOfSa(old, Verdict::accepted) == sealed; }));
    Remove({old});
  }
  void RenewOutbound(unsigned i) {
    links.at(i).outbound = Add(i, Direction::outbound, {.replaces = links.at(i).outbound.c_str()});
  }
  // SAs beside those in use, of the same peers: they come, are replaced and go.
  void Churn() {
    std::vector<std::string> idle;
    const std::vector<Selector> nobody = {Selector{.local = *Prefix::Parse("10.254.0.1/32")}};
    for (unsigned i = 0; i < 2 * kLinks; ++i) {
      const auto direction = i % 2 == 0 ? Direction::inbound : Direction::outbound;
      const std::string first = Add(i / 2, direction, {.selectors = nobody});
      idle.push_back(Add(i / 2, direction, {.selectors = nobody, .replaces = first.c_str()}));
    }
    Remove(idle);
  }
  void GuestComesAndGoes(uint64_t round) {
    Policy(true, round);
    gate.AddSa("guest-in", Direction::inbound, NextSpi(kLinks), {.peer = "guest"});
    gate.AddSa("guest-out", Direction::outbound, NextSpi(kLinks), {.peer = "guest"});
    Policy(false, round);
    EXPECT_FALSE(gate.state().sas().contains("guest-in"));
  }
  // Once Revoke has returned, nothing of that peer passes; once it has been taken back, all does.
  void RevokeAndTakeBack() {
    Link& link = links.at(kRevoked);
    Flow();
    ASSERT_TRUE(gate.state().Revoke(link.name, true));
    const uint64_t accepted = Accepted(kRevoked);
    const uint64_t refused = gate.Count(Verdict::grant_expired);
    ASSERT_TRUE(Until([&] { return gate.Count(Verdict::grant_expired) >= refused + 20; }));
    EXPECT_EQ(Accepted(kRevoked), accepted);
    ASSERT_TRUE(gate.state().Revoke(link.name, false));
    const uint64_t refused_at_last = gate.Count(Verdict::grant_expired);
    ASSERT_TRUE(Until([&] { return Accepted(kRevoked) >= accepted + 20; }));
    EXPECT_EQ(gate.Count(Verdict::grant_expired), refused_at_last);
  }
  void ChangeRoutes(int round) {
    Flow();
    gate.AddRoute(("10.2." + std::to_string(100 + round) + ".0/24").c_str(), kCore);
    for (const uint16_t port : {kCore, kWire}) {
      gate.Resolve(port, false);
      ASSERT_TRUE(Until([&] { return Asked(port); })) << "no packet waits for its neighbour";
      gate.Resolve(port, true);
    }
  }
  bool Asked(uint16_t port) {
    return std::ranges::any_of(gate.Told(), [&](const MainMessage& told) {
      return told.kind == MainMessage::Kind::resolve && told.port == port;
    });
  }
  void ReadCounters() {
    for (unsigned i = 0; i < kLinks; ++i) {
      const uint64_t accepted = Accepted(i);
      EXPECT_GE(accepted, std::exchange(accepted_before.at(i), accepted));
    }
    gate.state().CheckDeadlines(BootNs());
    gate.Told();
  }
};

TEST_F(Load, NothingIsLostWhateverChanges) {
  gate.Start();
  Traffic traffic(gate, links);
  flowing = true;
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const auto n = static_cast<unsigned>(round);
    GuestComesAndGoes(n);
    PolicyUpdate change;
    change.peers.push_back(PeerOf(links.at(n % kLinks), 1000 + n));
    gate.Apply(std::move(change));
    Churn();
    RenewInbound(n % kRevoked);
    for (unsigned i = 0; i < kLinks; ++i) RenewOutbound(i);
    RevokeAndTakeBack();
    ChangeRoutes(round);
    ReadCounters();
  }
  traffic.Stop();
  ASSERT_FALSE(traffic.stalled());

  for (unsigned i = 0; i < kLinks; ++i) {
    const uint64_t offered = links.at(i).offered;
    const uint64_t left = traffic.InboundOf(i) + traffic.OutboundOf(i);
    const uint64_t refused = i == kRevoked ? gate.Count(Verdict::grant_expired) : 0;
    EXPECT_EQ(left + refused, offered) << links.at(i).name;
    EXPECT_EQ(Accepted(i), left) << links.at(i).name;
    EXPECT_GT(traffic.InboundOf(i), 0U);
    EXPECT_GT(traffic.OutboundOf(i), 0U);
  }
  for (size_t i = 0; i < kVerdictCount; ++i) {
    const auto verdict = static_cast<Verdict>(i);
    if (verdict == Verdict::accepted || verdict == Verdict::grant_expired) continue;
    EXPECT_EQ(gate.Count(verdict), 0U) << Info(verdict).name;
  }
  EXPECT_EQ(traffic.number_used_twice(), 0U);
}

}  // namespace
}  // namespace portcullis
