// What the program tells: its counters, and copies of what it dropped.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <iterator>
#include <utility>

#include "bpf/handles.hpp"
#include "bpf/pins.hpp"
#include "bpf/shared.h"

namespace portcullis {
namespace {

static_assert(kFirstLineVerdicts.size() == PORTCULLIS_COUNTERS);

/// Takes one sample; called by libbpf. Negative: no more for now.
int TakeOne(void* context, void* data, size_t size) {
  auto& handles = *static_cast<XdpPort::Handles*>(context);
  const auto* drop = static_cast<const portcullis_drop*>(data);
  if (size >= sizeof(*drop) && drop->counter < kFirstLineVerdicts.size()) {
    const size_t captured = std::min<size_t>(drop->captured, sizeof(drop->frame));
    handles.taken.push_back({.at = std::chrono::nanoseconds(drop->at_ns),
                             .verdict = kFirstLineVerdicts[drop->counter],
                             .length = drop->length,
                             .rx_queue = drop->rx_queue,
                             .frame = {drop->frame, drop->frame + captured}});
  }
  return handles.taken.size() >= handles.wanted ? -ECANCELED : 0;
}

}  // namespace

uint64_t XdpCounters::Of(Verdict verdict) const {
  const auto found = std::ranges::find(kFirstLineVerdicts, verdict);
  return found == kFirstLineVerdicts.end()
             ? 0
             : packets[static_cast<size_t>(std::distance(kFirstLineVerdicts.begin(), found))];
}

uint64_t XdpCounters::Dropped() const {
  uint64_t sum = 0;
  for (size_t i = 0; i < packets.size(); ++i) {
    const Verdict verdict = kFirstLineVerdicts[i];
    if (verdict != Verdict::accepted && verdict != Verdict::exception) sum += packets[i];
  }
  return sum;
}

XdpCounters XdpPort::Read() const {
  XdpCounters sums;
  std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t counter = 0; counter < PORTCULLIS_COUNTERS; ++counter) {
    if (bpf_map_lookup_elem(handles_->counters.get(), &counter, per_cpu.data()) != 0) continue;
    for (const uint64_t value : per_cpu) sums.packets[counter] += value;
  }
  return sums;
}

Result<void> XdpPort::WatchDrops(uint32_t one_in) {
  constexpr uint32_t kZero = 0;
  constexpr uint32_t kMost = 1U << 31U;
  if (one_in != 0 && !handles_->ring) {
    handles_->ring.reset(
        ring_buffer__new(handles_->drops.get(), &TakeOne, handles_.get(), nullptr));
    if (!handles_->ring) return SystemError("cannot read the XDP program's ring buffer", errno);
    while (!TakeDrops(PORTCULLIS_DROPS_BYTES).empty()) {  // somebody else's, long ago
    }
  }
  const uint32_t rounded = one_in == 0 ? 0 : std::bit_ceil(std::min(one_in, kMost));
  if (bpf_map_update_elem(handles_->watching.get(), &kZero, &rounded, BPF_ANY) != 0) {
    return SystemError("cannot tell the XDP program which drops to copy", errno);
  }
  return {};
}

std::vector<XdpDrop> XdpPort::TakeDrops(size_t most) {
  if (!handles_->ring || most == 0) return {};
  handles_->wanted = most;
  ring_buffer__consume(handles_->ring.get());  // its errors are TakeOne's own
  return std::exchange(handles_->taken, {});
}

}  // namespace portcullis
