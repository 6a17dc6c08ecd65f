// Connections to the ports of sessions: what they may send before the guard knows who is there, and
// after it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fd.hpp"
#include "bpf/shared.h"
#include "bpf/xdp_cases.hpp"

namespace portcullis {
namespace {

using namespace xdp;
using enum Verdict;

constexpr uint16_t kGuard = 443;
constexpr unsigned kSegments = PORTCULLIS_SEGMENTS_PER_HANDSHAKE;

class XdpConnectionTest : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    Attach(XdpRole::kUntrusted, true);
  }

  void Sessions(SourceLimit handshakes) {
    XdpPolicy policy = Policy();
    policy.first_line.sessions = {{kTcp, kGuard, kGuard}};
    policy.first_line.handshakes = handshakes;
    Apply(policy);
  }

  static Bytes Segment(const std::string& source, uint16_t port, const Bytes& payload = {},
                       uint16_t to = kGuard, uint8_t sequence = 1, uint8_t options = 0) {
    Bytes tcp = Tcp(port, to) + Bytes(options, 1) + payload;
    tcp[7] = sequence;
    tcp[12] = static_cast<uint8_t>((20 + options) << 2U);
    const bool v4 = source.find(':') == std::string::npos;
    return (v4 ? kTo4 + V4(source, kGate, kTcp) : kTo6 + V6(source, kGate6, kTcp)) + tcp;
  }
  // Its sequence number is 0.
  static Bytes Syn(const std::string& source, uint16_t port) {
    const Bytes tcp = Tcp(port, kGuard, kSyn);
    return source.find(':') == std::string::npos ? kTo4 + V4(source, kGate, kTcp) + tcp
                                                 : kTo6 + V6(source, kGate6, kTcp) + tcp;
  }

  unsigned Passing(const Bytes& segment, unsigned count) {
    unsigned passed = 0;
    for (unsigned i = 0; i < count; ++i) passed += Run(segment) == exception ? 1 : 0;
    return passed;
  }
};

// A connection of the kernel's between two addresses of this namespace.
struct Connected {
  explicit Connected(int family) {
    Store(listener, socket(family, SOCK_STREAM, 0));
    Bind(listener.get(), family, family == AF_INET ? kGate : kGate6, kGuard);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    Store(client, socket(family, SOCK_STREAM, 0));
    Bind(client.get(), family, family == AF_INET ? kPeer : kPeer6, 0);
    const auto to = At(family, family == AF_INET ? kGate : kGate6, kGuard);
    EXPECT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    Store(guard, accept(listener.get(), nullptr, nullptr));
    sockaddr_in6 own{};
    socklen_t size = sizeof own;
    EXPECT_EQ(getsockname(client.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
    port = ntohs(own.sin6_port);  // at the same place in both families
  }
  static sockaddr_in6 At(int family, const std::string& address, uint16_t port) {
    sockaddr_in6 at{};
    at.sin6_family = static_cast<sa_family_t>(family);
    at.sin6_port = htons(port);
    void* to = family == AF_INET ? static_cast<void*>(&reinterpret_cast<sockaddr_in&>(at).sin_addr)
                                 : static_cast<void*>(&at.sin6_addr);
    EXPECT_EQ(inet_pton(family, address.c_str(), to), 1);
    return at;
  }
  static void Bind(int fd, int family, const std::string& address, uint16_t port) {
    const auto at = At(family, address, port);
    EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
  }
  static void Store(Fd& to, int fd) {
    EXPECT_GE(fd, 0);
    to = Fd(fd);
  }
  void Prioritise(int priority) const {
    EXPECT_EQ(setsockopt(guard.get(), SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority), 0);
  }

  Fd listener, client, guard;
  uint16_t port = 0;
};

TEST_F(XdpConnectionTest, WhoIsKnownIsAClassOfItsOwn) {
  Ip("link set lo up");
  for (const char* address :
       {"192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128 nodad", "2001:db8::2/128 nodad"}) {
    Ip(std::string("addr add dev lo ") + address);
  }
  Sessions({.per_second = 1, .burst = 2});
  for (const int family : {AF_INET, AF_INET6}) {
    SCOPED_TRACE(family);
    const std::string& peer = family == AF_INET ? kPeer : kPeer6;
    const Connected connection(family);
    // Handshakes that nobody finishes use up what the source has; so does what is no connection.
    const unsigned passed = Passing(Segment(peer, connection.port), 2 * kSegments + 20);
    EXPECT_GE(passed, 2 * kSegments);
    EXPECT_LT(passed, 2 * kSegments + 20);
    EXPECT_EQ(Run(Segment(peer, 1)), handshake_limited);
    connection.Prioritise(PORTCULLIS_AUTHENTICATED_PRIORITY - 1);
    EXPECT_LT(Passing(Segment(peer, connection.port), 20), 20U);
    connection.Prioritise(PORTCULLIS_AUTHENTICATED_PRIORITY);
    EXPECT_EQ(Passing(Segment(peer, connection.port), 500), 500U);
    EXPECT_LT(Passing(Segment(peer, 1), 20), 20U) << "another one of the same source";
    EXPECT_EQ(Run(Segment(peer, 1, {}, 22)), exception) << "another service";
  }
  Check({{"a source that has sent nothing yet", Segment("192.0.2.3", 1), exception}});
}

TEST_F(XdpConnectionTest, WithoutALimitOfHandshakesThereIsNone) {
  Sessions({});
  EXPECT_EQ(Passing(Segment(kPeer, 1), 1000), 1000U);
}

TEST_F(XdpConnectionTest, OnlyTlsBegins) {
  const Bytes hello{22, 3, 1, 0, 5, 1}, get{'G', 'E', 'T', ' '};
  Sessions({});
  for (const std::string& peer : {kPeer, kPeer6}) {
    SCOPED_TRACE(peer);
    EXPECT_EQ(Run(Syn(peer, 1000)), exception);
    Check(
        {{"an acknowledgement", Segment(peer, 1000), exception},
         {"a ClientHello", Segment(peer, 1000, hello), exception},
         {"again", Segment(peer, 1000, hello), exception},
         {"behind TCP's options", Segment(peer, 1000, hello, kGuard, 1, 12), exception},
         {"its first byte", Segment(peer, 1000, {22}), exception},
         {"HTTP", Segment(peer, 1000, get), not_tls},
         {"HTTP behind TCP's options", Segment(peer, 1000, get, kGuard, 1, 12), not_tls},
         {"another first byte", Segment(peer, 1000, {21}), not_tls},
         {"another record", Segment(peer, 1000, {23, 3, 3}), not_tls},
         {"another version", Segment(peer, 1000, {22, 2}), not_tls},
         {"what comes later", Segment(peer, 1000, get, kGuard, 2), exception},
         {"of a connection that began before the program did", Segment(peer, 1001, get), exception},
         {"to another service", Segment(peer, 1000, get, 22), exception}});
  }
}

// An offset of the data beyond the segment: there is no payload to look at.
TEST_F(XdpConnectionTest, AnOffsetBeyondTheSegment) {
  Sessions({});
  EXPECT_EQ(Run(Syn(kPeer, 1000)), exception);
  Bytes beyond = Segment(kPeer, 1000, {'G', 'E', 'T', ' '});
  beyond[14 + 20 + 12] = 0xf0;
  EXPECT_EQ(Run(beyond), exception);  // the kernel's TCP refuses it
}

}  // namespace
}  // namespace portcullis
