// What the first line of defence decides by: compiled by control from the policy, in force in the
// XDP program of a port that is shared with the kernel and, on a port that DPDK owns whole, in the
// pipeline's stage `prefilter`. Both give the same verdicts. It knows outer headers only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ip.hpp"

namespace portcullis {

struct SourceRule {
  Prefix prefix;  // of the outer source; the longest that contains it decides
  bool admit = true;

  bool operator==(const SourceRule&) const = default;
};

/// For each source prefix by itself, or for all strangers together.
struct SourceLimit {
  uint64_t per_second = 0;  // 0: unlimited
  uint32_t burst = 0;       // how many may come at once; at least 1 where there is a limit

  bool operator==(const SourceLimit&) const = default;
};

/// A service of the gate's own, on the untrusted side.
struct ServiceRange {
  uint8_t protocol = 0;  // IANA number
  uint16_t first = 0;    // ports, inclusive; 0..65535 where the protocol has none
  uint16_t last = UINT16_MAX;

  bool operator==(const ServiceRange&) const = default;
};

struct FirstLine {
  static constexpr size_t kMostServices = 16;  // sessions and host together

  bool admit_strangers = true;      // sources that no rule names
  std::vector<SourceRule> sources;  // each prefix once
  // What counts as one source for the limits.
  uint8_t ipv4_length = 32;
  uint8_t ipv6_length = 64;
  SourceLimit packets;                 // whatever goes to the dataplane
  SourceLimit handshakes;              // TCP SYN, and any UDP datagram, to a port of `sessions`
  SourceLimit strangers;               // the same, all sources together that no rule admits by name
  std::vector<ServiceRange> sessions;  // the guard's ports
  bool whole_host = true;              // everything addressed to the host itself goes to the kernel
  std::vector<ServiceRange> host;      // otherwise these, the sessions, and ICMP

  bool operator==(const FirstLine&) const = default;
};

}  // namespace portcullis
