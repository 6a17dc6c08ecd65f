// A packet in, a verdict out: every decision of the XDP program, each refusal beside the packet
// that differs from it in one thing and goes the other way.
#include <thread>

#include "bpf/shared.h"
#include "bpf/xdp_cases.hpp"

namespace portcullis {
namespace {

using namespace xdp;

class XdpVerdict : public PortTest {};

TEST_F(XdpVerdict, OnTheUntrustedSide) {
  Attach(XdpRole::kUntrusted, true);
  Check(WireCases());
}

TEST_F(XdpVerdict, OnTheUntrustedSideWithoutADataplane) {
  Attach(XdpRole::kUntrusted, false);
  Check(WireCases());
}

TEST_F(XdpVerdict, OnTheTrustedSide) {
  Attach(XdpRole::kTrusted, true);
  Check(InsideCases());
}

TEST_F(XdpVerdict, OnTheTrustedSideWithoutADataplane) {
  Attach(XdpRole::kTrusted, false);
  Check(InsideCases());
}

TEST_F(XdpVerdict, OnTheLocalSide) {
  Attach(XdpRole::kLocal, true);
  Check(InsideCases());
}

TEST_F(XdpVerdict, EmptyMapsPassNothingButArpAndNeighbourDiscovery) {
  Attach(XdpRole::kUntrusted, true);
  ASSERT_TRUE(port_->SetOwnAddresses({}));
  port_->spis().RemoveAll();
  Apply({});
  for (const Case& c : WireCases()) {
    const Verdict verdict = Run(c.packet);
    if (verdict != Verdict::exception) {
      EXPECT_TRUE(verdict == Verdict::not_for_us || verdict == Verdict::malformed)
          << c.description << ": " << Info(verdict).name;
      continue;
    }
    const uint16_t ethertype = static_cast<uint16_t>(c.packet[12] << 8 | c.packet[13]);
    const bool neighbour =
        ethertype == kIp6 && c.packet[21] == 255 && (c.packet[38] == 0xff || c.packet[38] == 0xfe);
    EXPECT_TRUE(ethertype == kArp || neighbour) << c.description << " was passed to the kernel";
  }
}

TEST_F(XdpVerdict, AllOfManyOwnAddressesAreOwn) {
  Attach(XdpRole::kUntrusted, true);
  std::vector<Address> many;
  for (int i = 1; i <= 40; ++i) {
    many.push_back(Address::Parse("192.0.2." + std::to_string(i)).value());
    many.push_back(Address::Parse("2001:db8::" + std::to_string(i)).value());
  }
  const auto own = [&](const Address& to) {
    const Bytes packet = to.IsV4() ? kTo4 + V4("198.51.100.2", to.Text(), kTcp)
                                   : kTo6 + V6("2001:db8:9::2", to.Text(), kTcp);
    return Run(packet + Tcp(1, 22)) == Verdict::exception;
  };
  ASSERT_TRUE(port_->SetOwnAddresses(many));
  for (const Address& address : many) EXPECT_TRUE(own(address)) << address.Text();
  EXPECT_FALSE(own(Address::Parse("192.0.2.41").value()));
  EXPECT_FALSE(own(Address()));
  // The first ones go, the others take their place.
  ASSERT_TRUE(port_->SetOwnAddresses(std::span(many).subspan(20)));
  for (size_t i = 0; i < many.size(); ++i) EXPECT_EQ(own(many[i]), i >= 20) << many[i].Text();
}

TEST_F(XdpVerdict, DyingDataplaneClosesThePortAndItsSuccessorOpensIt) {
  Attach(XdpRole::kUntrusted, true);
  const Bytes esp = kTo4 + V4(kPeer, kGate, kEsp) + Esp(0x1001);
  EXPECT_EQ(Run(esp), Verdict::accepted);
  CloseSocket();
  EXPECT_EQ(Run(esp), Verdict::no_socket);
  OpenSocket();
  EXPECT_EQ(Run(esp), Verdict::accepted);
}

TEST_F(XdpVerdict, NumbersLeftOfTheWindow) {
  using enum Verdict;
  constexpr uint32_t kHalf = uint32_t{1} << 31, kSpan = PORTCULLIS_STALE_SPAN, kLast = UINT32_MAX;
  static_assert(kSpan == kHalf - 16384);
  struct Number {
    uint32_t oldest, sequence;
    Verdict verdict;
  };
  Attach(XdpRole::kUntrusted, true);
  for (const auto& [oldest, sequence, verdict] : {
           Number{0, 0, accepted},  // nothing is known
           {0, 1, accepted},
           {0, kLast, accepted},
           {1, 0, stale},
           {1, 1, accepted},
           {1000, 999, stale},
           {1000, 1000, accepted},
           {1000, 1001, accepted},
           {1000, 0, stale},
           {1000, 1000 + kHalf, accepted},
           {1000, kLast, accepted},  // just before the numbers wrapped, or long ago
           {kSpan, 0, stale},
           {kSpan + 1, 0, accepted},  // so far back that it may be ahead
           {kSpan + 1, 1, stale},
           {kHalf, 0, accepted},
           {kHalf, kHalf - 1, stale},
           {kLast, kLast - 1, stale},
           {kLast, kLast, accepted},
           {kLast, kLast - kSpan, stale},
           {kLast, kLast - kSpan - 1, accepted},
           {kLast, 0, accepted},  // just after they will have wrapped
           {kLast - 20, 5, accepted},
       }) {
    port_->spis().Advance(Spi{kSpi}, oldest);
    port_->spis().Advance(Spi{2}, oldest);
    for (const Bytes& packet : {
             kTo4 + V4(kPeer, kGate, kEsp) + Esp(kSpi, sequence),
             kTo6 + V6(kPeer6, kGate6, kEsp) + Esp(2, sequence),
             kTo4 + V4(kPeer, kGate, kUdp) + Udp(4500, 4500, Esp(kSpi, sequence)),
             kTo6 + V6(kPeer6, kGate6, kUdp) + Udp(4500, 4500, Esp(2, sequence)),
         }) {
      EXPECT_EQ(Run(packet), verdict) << sequence << " where " << oldest << " is the oldest";
    }
  }
}

TEST_F(XdpVerdict, ANumberIsStaleForItsOwnSpiOnly) {
  using enum Verdict;
  Attach(XdpRole::kUntrusted, true);
  const auto judge = [&](uint32_t spi, uint32_t sequence) {
    return Run(kTo4 + V4(kPeer, kGate, kEsp) + Esp(spi, sequence));
  };
  port_->spis().Add(Spi{0x1002}, 0);
  port_->spis().Advance(Spi{kSpi}, 1000);
  EXPECT_EQ(judge(kSpi, 999), stale);
  EXPECT_EQ(judge(0x1002, 999), accepted);
  EXPECT_EQ(judge(0x1003, 999), unknown_spi);
  EXPECT_EQ(Run(kTo4 + V4(kPeer, "192.0.2.9", kEsp) + Esp(kSpi, 999)), not_for_us);
  EXPECT_EQ(Run(kTo4 + V4(kPeer, kGate, kEsp) + Bytes{0, 0, 0x10, 1, 0, 0, 3}), malformed);
  // Another SA in the same slot begins anew, whatever the worker of the one before still says.
  port_->spis().Add(Spi{0x2001}, 0);
  port_->spis().Advance(Spi{kSpi}, 1000);
  EXPECT_EQ(judge(kSpi, 1000), unknown_spi);
  EXPECT_EQ(judge(0x2001, 1), accepted);
  port_->spis().Remove(Spi{0x2001});
  port_->spis().Advance(Spi{0x2001}, 1000);
  EXPECT_EQ(judge(0x2001, 1000), unknown_spi);
  EXPECT_EQ(judge(0, 0), unknown_spi);
  // One that is resumed begins where it was.
  port_->spis().Add(Spi{0x2001}, 500);
  EXPECT_EQ(judge(0x2001, 499), stale);
  EXPECT_EQ(judge(0x2001, 500), accepted);
}

// So that replays use up nothing of what their forged source may send.
TEST_F(XdpVerdict, NumbersComeBeforeSources) {
  using enum Verdict;
  Attach(XdpRole::kUntrusted, true);
  XdpPolicy policy = Policy();
  policy.first_line.packets = {.per_second = 1, .burst = 1};
  Apply(policy);
  port_->spis().Advance(Spi{kSpi}, 1000);
  const auto judge = [&](uint32_t sequence) {
    return Run(kTo4 + V4(kPeer, kGate, kEsp) + Esp(kSpi, sequence));
  };
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(judge(i), stale);
  EXPECT_EQ(judge(1000), accepted);
  EXPECT_EQ(judge(1001), source_limited);
  EXPECT_EQ(judge(999), stale);
}

// ---- security associations at which forgeries are thrown

class XdpSuspect : public XdpVerdict {
 protected:
  void SetUp() override {
    XdpVerdict::SetUp();
    Attach(XdpRole::kUntrusted, true);
    port_->spis().Add(Spi{0x1002}, 0);
  }
  static Bytes EspFrom(const std::string& source, uint32_t spi = kSpi) {
    const bool v4 = source.find(':') == std::string::npos;
    return (v4 ? kTo4 + V4(source, kGate, kEsp) : kTo6 + V6(source, kGate6, kEsp)) + Esp(spi);
  }
  void Suspect(uint32_t spi, const std::string& endpoint,
               std::chrono::nanoseconds for_how_long = std::chrono::hours(1)) {
    const auto done = port_->Suspect(Spi{spi}, Address::Parse(endpoint).value(), for_how_long);
    ASSERT_TRUE(done) << done.error().Text();
  }
  /// How many of so many packets from strangers, each from another address, pass.
  int Pass(int packets, uint32_t spi = kSpi) {
    int passed = 0;
    for (int i = 0; i < packets; ++i) {
      const Verdict verdict = Run(EspFrom("198.51.100." + std::to_string(i % 200 + 1), spi));
      EXPECT_TRUE(verdict == Verdict::accepted || verdict == Verdict::auth_throttled);
      passed += verdict == Verdict::accepted ? 1 : 0;
    }
    return passed;
  }
  /// What the bucket admits at most in what has passed since.
  static int Most(std::chrono::steady_clock::time_point since) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - since;
    return PORTCULLIS_STRANGERS_BURST + 1 +
           static_cast<int>(seconds.count() * PORTCULLIS_STRANGERS_PER_SECOND);
  }
};

TEST_F(XdpSuspect, StrangersShareATinyBucketAndTheEndpointHasNone) {
  EXPECT_EQ(Pass(100), 100);
  const auto begin = std::chrono::steady_clock::now();
  Suspect(kSpi, kPeer);
  const int passed = Pass(300);
  EXPECT_GE(passed, PORTCULLIS_STRANGERS_BURST);
  EXPECT_LE(passed, Most(begin));
  // The peer itself, by whatever port, and other SPIs go on.
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Run(EspFrom(kPeer)), Verdict::accepted);
    EXPECT_EQ(Run(kTo4 + V4(kPeer, kGate, kUdp) + Udp(50000, 4500, Esp(kSpi))), Verdict::accepted);
  }
  EXPECT_EQ(Pass(100, 0x1002), 100);
  EXPECT_EQ(Run(kTo4 + V4("198.51.100.7", kGate, kTcp) + Tcp(1, 22)), Verdict::exception);
  // In UDP and over IPv6 a stranger is one as well.
  const std::vector<Bytes> others = {
      kTo4 + V4("198.51.100.7", kGate, kUdp) + Udp(4500, 4500, Esp(kSpi)), EspFrom(kPeer6),
      kTo6 + V6(kPeer6, kGate6, kUdp) + Udp(4500, 4500, Esp(kSpi))};
  for (const Bytes& packet : others) {
    int throttled = 0;
    for (int i = 0; i < 20; ++i) throttled += Run(packet) == Verdict::auth_throttled ? 1 : 0;
    EXPECT_GT(throttled, 0);
  }
  // Taken back, and once more.
  Suspect(kSpi, kPeer, std::chrono::nanoseconds(0));
  EXPECT_EQ(Pass(100), 100);
  Suspect(kSpi, kPeer, std::chrono::nanoseconds(0));
}

