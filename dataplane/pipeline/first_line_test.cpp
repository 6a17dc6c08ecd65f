// One policy, two first lines: XDP where the kernel shares the port, the stage prefilter where DPDK
// owns it whole. The same capture through both, packet by packet: what XDP drops the stage ends
// with the same verdict, what XDP redirects it leaves in the burst, what XDP passes to the kernel
// goes to the exception port.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>

#include "bpf/shared.h"
#include "bpf/xdp_cases.hpp"
#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/pipeline/prefilter.hpp"
#include "dataplane/pipeline/test_gate.hpp"

namespace portcullis {
namespace {

using namespace xdp;

constexpr uint16_t kWire = TestGate::kWire;
constexpr uint8_t kOspf = 89, kSctp = 132;
constexpr uint16_t kSessions = 443;
// No limit may be used up, or fill, by time: the rates are as low as they can be, and what took
// longer than this is done once more.
constexpr auto kInNoTime = std::chrono::milliseconds(400);
// But for the bucket of a suspect SA, which is not policy's.
constexpr auto kInLessTime = std::chrono::milliseconds(1000 / PORTCULLIS_STRANGERS_PER_SECOND);

SourceRule Rule(const char* prefix, bool admit) {
  return {*Prefix::Parse(prefix), admit};
}

struct Wish {
  const char* name;
  FirstLine line;
  bool cleartext = false;
  std::vector<Prefix> nets = {*Prefix::Parse("10.2.0.0/24"), *Prefix::Parse("2001:db8:2::/64")};
  bool suspect = false;  // kSpi
  uint32_t oldest = 0;   // number of kSpi and of the other SA
};
void PrintTo(const Wish& wish, std::ostream* out) {
  *out << wish.name;
}

std::vector<Wish> Wishes() {
  const std::vector<ServiceRange> sessions = {{kTcp, kSessions, kSessions},
                                              {kUdp, kSessions, kSessions + 1}};
  return {
      {"Nothing", {}},
      {"Cleartext", {.sources = {Rule("192.0.2.66/32", false)}}, true},
      {"Sources",
       {.sources = {Rule("192.0.2.0/24", false), Rule("192.0.2.2/32", true),
                    Rule("2001:db8::/64", true), Rule("2001:db8::66/128", false)}}},
      {"NoStrangers",
       {.admit_strangers = false, .sources = {Rule("192.0.2.2/32", true), Rule("::/0", true)}}},
      {"NoIpv6", {.sources = {Rule("::/0", false)}}},
      {"NoIpv4", {.sources = {Rule("0.0.0.0/0", false)}}},
      {"Packets", {.packets = {.per_second = 1, .burst = 5}}},
      {"PacketsOfPrefixes",
       {.ipv4_length = 24, .ipv6_length = 48, .packets = {.per_second = 1, .burst = 7}},
       true},
      {"Handshakes", {.handshakes = {.per_second = 1, .burst = 3}, .sessions = sessions}},
      {"Strangers",
       {.sources = {Rule("192.0.2.2/32", true)},
        .strangers = {.per_second = 1, .burst = 4},
        .sessions = sessions}},
      {"HandshakesAndStrangers",
       {.sources = {Rule("192.0.2.2/32", true)},
        .handshakes = {.per_second = 1, .burst = 3},
        .strangers = {.per_second = 1, .burst = 5},
        .sessions = sessions}},
      {"SomeOfTheHost",
       {.sessions = sessions,
        .whole_host = false,
        .host = {{kTcp, 22, 22}, {kUdp, 53, 53}, {kOspf}, {kSctp, 9, 9}}}},
      {"NothingOfTheHost", {.whole_host = false}},
      {"AllOfIpv6IsProtected", {}, false, {*Prefix::Parse("::/0")}},
      {.name = "Stale", .line = {}, .oldest = 2000},
      {.name = "StaleAndLimited",
       .line = {.sources = {Rule("192.0.2.66/32", false)},
                .packets = {.per_second = 1, .burst = 5}},
       .oldest = 2000},
      {.name = "Suspect", .line = {}, .suspect = true},
  };
}

/// Every way through the headers, and what policy is about: several sources, again and again.
std::vector<Case> Capture(const Wish& wish) {
  std::vector<Case> all = WireCases();
  const auto add = [&](const char* what, const Bytes& packet) {
    all.push_back({what, packet, Verdict::accepted});
  };
  const int times = wish.suspect ? 1 : 4;
  for (int again = 0; again < times; ++again) {
    for (const char* source : {"192.0.2.2", "192.0.2.66", "198.51.100.7", "2001:db8::2",
                               "2001:db8::66", "2001:db8:9::1"}) {
      const bool v4 = std::string_view(source).find(':') == std::string_view::npos;
      const auto from = [&](uint8_t protocol) {
        return v4 ? kTo4 + V4(source, kGate, protocol) : kTo6 + V6(source, kGate6, protocol);
      };
      add("ESP", from(kEsp) + Esp(0x1001));
      add("ESP of nobody", from(kEsp) + Esp(0x5555));
      for (const uint32_t number : {0U, 1U, 1999U, 2000U, UINT32_MAX}) {
        add("ESP with a number", from(kEsp) + Esp(0x1001, number));
        add("ESP in UDP with a number", from(kUdp) + Udp(50000, 4500, Esp(0x1001, number)));
      }
      add("ESP in UDP", from(kUdp) + Udp(50000, 4500, Esp(0x1001)));
      add("keepalive", from(kUdp) + Udp(50000, 4500, Bytes{0xff}));
      add("SYN to the sessions", from(kTcp) + Tcp(40000, kSessions, kSyn));
      add("more to the sessions", from(kTcp) + Tcp(40000, kSessions, kAck));
      add("SYN-ACK to the sessions", from(kTcp) + Tcp(40000, kSessions, kSyn | kAck));
      add("UDP to the sessions", from(kUdp) + Udp(40000, kSessions + 1, Bytes(20, 1)));
      add("UDP beside them", from(kUdp) + Udp(40000, kSessions + 2, Bytes(20, 1)));
      add("SYN to ssh", from(kTcp) + Tcp(40000, 22, kSyn));
      add("SYN to telnet", from(kTcp) + Tcp(40000, 23, kSyn));
      add("an answer to the host", from(kTcp) + Tcp(22, 40000, kAck));
      add("DNS", from(kUdp) + Udp(40000, 53, Bytes(20, 1)));
      add("OSPF", from(kOspf) + Bytes(40, 1));
      add("SCTP, open", from(kSctp) + Udp(1, 9, Bytes(20, 1)));
      add("SCTP", from(kSctp) + Udp(1, 10, Bytes(20, 1)));
      add("GRE", from(47) + Bytes(20, 0));
      add("ping", from(v4 ? kIcmp : kIcmp6) + Icmp(v4 ? 8 : 128));
      add("TCP header cut short", from(kTcp) + Bytes(19, 1));
      add("TCP ports alone", from(kTcp) + Bytes(4, 1));
      add("UDP to a server", v4 ? kTo4 + V4(source, kServer, kUdp) + Udp(1, 2)
                                : kTo6 + V6(source, kServer6, kUdp) + Udp(1, 2));
      if (!v4) continue;
      add("first fragment of TCP",
          kTo4 + V4(source, kGate, kTcp, {.fragment = kMore}) + Tcp(1, kSessions, kSyn));
      add("later fragment of TCP",
          kTo4 + V4(source, kGate, kTcp, {.fragment = 100}) + Bytes(40, 0));
      add("fragment of UDP", kTo4 + V4(source, kGate, kUdp, {.fragment = 100}) + Bytes(40, 0));
    }
  }
  return all;
}

class FirstLineTest : public PortTest {
 protected:
  void SetUp() override {
    gate_.emplace();  // the EAL before the namespace, since it starts threads
    PortTest::SetUp();
  }
  void TearDown() override {
    PortTest::TearDown();
    gate_->port(kWire).exception = Port::kNone;
    gate_.reset();
  }

