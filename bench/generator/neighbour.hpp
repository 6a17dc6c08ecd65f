// ARP (RFC 826), as far as the generator needs it: it finds the gate's address before it sends, and
// answers when the gate's kernel asks for one of ours, so that neither side needs neighbours typed
// in.
#pragma once

#include <rte_mbuf.h>

#include <optional>

#include "bench/generator/device.hpp"

namespace portcullis::generator {

/// Whether the frame is ARP. If it asks for `own`, it was turned into the answer in place, ready to
/// be sent back; then `answer` is true.
bool HandleArp(rte_mbuf* frame, uint32_t own, const MacBytes& mac, bool& answer) noexcept;

/// The gate's MAC on the wire or the core side: as the options say, or asked for by ARP, answering
/// meanwhile; nothing when nobody says it in `seconds`. Who is asked learns who asks (RFC 826), so
/// that the gate need not hold the first packets until it has found us (RFC 2544 23: learning
/// frames). Only before the threads start.
std::optional<MacBytes> FindGate(const Options& options, const Devices& devices, bool wire_side,
                                 unsigned seconds);

}  // namespace portcullis::generator
