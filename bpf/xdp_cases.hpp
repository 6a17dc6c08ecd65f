// Packets and what becomes of them, for the tests of the XDP program and of whatever gives the same
// verdicts.
#pragma once

#include <string>
#include <vector>

#include "bpf/test_port.hpp"

namespace portcullis::xdp {

inline constexpr uint16_t kIp4 = 0x0800, kIp6 = 0x86dd, kArp = 0x0806, kVlan = 0x8100,
                          kQinQ = 0x88a8;
inline constexpr uint16_t kMore = 0x2000;
inline constexpr uint8_t kEsp = 50, kUdp = 17, kTcp = 6, kIcmp = 1, kIcmp6 = 58;
// Attackers and peers are .2/.66, the gate is .1, the servers are in 10.2.0.0/24 and
// 2001:db8:2::/64.
inline const std::string kPeer = "192.0.2.2", kGate = "192.0.2.1", kServer = "10.2.0.10";
inline const std::string kPeer6 = "2001:db8::2", kGate6 = "2001:db8::1",
                         kServer6 = "2001:db8:2::10";
inline const std::string kSolicited = "33:33:ff:00:00:01", kBroadcast = "ff:ff:ff:ff:ff:ff";

inline const Bytes kTo4 = Ethernet(kIp4), kTo6 = Ethernet(kIp6);

/// On an untrusted port, and on the others, with the policy of PortTest::Attach() and a dataplane
/// there.
std::vector<Case> WireCases();
std::vector<Case> InsideCases();

}  // namespace portcullis::xdp
