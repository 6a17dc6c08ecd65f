// What a listener bears: the slow, the many and the large. And that an honest client gets through.
#include "control/guard/session/listener.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>

#include "control/guard/session/test_gate.hpp"

namespace portcullis::guard {
namespace {

using identity::Reason;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class ListenerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    credential_ = new Credential(Issue("anybody", MakeEcKey(), nullptr));
    const TestFolder folder;
    auto server = TlsServer::ForCertificates(
        {{{folder.Write("c", PemOf(*credential_, false)),
           folder.Write("k", PemOf(*credential_, true))}},
         false},
        [](X509*, STACK_OF(X509)*) -> tl::expected<void, identity::Refusal> { return {}; }, "/tls");
    ASSERT_TRUE(server) << server.error().Text();
    server_ = *server;
  }
  static void TearDownTestSuite() {
    delete credential_;
    server_.reset();
  }
  void SetUp() override {
    context_ = AnyClient(TLS1_3_VERSION, TLS1_3_VERSION);
    SSL_CTX_use_certificate(context_.get(), credential_->certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), credential_->key.get());
  }
  void ExpectHonestClientPasses(TestGate& gate, const std::string& source = "127.0.0.1") {
    Client client(gate.port(), context_.get(), source);
    EXPECT_TRUE(client.ConnectsAndEchoes()) << ErrorsOfClient();
  }

  static inline Credential* credential_ = nullptr;
  static inline std::shared_ptr<TlsServer> server_;
  CtxPtr context_;
};

// The first bytes of a ClientHello of `size` bytes that never comes to its end.
std::string BeginOfClientHello(size_t size) {
  const auto byte = [&](unsigned shift) { return static_cast<char>(size >> shift & 0xff); };
  // Handshake record, TLS 1.0 as the outer version, 16 KiB; client_hello; its size.
  return std::string("\x16\x03\x01\x40\x00\x01", 6) + byte(16) + byte(8) + byte(0) + "\x03\x03";
}

// ---- the slow

TEST_F(ListenerTest, SilentClientIsCutOffAtTheDeadline) {
  TestGate gate(server_, {.handshake_time = 500ms});
  const Socket silent(gate.port());
  EXPECT_TRUE(silent.WaitForEnd());
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::handshake_timeout);
  TestGate patient(server_);
  ExpectHonestClientPasses(patient);
}