  /// The tests' policy with this first line, in both; nothing used up yet.
  void Start(const Wish& wish, bool reassemble = false) {
    PortTest::TearDown();
    Attach({.role = XdpRole::kUntrusted, .reassemble = reassemble}, true);
    const XdpPolicy xdp{
        .protected_nets = wish.nets, .cleartext = wish.cleartext, .first_line = wish.line};
    Apply(xdp);

    gate_.emplace(1, AuthFailureConfig{}, reassemble);
    gate_->port(kWire).exception = TestGate::kCore;
    HostAddresses hosts(RTE_MAX_ETHPORTS);
    for (const char* own : {"192.0.2.1", "2001:db8::1", "fe80::1"}) {
      hosts[kWire].push_back(*Address::Parse(own));
    }
    gate_->state().Publish(std::make_unique<const HostAddresses>(std::move(hosts)));
    PolicyUpdate update{.full = true};
    update.peers = {TestGate::Peer("csmf", {})};
    update.interfaces = {{.name = "servers", .prefixes = xdp.protected_nets}};
    if (wish.cleartext) update.bypasses = {{.name = "some", .selector = {}}};
    update.first_line = std::make_shared<const FirstLine>(wish.line);
    gate_->Apply(std::move(update));
    for (const char* local : {"192.0.2.1", "2001:db8::1"}) {
      // One SPI can be one address's only: for XDP both are the gate's.
      const bool v4 = std::string_view(local) == "192.0.2.1";
      TestGate::SaOptions options;
      options.tunnel = {.local = *Address::Parse(local),
                        .remote = *Address::Parse(v4 ? "192.0.2.2" : "2001:db8::2")};
      gate_->AddSa(local, Direction::inbound, v4 ? kSpi : 2, options);
    }
    for (const auto& [id, sa] : gate_->state().sas()) {
      // As if the window had moved there.
      sa->record->highest = wish.oldest == 0 ? 0 : wish.oldest + sa->record->window - 1;
      sa->oldest = wish.oldest;
      port_->spis().Advance(sa->spi, wish.oldest);
    }
    gate_->worker().Round();
    if (wish.suspect) {
      Sa& sa = *gate_->state().FindInbound(Spi{kSpi});
      ASSERT_TRUE(port_->Suspect(sa.spi, sa.endpoint.address(), std::chrono::seconds(1)));
      gate_->worker().TellSuspect(sa);
    }
  }

