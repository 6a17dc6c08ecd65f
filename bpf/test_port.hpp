// For the tests of the XDP program: a network namespace with a wire, the program attached to it as
// in service, and packets fed to it by BPF_PROG_TEST_RUN. Needs root.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "bpf/loader.hpp"

namespace portcullis {

using Bytes = std::vector<uint8_t>;

inline Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Builders, from the outside in. The IP header's length and checksum are left to Finished().
Bytes Ethernet(uint16_t ethertype, const std::string& destination = "02:00:00:00:00:01");
Bytes Vlan(uint16_t ethertype_inside);  // appended to an Ethernet() of type 0x8100
struct V4Options {
  uint8_t ttl = 64;
  uint16_t fragment = 0;  // flags and offset, as in the header
  Bytes options = {};     // whole 32-bit words
  uint16_t length = 0;    // 0: the right one
  uint16_t checksum = 0;  // 0: the right one
};
Bytes V4(const std::string& source, const std::string& destination, uint8_t protocol,
         const V4Options& more = {});
/// `length` 0: the right one.
Bytes V6(const std::string& source, const std::string& destination, uint8_t next,
         uint8_t hop_limit = 64, uint16_t length = 0);
/// `wrong_by` is added to the length.
Bytes Udp(uint16_t source, uint16_t destination, const Bytes& payload = {}, int wrong_by = 0);
constexpr uint8_t kSyn = 0x02, kAck = 0x10;
Bytes Tcp(uint16_t source, uint16_t destination, uint8_t flags = kAck);
/// Header and 24 bytes more.
Bytes Esp(uint32_t spi, uint32_t sequence = 0xeeeeeeee);
Bytes Icmp(uint8_t type);  // 8 bytes of header
Bytes Extension(uint8_t next, uint8_t length = 0, uint8_t routing_type = 0, uint8_t segments = 0);
Bytes FragmentHeader(uint8_t next, uint16_t offset_and_more);
/// Writes the outer IP header's length and checksum where they are 0.
Bytes Finished(Bytes frame);

struct Case {
  const char* description;
  Bytes packet;
  Verdict expected;
};

/// An interface `wire0` (its far end is `far0`) in a network namespace of the test's own, which is
/// gone with the process; its pins go with the test.
class PortTest : public ::testing::Test {
 protected:
  static constexpr char kPort[] = "wire";
  static constexpr uint32_t kSpi = 0x1001;

  void SetUp() override;
  void TearDown() override;

  /// `ip ARGUMENTS`, which must succeed.
  static void Ip(const std::string& arguments);
  void MakeWire();

  /// Attaches with `role`, the addresses, the SPIs (kSpi and 1) and the policy (Policy()) of the
  /// tests, and a socket if wanted.
  void Attach(XdpRole role, bool with_socket);
  void Attach(const XdpVariant& variant, bool with_socket);
  /// Protected: 10.2.0.0/24 and 2001:db8:2::/64; everything else as it is without a policy.
  static XdpPolicy Policy();
  /// The next generation.
  void Apply(XdpPolicy policy);
  /// Puts a new AF_XDP socket on queue 0 / closes it, as a dataplane that starts / dies would.
  void OpenSocket();
  void CloseSocket();
  /// What the program does with Finished(packet): the one counter that moved. Return value and the
  /// packet afterwards are checked.
  Verdict Run(const Bytes& packet);
  void Check(const std::vector<Case>& cases);

  [[nodiscard]] std::string Pin(const std::string& object) const;
  /// Id of the XDP program on wire0; 0 when there is none.
  static uint32_t ProgramOnWire();
  /// Of the link that is pinned there; 0 when there is none.
  static uint32_t LinkId(const std::string& pin);

  std::string instance_;
  uint64_t generation_ = 0;
  std::optional<XdpPort> port_;
  int socket_ = -1;
};

}  // namespace portcullis
