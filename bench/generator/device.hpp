// The generator's ports: any DPDK device, and the EAL under it.
#pragma once

#include <rte_mbuf.h>
#include <rte_ring.h>

#include <string>

#include "bench/generator/options.hpp"

namespace portcullis::generator {

/// The EAL with the devices of the options and nothing else; lcore i runs on their core i.
void StartEal(const Options& options);

struct Device {
  uint16_t id = 0;
  MacBytes mac{};
};

/// Both ports, started; the same one twice when there is only one.
struct Devices {
  rte_mempool* pool = nullptr;
  Device wire, core;
  uint16_t senders = 1;         // one transmit queue each
  rte_ring* replies = nullptr;  // ARP's, made by the receiver, sent by the first sender
  explicit Devices(const Options& options);
  ~Devices();
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;
  [[nodiscard]] bool OnePort() const { return wire.id == core.id; }
};

}  // namespace portcullis::generator
