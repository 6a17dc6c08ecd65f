// For the tests of the XDP program: a network namespace with a wire, the program attached to it as
// in service, and packets fed to it by BPF_PROG_TEST_RUN.
#include "bpf/test_port.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace portcullis {
namespace {

Bytes Big16(unsigned v) {
  return {static_cast<uint8_t>(v >> 8), static_cast<uint8_t>(v)};
}

Bytes Binary(int family, const std::string& text) {
  Bytes bytes(family == AF_INET ? 4 : 16);
  EXPECT_EQ(inet_pton(family, text.c_str(), bytes.data()), 1) << text;
  return bytes;
}

Address Parsed(const std::string& text) {
  return Address::Parse(text).value();
}

}  // namespace

Bytes Ethernet(uint16_t ethertype, const std::string& destination) {
  Bytes to(6);
  std::sscanf(destination.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to[0], &to[1], &to[2], &to[3],
              &to[4], &to[5]);
  return to + Bytes{2, 0, 0, 0, 0, 2} + Big16(ethertype);
}

Bytes Vlan(uint16_t ethertype_inside) {
  return Big16(7) + Big16(ethertype_inside);
}

Bytes V4(const std::string& source, const std::string& destination, uint8_t protocol,
         const V4Options& more) {
  const unsigned words = 5 + static_cast<unsigned>(more.options.size() / 4);
  return Bytes{static_cast<uint8_t>(0x40 | words), 0} + Big16(100) + Big16(1) +
         Big16(more.fragment) + Bytes{more.ttl, protocol, 0, 0} + Binary(AF_INET, source) +
         Binary(AF_INET, destination) + more.options;
}

Bytes V6(const std::string& source, const std::string& destination, uint8_t next,
         uint8_t hop_limit) {
  return Bytes{0x60, 0, 0, 0} + Big16(60) + Bytes{next, hop_limit} + Binary(AF_INET6, source) +
         Binary(AF_INET6, destination);
}

Bytes Udp(uint16_t source, uint16_t destination) {
  return Big16(source) + Big16(destination) + Big16(40) + Big16(0);
}

Bytes Tcp(uint16_t source, uint16_t destination) {
  return Big16(source) + Big16(destination) + Bytes(16, 0);
}

Bytes Esp(uint32_t spi) {
  return Big16(spi >> 16) + Big16(spi & 0xffff) + Bytes(28, 0xee);
}

Bytes Icmp(uint8_t type) {
  return Bytes{type, 0, 0, 0, 0, 0, 0, 0};
}

Bytes Extension(uint8_t next, uint8_t length, uint8_t routing_type, uint8_t segments) {
  return Bytes{next, length, routing_type, segments} + Bytes(4 + size_t{length} * 8, 0);
}

Bytes FragmentHeader(uint8_t next, uint16_t offset_and_more) {
  return Bytes{next, 0} + Big16(offset_and_more) + Bytes{0, 0, 0, 1};
}

std::string Name(Seen seen) {
  switch (seen) {
    case Seen::kPassed:
      return "passed to the kernel";
    case Seen::kRedirected:
      return "redirected to the dataplane";
    case Seen::kNoSocket:
      return "dropped for want of a socket";
    case Seen::kThrottled:
      return "dropped as throttled";
    case Seen::kMalformed:
      return "dropped as malformed";
    case Seen::kNotForUs:
      return "dropped as not for us";
  }
  return "?";
}

void PortTest::SetUp() {
  ASSERT_EQ(geteuid(), 0u) << "these tests load BPF programs: run them as root";
  ASSERT_EQ(unshare(CLONE_NEWNET), 0);
  instance_ = "test-" + std::to_string(getpid());
  MakeWire();
}

void PortTest::TearDown() {
  port_.reset();
  CloseSocket();
  (void)XdpPort::Detach(instance_, kPort);
}

void PortTest::Ip(const std::string& arguments) {
  ASSERT_EQ(std::system(("ip " + arguments).c_str()), 0) << "ip " << arguments;
}

void PortTest::MakeWire() {
  // Down, so that the kernel's own packets do not come through the program and its counters.
  Ip("link add wire0 type veth peer name far0");
}

void PortTest::Attach(XdpRole role, bool with_socket) {
  auto attached = XdpPort::Attach(instance_, kPort, "wire0", role);
  ASSERT_TRUE(attached) << attached.error().Text();
  port_ = std::move(*attached);
  const Address own[] = {Parsed("192.0.2.1"), Parsed("2001:db8::1"), Parsed("fe80::1")};
  ASSERT_TRUE(port_->SetOwnAddresses(own));
  const Prefix nets[] = {Prefix::Parse("10.2.0.0/24").value(),
                         Prefix::Parse("2001:db8:2::/64").value()};
  ASSERT_TRUE(port_->SetProtected(nets));
  if (with_socket) OpenSocket();
}

void PortTest::OpenSocket() {
  socket_ = socket(AF_XDP, SOCK_RAW, 0);
  ASSERT_GE(socket_, 0);
  const uint32_t queue = 0;
  ASSERT_EQ(bpf_map_update_elem(port_->sockets_map(), &queue, &socket_, BPF_ANY), 0);
}

void PortTest::CloseSocket() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

Seen PortTest::Run(const Bytes& packet) {
  const XdpCounters before = port_->Read();
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet.data(),
              .data_size_in = static_cast<uint32_t>(packet.size()), .repeat = 1);
  EXPECT_EQ(bpf_prog_test_run_opts(port_->program(), &run), 0) << strerror(errno);
  const XdpCounters after = port_->Read();
  std::vector<Seen> moved;
  const auto note = [&](Seen seen, uint64_t XdpCounters::*counter, uint32_t action) {
    const uint64_t by = after.*counter - before.*counter;
    if (by == 0) return;
    EXPECT_EQ(by, 1u) << Name(seen);
    EXPECT_EQ(run.retval, action) << Name(seen);
    moved.push_back(seen);
  };
  note(Seen::kPassed, &XdpCounters::passed, XDP_PASS);
  note(Seen::kRedirected, &XdpCounters::redirected, XDP_REDIRECT);
  note(Seen::kNoSocket, &XdpCounters::no_socket, XDP_DROP);
  note(Seen::kThrottled, &XdpCounters::throttled, XDP_DROP);
  note(Seen::kMalformed, &XdpCounters::malformed, XDP_DROP);
  note(Seen::kNotForUs, &XdpCounters::not_for_us, XDP_DROP);
  EXPECT_EQ(moved.size(), 1u) << "a packet is counted exactly once";
  return moved.empty() ? Seen::kNotForUs : moved.front();
}

std::string PortTest::Pin(const std::string& object) const {
  return "/sys/fs/bpf/portcullis/" + instance_ + "/" + kPort + "/" + object;
}

uint32_t PortTest::ProgramOnWire() {
  uint32_t id = 0;
  EXPECT_EQ(bpf_xdp_query_id(static_cast<int>(if_nametoindex("wire0")), 0, &id), 0);
  return id;
}

}  // namespace portcullis