  /// Of the stages parse, prefilter, find_sa and, for numbers left of the window, replay_check:
  /// what the first line says, in XDP's words.
  Verdict Stage(const Bytes& packet) {
    Worker& worker = gate_->worker();
    worker.Round();  // the time, the policy
    rte_mbuf* mbuf = rte_pktmbuf_alloc(TestGate::Pool());
    EXPECT_NE(mbuf, nullptr);
    mbuf->port = kWire;
    const Bytes frame = Finished(packet);
    std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size())), frame.data(),
                frame.size());
    const auto before = Counts();
    burst_.Begin({&mbuf, 1});
    ParseInbound(worker, burst_);
    if (!burst_.empty()) Prefilter(worker, burst_);
    const bool passes = !burst_.empty();
    const Kind kind = passes ? burst_.packets[0].kind : Kind::clear;
    // XDP knows which SPIs there are, but not whose address each is for.
    const Sa* known =
        kind == Kind::esp ? gate_->state().FindInbound(SpiOf(burst_.packets[0])) : nullptr;
    const bool stale = known != nullptr && IsStale(burst_.packets[0], *known);
    if (passes) FindSa(worker, burst_);
    if (stale) ReplayCheck(worker, burst_);
    const bool ended = burst_.empty();
    for (const Packet& left : burst_.all()) rte_pktmbuf_free(left.mbuf);
    worker.Flush();
    gate_->Left(TestGate::kCore);
    const auto after = Counts();
    for (size_t v = 0; v < kVerdictCount; ++v) {
      if (after[v] == before[v]) continue;
      const auto verdict = static_cast<Verdict>(v);
      const bool anothers = known != nullptr && verdict == Verdict::unknown_spi;
      if (!passes || (kind == Kind::esp && !stale && !anothers)) return verdict;
      // The non-ESP marker is the host's IKE; XDP leaves all of port 4500 to the dataplane.
      if (verdict == Verdict::exception && kind != Kind::ike) return verdict;
    }
    // Where no limit makes the prefilter ask for it, a later stage ends it: nothing is lost by
    // that.
    return stale && ended ? Verdict::stale : Verdict::accepted;
  }
  /// By what XDP knows of its window.
  static bool IsStale(const Packet& packet, const Sa& sa) {
    const auto* esp = reinterpret_cast<const EspHeader*>(packet.At(packet.esp));
    return portcullis_is_stale(static_cast<uint32_t>(sa.oldest), esp->sequence.host()) != 0;
  }
  std::array<uint64_t, kVerdictCount> Counts() const {
    std::array<uint64_t, kVerdictCount> counts{};
    for (size_t v = 0; v < kVerdictCount; ++v) counts[v] = gate_->Count(static_cast<Verdict>(v));
    return counts;
  }

  struct Said {
    std::vector<Verdict> xdp, stage;
  };
  /// What both say of the capture; whatever time does to a limit is not in it.
  Said Ask(const Wish& wish, const std::vector<Case>& capture) {
    for (;;) {
      Start(wish);
      Said said;
      const auto begin = std::chrono::steady_clock::now();
      for (const Case& c : capture) said.xdp.push_back(Run(c.packet));
      const auto middle = std::chrono::steady_clock::now();
      for (const Case& c : capture) said.stage.push_back(Stage(c.packet));
      const auto end = std::chrono::steady_clock::now();
      const auto most = wish.suspect ? kInLessTime : kInNoTime;
      if (middle - begin < most && end - middle < most) return said;
    }
  }

  std::optional<TestGate> gate_;
  Burst burst_;
};

