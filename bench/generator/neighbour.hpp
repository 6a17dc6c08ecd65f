// ARP (RFC 826), as far as the generator needs it: it finds the gate's address before it sends, and
// answers when the gate's kernel asks for one of ours, so that neither side needs neighbours typed
// in.
#pragma once

#include <rte_mbuf.h>

#include "bench/generator/device.hpp"

namespace portcullis::generator {

/// Whether the frame is ARP. If it asks for `own`, it was turned into the answer in place, ready to
/// be sent back; then `answer` is true.
bool HandleArp(rte_mbuf* frame, uint32_t own, const MacBytes& mac, bool& answer) noexcept;

/// Asks on the wire or the core port for the gate's MAC, answering meanwhile; ends the program when
/// nobody says it in 5 s. Only before the threads start.
MacBytes FindGate(const Options& options, const Devices& devices, bool wire_side);

}  // namespace portcullis::generator
