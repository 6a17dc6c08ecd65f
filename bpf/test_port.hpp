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

// Builders, from the outside in. Lengths and checksums that XDP does not read may be wrong.
Bytes Ethernet(uint16_t ethertype, const std::string& destination = "02:00:00:00:00:01");
Bytes Vlan(uint16_t ethertype_inside);  // appended to an Ethernet() of type 0x8100
struct V4Options {
  uint8_t ttl = 64;
  uint16_t fragment = 0;  // flags and offset, as in the header
  Bytes options = {};     // whole 32-bit words
};
Bytes V4(const std::string& source, const std::string& destination, uint8_t protocol,
         const V4Options& more = {});
Bytes V6(const std::string& source, const std::string& destination, uint8_t next,
         uint8_t hop_limit = 64);
Bytes Udp(uint16_t source, uint16_t destination);
Bytes Tcp(uint16_t source, uint16_t destination);
Bytes Esp(uint32_t spi);   // header and 24 bytes more
Bytes Icmp(uint8_t type);  // 8 bytes of header
Bytes Extension(uint8_t next, uint8_t length = 0, uint8_t routing_type = 0, uint8_t segments = 0);
Bytes FragmentHeader(uint8_t next, uint16_t offset_and_more);

enum class Seen { kPassed, kRedirected, kNoSocket, kThrottled, kMalformed, kNotForUs };
std::string Name(Seen seen);

/// An interface `wire0` (its far end is `far0`) in a network namespace of the test's own, which is
/// gone with the process; its pins go with the test.
class PortTest : public ::testing::Test {
 protected:
  static constexpr char kPort[] = "wire";

  void SetUp() override;
  void TearDown() override;

  /// `ip ARGUMENTS`, which must succeed.
  static void Ip(const std::string& arguments);
  void MakeWire();

  /// Attaches with `role`, the addresses and prefixes of the tests, and a socket if wanted.
  void Attach(XdpRole role, bool with_socket);
  /// Puts a new AF_XDP socket on queue 0 / closes it, as a dataplane that starts / dies would.
  void OpenSocket();
  void CloseSocket();
  /// What the program does with the packet: its return value and the one counter that moved.
  Seen Run(const Bytes& packet);

  [[nodiscard]] std::string Pin(const std::string& object) const;
  /// Id of the XDP program on wire0; 0 when there is none.
  static uint32_t ProgramOnWire();

  std::string instance_;
  std::optional<XdpPort> port_;
  int socket_ = -1;
};

}  // namespace portcullis