class FirstLinePolicy : public FirstLineTest, public ::testing::WithParamInterface<Wish> {};
TEST_P(FirstLinePolicy, XdpAndThePipelineSayTheSame) {
  const auto capture = Capture(GetParam());
  const Said said = Ask(GetParam(), capture);
  std::map<std::string_view, unsigned> seen;
  for (size_t i = 0; i < capture.size(); ++i) {
    ++seen[Info(said.xdp[i]).name];
    // Cleartext that some rule may admit is the pipeline's to read, which takes no fragments.
    if (GetParam().cleartext && said.xdp[i] == Verdict::accepted &&
        said.stage[i] == Verdict::fragment) {
      continue;
    }
    EXPECT_EQ(said.stage[i], said.xdp[i])
        << i << ": " << capture[i].description << ": XDP " << Info(said.xdp[i]).name
        << ", pipeline " << Info(said.stage[i]).name;
  }
  for (const auto& [name, count] : seen) {
    std::printf("  %s %u", std::string(name).c_str(), count);
  }
  std::printf("\n");
}
INSTANTIATE_TEST_SUITE_P(Policies, FirstLinePolicy, ::testing::ValuesIn(Wishes()),
                         [](const auto& info) { return std::string(info.param.name); });

// The policies together provoke every verdict that both know.
TEST_F(FirstLineTest, NoVerdictIsLeftOut) {
  std::set<Verdict> seen;
  for (const Wish& wish : Wishes()) {
    const Said said = Ask(wish, Capture(wish));
    seen.insert(said.xdp.begin(), said.xdp.end());
  }
  for (const Verdict verdict : kFirstLineVerdicts) {
    // Nobody can be missing in the pipeline, nor are there sockets to look up.
    if (verdict == Verdict::no_socket || verdict == Verdict::not_tls) continue;
    EXPECT_TRUE(seen.contains(verdict)) << Info(verdict).name;
  }
}

// Fragments that are to be reassembled: their source is judged before they cost memory.
TEST_F(FirstLineTest, FragmentsForReassembly) {
  Start({"Reassembly", {.sources = {Rule("192.0.2.66/32", false)}}}, true);
  const auto piece = [](const char* source, const std::string& to) {
    return kTo4 + V4(source, to, kUdp, {.fragment = 100}) + Bytes(40, 0);
  };
  EXPECT_EQ(Run(piece("192.0.2.66", kGate)), Verdict::source_denied);
  EXPECT_EQ(Stage(piece("192.0.2.66", kGate)), Verdict::source_denied);
  EXPECT_EQ(Run(piece("192.0.2.2", kGate)), Verdict::accepted);
  EXPECT_EQ(Stage(piece("192.0.2.2", kGate)), Verdict::accepted);
  EXPECT_EQ(Run(piece("192.0.2.2", "192.0.2.9")), Verdict::not_for_us);
  EXPECT_EQ(Stage(piece("192.0.2.2", "192.0.2.9")), Verdict::not_for_us);
}

}  // namespace
}  // namespace portcullis
