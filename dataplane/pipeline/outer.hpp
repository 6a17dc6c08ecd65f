// The outermost IP header of a packet from the wire, as parse reads it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/packet/packet.hpp"

namespace portcullis {

struct Outer {
  std::span<const uint8_t> transport;  // behind the IP header, to the packet's stated end
  uint8_t protocol = 0;
  bool v4 = false;
  bool fragment = false;
  bool options = false;  // of IPv4
};

/// Nothing when it contradicts itself or the frame.
std::optional<Outer> ReadOuter(Packet& packet) noexcept;

}  // namespace portcullis