TEST_F(XdpSuspect, TheBucketFillsAgain) {
  Suspect(kSpi, kPeer);
  Pass(50);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
    EXPECT_GE(Pass(2), PORTCULLIS_STRANGERS_BURST);
  }
}

TEST_F(XdpSuspect, AMovedEndpointIsTheEndpointAtOnceAndFillsNoBucket) {
  const auto begin = std::chrono::steady_clock::now();
  int passed = 0;
  for (int i = 0; i < 30; ++i) {
    Suspect(kSpi, i % 2 == 0 ? kPeer : kPeer6);
    passed += Pass(5);
    for (int again = 0; again < 5; ++again) {
      EXPECT_EQ(Run(EspFrom(i % 2 == 0 ? kPeer : kPeer6)), Verdict::accepted);
    }
  }
  EXPECT_LE(passed, Most(begin));
  Suspect(kSpi, kPeer6);
  int throttled = 0;
  for (int i = 0; i < 20; ++i) throttled += Run(EspFrom(kPeer)) == Verdict::auth_throttled ? 1 : 0;
  EXPECT_GT(throttled, 0) << "where it was it is a stranger";
}

TEST_F(XdpSuspect, EachHasABucketOfItsOwn) {
  Suspect(kSpi, kPeer);
  Pass(50);
  Suspect(0x1002, kPeer);
  EXPECT_GE(Pass(2, 0x1002), PORTCULLIS_STRANGERS_BURST);
}

TEST_F(XdpSuspect, EndsByItself) {
  Suspect(kSpi, kPeer, std::chrono::milliseconds(200));
  EXPECT_LT(Pass(20), 20);
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  EXPECT_EQ(Pass(50), 50);
}

TEST_F(XdpSuspect, NonEspMarkerIsNotAnSpi) {
  Suspect(0, kPeer);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Run(kTo4 + V4("198.51.100.7", kGate, kUdp) + Udp(4500, 4500, Esp(0))),
              Verdict::accepted);
  }
}

}  // namespace
}  // namespace portcullis
