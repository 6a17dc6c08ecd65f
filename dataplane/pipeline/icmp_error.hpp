// Telling a sender on the trusted side why its packet could not go: path MTU and TTL.
#pragma once

#include <cstdint>

#include "dataplane/packet/packet.hpp"

namespace portcullis {

class Worker;

/// "Packet too big" (RFC 1191 4, RFC 4443 3.2) with the largest inner packet that fits, bytes.
void TellTooBig(Worker& worker, const Packet& packet, uint16_t mtu) noexcept;
/// "Time exceeded" (RFC 792, RFC 4443 3.3).
void TellTtlExpired(Worker& worker, const Packet& packet) noexcept;

}  // namespace portcullis
