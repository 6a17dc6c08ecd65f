#include "dataplane/transmit.hpp"

#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include "dataplane/state/sa.hpp"

namespace portcullis {
namespace {

constexpr unsigned kRingSize = 1024;
// A queue that is full for a moment is waited for; one that stays full is not.
constexpr int kTries = 16;

unsigned SendBurst(uint16_t port, uint16_t queue, rte_mbuf** frames, unsigned count) noexcept {
  unsigned sent = 0;
  for (int i = 0; i < kTries && sent < count; ++i) {
    if (i > 0) rte_pause();
    sent += rte_eth_tx_burst(port, queue, frames + sent, static_cast<uint16_t>(count - sent));
  }
  return sent;
}

}  // namespace

Result<TransmitRings> MakeTransmitRings(const std::vector<Port>& ports, unsigned workers) {
  TransmitRings rings(RTE_MAX_ETHPORTS);
  for (const Port& port : ports) {
    rings[port.id].resize(port.tx_queues);
    if (port.tx_queues >= workers) continue;
    for (unsigned q = 0; q < port.tx_queues; ++q) {
      const std::string name = "tx_" + std::to_string(port.id) + "_" + std::to_string(q);
      rings[port.id][q] = rte_ring_create(name.c_str(), kRingSize, SOCKET_ID_ANY, RING_F_SC_DEQ);
      if (rings[port.id][q] == nullptr) {
        return Fail(ErrorKind::kExhausted, "no memory for the transmit ring of port " + port.name);
      }
    }
  }
  return rings;
}

Transmit::Transmit(const std::vector<Port>& ports, const TransmitRings& rings, unsigned worker,
                   Counters& counters)
    : counters_(counters) {
  for (const Port& port : ports) {
    auto out = std::make_unique<Out>();
    out->queue = static_cast<uint16_t>(worker % port.tx_queues);
    rte_ring* shared = rings[port.id][out->queue];
    // The first worker of a queue owns it.
    (worker < port.tx_queues ? out->take_from : out->pass_to) = shared;
    outs_[port.id] = std::move(out);
  }
}

void Transmit::Count(const Account& account, Verdict verdict, uint64_t packets,
                     uint64_t bytes) noexcept {
  if (!account.counts) return;
  counters_.Count(verdict, packets);
  counters_.CountBytes(bytes);
  if (account.sa == nullptr) return;
  account.sa->counters.Count(verdict, packets);
  account.sa->counters.CountBytes(bytes);
}

void Transmit::FlushPort(Out& out, uint16_t port) noexcept {
  unsigned sent = 0;
  if (out.pass_to != nullptr) {
    sent = rte_ring_enqueue_burst(out.pass_to, reinterpret_cast<void**>(out.frames.data()),
                                  out.count, nullptr);
  } else {
    sent = SendBurst(port, out.queue, out.frames.data(), out.count);
  }
  // A run of packets that count for the same is counted at once.
  for (unsigned begin = 0; begin < sent;) {
    const Account& account = out.accounts[begin];
    uint64_t bytes = 0;
    unsigned end = begin;
    for (; end < sent && out.accounts[end].IsLike(account); ++end) {
      bytes += out.accounts[end].inner_bytes;
    }
    Count(account, account.verdict, end - begin, bytes);
    begin = end;
  }
  for (unsigned i = sent; i < out.count; ++i) {
    Count(out.accounts[i], Verdict::queue_full, 1, 0);
    rte_pktmbuf_free(out.frames[i]);
  }
  out.count = 0;
}

unsigned Transmit::Flush() noexcept {
  unsigned passed = 0;
  for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; ++port) {
    if (!outs_[port]) continue;
    Out& out = *outs_[port];
    if (out.count > 0) FlushPort(out, port);
    if (out.take_from == nullptr) continue;
    // Counted where they were judged; here only what does not fit is still to be told.
    rte_mbuf* frames[kMost];
    const unsigned count =
        rte_ring_sc_dequeue_burst(out.take_from, reinterpret_cast<void**>(frames), kMost, nullptr);
    const unsigned sent = count == 0 ? 0 : SendBurst(port, out.queue, frames, count);
    for (unsigned i = sent; i < count; ++i) {
      counters_.Count(Verdict::queue_full);
      rte_pktmbuf_free(frames[i]);
    }
    passed += count;
  }
  return passed;
}

}  // namespace portcullis