TEST_F(ListenerTest, DripsDoNotMoveTheHandshakesDeadline) {
  TestGate gate(server_, {.handshake_time = 500ms});
  const Socket slow(gate.port());
  EXPECT_TRUE(slow.Send(BeginOfClientHello(16'000)));
  const auto begin = Clock::now();
  while (slow.Send("x") && Clock::now() - begin < kLongest) std::this_thread::sleep_for(20ms);
  EXPECT_LT(Clock::now() - begin, kLongest);
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::handshake_timeout);
}

TEST_F(ListenerTest, RequestHasADeadlineToo) {
  TestGate gate(server_, {.request_time = 500ms});
  Client client(gate.port(), context_.get());
  ASSERT_TRUE(client.Connect());
  EXPECT_TRUE(client.socket().WaitForEnd());  // it asks nothing
  TestGate patient(server_);
  ExpectHonestClientPasses(patient);
}

TEST_F(ListenerTest, HandlerMayGiveMoreTime) {
  const ConnectionHandler patient = [](Connection& c) {
    c.stream.next_layer().expires_after(kLongest);
    return Echo(c);
  };
  TestGate gate(server_, {.request_time = 50ms}, patient);
  Client client(gate.port(), context_.get());
  ASSERT_TRUE(client.ConnectsAndEchoes());
  std::this_thread::sleep_for(300ms);
  EXPECT_TRUE(client.Echoes("later"));
}

// ---- the large

TEST_F(ListenerTest, HandshakeReadsNoMoreThanItsBytes) {
  // With the bytes, it could go on for long: the deadline is far away, and comes all the same.
  TestGate gate(server_, {.handshake_time = 2s, .handshake_bytes = 8192});
  const Socket large(gate.port());
  const std::string hello = BeginOfClientHello(100'000) + std::string(16'000, 'x');
  EXPECT_TRUE(large.Send(hello));
  EXPECT_TRUE(large.WaitForEnd());
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::handshake_timeout);
  TestGate patient(server_, {.handshake_bytes = 8192});
  ExpectHonestClientPasses(patient);
}

TEST_F(ListenerTest, RequestReadsNoMoreThanItsBytes) {
  constexpr int kTimes = 10;
  const std::string some(1000, 'x');
  TestGate gate(server_, {.request_time = 2s, .request_bytes = 4096});
  Client large(gate.port(), context_.get());
  ASSERT_TRUE(large.Connect());
  int echoed = 0;
  while (echoed < kTimes && large.Echoes(some)) ++echoed;
  EXPECT_LE(echoed, 4);
  TestGate roomy(server_, {.request_time = kLongest, .request_bytes = 64U << 10U});
  Client same(roomy.port(), context_.get());
  ASSERT_TRUE(same.Connect());
  for (int i = 0; i < kTimes; ++i) EXPECT_TRUE(same.Echoes(some));
}

// ---- the many

// Connections that say nothing, from `sources` addresses, each as often.
std::deque<Socket> HalfOpen(uint16_t port, int sources, int each) {
  std::deque<Socket> all;
  for (int n = 0; n < each; ++n) {
    for (int s = 0; s < sources; ++s) all.emplace_back(port, fmt::format("127.0.1.{}", s + 1));
  }
  return all;
}

TEST_F(ListenerTest, HalfOpenOnesAreBoundedAndAnHonestClientGetsThrough) {
  constexpr size_t kMost = 32;
  TestGate gate(server_, {.half_open = kMost, .half_open_per_source = 16});
  const auto flood = HalfOpen(gate.port(), 10, 20);
  ExpectHonestClientPasses(gate);
  EXPECT_LE(gate.On([](Listener& l) { return l.half_open(); }), kMost);
  // Also from one of the sources that flood.
  ExpectHonestClientPasses(gate, "127.0.1.1");
  EXPECT_EQ(gate.TakeRefusal().reason, Reason::handshake_timeout);
}

TEST_F(ListenerTest, HonestClientsGetThroughWhileTheFloodGoesOn) {
  constexpr int kHonest = 10;
  TestGate gate(server_, {.half_open = 64, .half_open_per_source = 16});
  std::atomic<bool> enough = false;
  std::atomic<int> connections = 0;
  std::thread flood([&] {
    std::deque<Socket> held;
    while (!enough) {
      held.emplace_back(gate.port(), fmt::format("127.0.1.{}", connections++ % 8 + 1));
      if (held.size() > 200) held.pop_front();
    }
  });
  std::vector<double> times;
  for (int i = 0; i < kHonest; ++i) {
    const auto begin = Clock::now();
    ExpectHonestClientPasses(gate);
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  enough = true;
  flood.join();
  std::sort(times.begin(), times.end());
  std::cout << fmt::format(
      "{} of {} honest clients admitted beside {} half-open connections; median {:.1f} ms, worst "
      "{:.1f} ms\n",
      times.size(), kHonest, connections.load(), times[times.size() / 2], times.back());
}

TEST_F(ListenerTest, AuthenticatedOnesAreBoundedPerSource) {
  TestGate gate(server_, {.open = 8, .open_per_source = 2, .request_time = kLongest});
  std::deque<Client> greedy;
  for (int i = 0; i < 3; ++i) {
    greedy.emplace_back(gate.port(), context_.get(), "127.0.1.1");
    ASSERT_TRUE(greedy.back().ConnectsAndEchoes());
  }
  EXPECT_TRUE(greedy.front().socket().WaitForEnd());  // the first made way for the third
  EXPECT_TRUE(greedy[1].Echoes());
  EXPECT_TRUE(greedy[2].Echoes());
  EXPECT_EQ(gate.On([](Listener& l) { return l.open(); }), 2U);
}

// ---- the rest

TEST_F(ListenerTest, HandlerThatThrowsEndsItsConnectionOnly) {
  int calls = 0;
  const ConnectionHandler handler = [&](Connection& c) {
    if (++calls == 1) throw std::runtime_error("a mistake");
    return Echo(c);
  };
  TestGate gate(server_, {}, handler);
  Client first(gate.port(), context_.get());
  EXPECT_FALSE(first.ConnectsAndEchoes());
  ExpectHonestClientPasses(gate);
}

TEST_F(ListenerTest, StopClosesWhatIsOpen) {
  auto gate = std::make_unique<TestGate>(server_);
  const Socket half_open(gate->port());
  Client open(gate->port(), context_.get());
  ASSERT_TRUE(open.ConnectsAndEchoes());
  gate.reset();  // waits until nothing runs any more
  EXPECT_TRUE(half_open.WaitForEnd());
  EXPECT_TRUE(open.socket().WaitForEnd());
}

TEST_F(ListenerTest, WrongAddressesAreNamed) {
  boost::asio::io_context io;
  identity::RefusalCounters counters;
  const auto listen = [&](const std::string& address, uint16_t port) {
    return Listener::Listen(io.get_executor(), {address, port, {}}, server_, Echo, counters, {},
                            "/guard/listen");
  };
  const auto no_address = listen("gate.example", 0);
  ASSERT_FALSE(no_address);
  EXPECT_NE(no_address.error().Text().find("/guard/listen/address"), std::string::npos);
  const auto first = listen("127.0.0.1", 0);
  ASSERT_TRUE(first) << first.error().Text();
  const auto taken = listen("127.0.0.1", first->port());
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().Text().find(std::to_string(first->port())), std::string::npos);
  EXPECT_TRUE(listen("::1", 0));
}

TEST_F(ListenerTest, ADeviceIsOneThatIsThere) {
  boost::asio::io_context io;
  identity::RefusalCounters counters;
  const auto listen = [&](const std::string& device) {
    return Listener::Listen(io.get_executor(), {"127.0.0.1", 0, {}, device}, server_, Echo,
                            counters, {}, "/requests");
  };
  const auto none = listen("no-such-device");
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().Text().find("/requests/device"), std::string::npos) << none.error().Text();
  EXPECT_NE(none.error().Text().find("no-such-device"), std::string::npos);
  EXPECT_TRUE(listen("lo"));
}

}  // namespace
}  // namespace portcullis::guard
