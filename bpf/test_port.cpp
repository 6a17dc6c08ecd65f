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
  return Bytes{static_cast<uint8_t>(0x40 | words), 0} + Big16(more.length) + Big16(1) +
         Big16(more.fragment) + Bytes{more.ttl, protocol} + Big16(more.checksum) +
         Binary(AF_INET, source) + Binary(AF_INET, destination) + more.options;
}

Bytes V6(const std::string& source, const std::string& destination, uint8_t next, uint8_t hop_limit,
         uint16_t length) {
  return Bytes{0x60, 0, 0, 0} + Big16(length) + Bytes{next, hop_limit} + Binary(AF_INET6, source) +
         Binary(AF_INET6, destination);
}

Bytes Udp(uint16_t source, uint16_t destination, const Bytes& payload, int wrong_by) {
  const int length = 8 + static_cast<int>(payload.size()) + wrong_by;
  return Big16(source) + Big16(destination) + Big16(static_cast<unsigned>(length)) + Big16(0) +
         payload;
}

Bytes Tcp(uint16_t source, uint16_t destination, uint8_t flags) {
  return Big16(source) + Big16(destination) + Bytes(8, 0) + Bytes{0x50, flags} + Bytes(6, 0);
}

Bytes Esp(uint32_t spi, uint32_t sequence) {
  return Big16(spi >> 16) + Big16(spi & 0xffff) + Big16(sequence >> 16) + Big16(sequence & 0xffff) +
         Bytes(24, 0xee);
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

Bytes Finished(Bytes frame) {
  size_t at = 12;
  while (at + 6 <= frame.size() && (frame[at] == 0x81 || frame[at] == 0x88) &&
         frame[at + 1] != 0xcc && frame[at + 1] != 0x47) {
    at += 4;  // a VLAN tag
  }
  if (at + 2 > frame.size()) return frame;
  const bool v4 = frame[at] == 0x08 && frame[at + 1] == 0x00;
  const bool v6 = frame[at] == 0x86 && frame[at + 1] == 0xdd;
  at += 2;
  const auto put = [&frame](size_t where, size_t value) {
    if (frame[where] != 0 || frame[where + 1] != 0) return;
    frame[where] = static_cast<uint8_t>(value >> 8);
    frame[where + 1] = static_cast<uint8_t>(value);
  };
  if (v6 && at + 40 <= frame.size()) put(at + 4, frame.size() - at - 40);
  if (!v4 || at + 20 > frame.size()) return frame;
  put(at + 2, frame.size() - at);
  const size_t header = size_t{frame[at] & 0xfU} * 4;
  if (at + header > frame.size()) return frame;
  uint32_t sum = 0;
  for (size_t i = 0; i < header; i += 2) sum += frame[at + i] << 8U | frame[at + i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16U);
  put(at + 10, ~sum & 0xffff);
  return frame;
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
  Attach(XdpVariant{.role = role}, with_socket);
}

void PortTest::Attach(const XdpVariant& variant, bool with_socket) {
  auto attached = XdpPort::Attach(instance_, kPort, "wire0", variant);
  ASSERT_TRUE(attached) << attached.error().Text();
  port_ = std::move(*attached);
  const Address own[] = {Parsed("192.0.2.1"), Parsed("2001:db8::1"), Parsed("fe80::1")};
  ASSERT_TRUE(port_->SetOwnAddresses(own));
  port_->spis().Add(Spi{kSpi}, 0);
  port_->spis().Add(Spi{2}, 0);
  Apply(Policy());
  if (with_socket) OpenSocket();
}

XdpPolicy PortTest::Policy() {
  XdpPolicy policy;
  policy.protected_nets = {Prefix::Parse("10.2.0.0/24").value(),
                           Prefix::Parse("2001:db8:2::/64").value()};
  return policy;
}

void PortTest::Apply(XdpPolicy policy) {
  policy.generation = ++generation_;
  const auto prepared = port_->Prepare(policy);
  ASSERT_TRUE(prepared) << prepared.error().Text();
  const auto committed = port_->Commit();
  ASSERT_TRUE(committed) << committed.error().Text();
  ASSERT_EQ(port_->generation(), generation_);
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

Verdict PortTest::Run(const Bytes& packet) {
  const Bytes in = Finished(packet);
  Bytes out(in.size() + 256);
  const XdpCounters before = port_->Read();
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in.data(), .data_out = out.data(),
              .data_size_in = static_cast<uint32_t>(in.size()),
              .data_size_out = static_cast<uint32_t>(out.size()), .repeat = 1);
  EXPECT_EQ(bpf_prog_test_run_opts(port_->program(), &run), 0) << strerror(errno);
  out.resize(run.data_size_out);
  EXPECT_EQ(out, in) << "the packet was changed";
  const XdpCounters after = port_->Read();
  std::vector<Verdict> moved;
  for (const Verdict verdict : kFirstLineVerdicts) {
    const uint64_t by = after.Of(verdict) - before.Of(verdict);
    if (by == 0) continue;
    EXPECT_EQ(by, 1U) << Info(verdict).name;
    EXPECT_EQ(run.retval, static_cast<uint32_t>(verdict == Verdict::accepted    ? XDP_REDIRECT
                                                : verdict == Verdict::exception ? XDP_PASS
                                                                                : XDP_DROP))
        << Info(verdict).name;
    moved.push_back(verdict);
  }
  EXPECT_EQ(moved.size(), 1U) << "a packet is counted exactly once";
  return moved.empty() ? Verdict::crypto_error : moved.front();
}

void PortTest::Check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const Verdict expected =
        c.expected == Verdict::accepted && socket_ < 0 ? Verdict::no_socket : c.expected;
    const Verdict verdict = Run(c.packet);
    EXPECT_EQ(verdict, expected) << c.description << ": expected " << Info(expected).name
                                 << ", was " << Info(verdict).name;
  }
}

std::string PortTest::Pin(const std::string& object) const {
  return "/sys/fs/bpf/portcullis/" + instance_ + "/" + kPort + "/" + object;
}

uint32_t PortTest::ProgramOnWire() {
  uint32_t id = 0;
  EXPECT_EQ(bpf_xdp_query_id(static_cast<int>(if_nametoindex("wire0")), 0, &id), 0);
  return id;
}

uint32_t PortTest::LinkId(const std::string& pin) {
  const int fd = bpf_obj_get(pin.c_str());
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  const bool ok = fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &length) == 0;
  if (fd >= 0) close(fd);
  return ok ? info.id : 0;
}

}  // namespace portcullis
