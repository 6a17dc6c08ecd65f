#include "bench/generator/neighbour.hpp"

#include <rte_arp.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include <algorithm>

namespace portcullis::generator {
namespace {

struct ArpFrame {
  rte_ether_hdr ethernet;
  rte_arp_hdr arp;
};
static_assert(sizeof(ArpFrame) == 42);

rte_ether_addr Ether(const MacBytes& mac) {
  rte_ether_addr out{};
  std::copy(mac.begin(), mac.end(), out.addr_bytes);
  return out;
}

ArpFrame* Read(rte_mbuf* frame) noexcept {
  if (frame->data_len < sizeof(ArpFrame)) return nullptr;
  auto* arp = rte_pktmbuf_mtod(frame, ArpFrame*);
  return arp->ethernet.ether_type == RTE_BE16(RTE_ETHER_TYPE_ARP) ? arp : nullptr;
}

void Ask(uint16_t port, rte_mempool* pool, const MacBytes& mac, uint32_t own, uint32_t gate) {
  rte_mbuf* frame = rte_pktmbuf_alloc(pool);
  if (frame == nullptr) return;  // asked again soon
  auto* out = reinterpret_cast<ArpFrame*>(rte_pktmbuf_append(frame, sizeof(ArpFrame)));
  *out = {};
  std::fill_n(out->ethernet.dst_addr.addr_bytes, 6, 0xff);
  out->ethernet.src_addr = Ether(mac);
  out->ethernet.ether_type = RTE_BE16(RTE_ETHER_TYPE_ARP);
  out->arp.arp_hardware = RTE_BE16(RTE_ARP_HRD_ETHER);
  out->arp.arp_protocol = RTE_BE16(RTE_ETHER_TYPE_IPV4);
  out->arp.arp_hlen = 6;
  out->arp.arp_plen = 4;
  out->arp.arp_opcode = RTE_BE16(RTE_ARP_OP_REQUEST);
  out->arp.arp_data = {Ether(mac), rte_cpu_to_be_32(own), {}, rte_cpu_to_be_32(gate)};
  if (rte_eth_tx_burst(port, 0, &frame, 1) == 0) rte_pktmbuf_free(frame);
}

}  // namespace

bool HandleArp(rte_mbuf* frame, uint32_t own, const MacBytes& mac, bool& answer) noexcept {
  answer = false;
  ArpFrame* in = Read(frame);
  if (in == nullptr) return false;
  rte_arp_ipv4& data = in->arp.arp_data;
  if (in->arp.arp_opcode != RTE_BE16(RTE_ARP_OP_REQUEST) || data.arp_tip != rte_cpu_to_be_32(own)) {
    return true;
  }
  const rte_arp_ipv4 asked = data;
  in->ethernet.dst_addr = in->ethernet.src_addr;
  in->ethernet.src_addr = Ether(mac);
  in->arp.arp_opcode = RTE_BE16(RTE_ARP_OP_REPLY);
  data = {Ether(mac), asked.arp_tip, asked.arp_sha, asked.arp_sip};
  answer = true;
  return true;
}

std::optional<MacBytes> FindGate(const Options& o, const Devices& devices, bool wire_side,
                                 unsigned seconds) {
  const std::string& given = wire_side ? o.gate_wire_mac : o.gate_core_mac;
  if (!given.empty()) {
    rte_ether_addr mac{};
    rte_ether_unformat_addr(given.c_str(), &mac);
    MacBytes bytes{};
    std::copy_n(mac.addr_bytes, bytes.size(), bytes.begin());
    return bytes;
  }
  const Device& device = wire_side ? devices.wire : devices.core;
  const uint32_t own = wire_side ? o.wire : o.server;
  const uint32_t gate = wire_side ? o.gate_wire : o.gate_core;
  const uint64_t hz = rte_get_tsc_hz();
  const uint64_t end = rte_rdtsc() + seconds * hz;
  uint64_t ask_at = 0;
  while (rte_rdtsc() < end) {
    if (rte_rdtsc() >= ask_at) {
      Ask(device.id, devices.pool, device.mac, own, gate);
      ask_at = rte_rdtsc() + hz / 5;
    }
    rte_mbuf* frames[32];
    const uint16_t count = rte_eth_rx_burst(device.id, 0, frames, 32);
    std::optional<MacBytes> found;
    for (uint16_t i = 0; i < count; ++i) {
      const ArpFrame* in = Read(frames[i]);
      if (in != nullptr && in->arp.arp_opcode == RTE_BE16(RTE_ARP_OP_REPLY) &&
          in->arp.arp_data.arp_sip == rte_cpu_to_be_32(gate)) {
        found.emplace();
        std::copy_n(in->arp.arp_data.arp_sha.addr_bytes, found->size(), found->begin());
      }
      bool answer = false;
      HandleArp(frames[i], own, device.mac, answer);
      if (!answer || rte_eth_tx_burst(device.id, 0, &frames[i], 1) == 0)
        rte_pktmbuf_free(frames[i]);
    }
    if (found) return found;
  }
  return std::nullopt;
}

}  // namespace portcullis::generator
