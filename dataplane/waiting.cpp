#include "dataplane/waiting.hpp"

#include "dataplane/worker.hpp"

namespace portcullis {

void Waiting::Ask(const NextHop& hop, const Address& destination, Worker& worker) noexcept {
  const Address& whom = hop.gateway == Address() ? destination : hop.gateway;
  worker.Tell({.address = whom, .port = hop.port, .kind = MainMessage::Kind::resolve});
}

bool Waiting::Add(const Packet& packet, const NextHop& hop, const Address& destination,
                  Worker& worker) noexcept {
  if (count_ == most_) return false;
  const uint64_t now = worker.now();
  entries_[count_++] = {packet, destination, now + timeout_, now + timeout_ / 8};
  Ask(hop, destination, worker);
  return true;
}

void Waiting::Review(Worker& worker) noexcept {
  const uint64_t now = worker.now();
  unsigned kept = 0;
  for (unsigned i = 0; i < count_; ++i) {
    Entry& entry = entries_[i];
    Sa* sa = entry.packet.sa;
    if (sa != nullptr && sa->removed.load(std::memory_order_acquire)) {
      entry.packet.sa = nullptr;
      worker.End(entry.packet, Verdict::no_neighbour);
      continue;
    }
    const NextHop* hop =
        worker.fib() == nullptr ? nullptr : worker.fib()->Lookup(entry.destination);
    if (hop != nullptr && hop->resolved) {
      worker.Send(
          entry.packet, sizeof(rte_ether_hdr),
          static_cast<uint16_t>(rte_pktmbuf_data_len(entry.packet.mbuf) - sizeof(rte_ether_hdr)),
          *hop);
      continue;
    }
    if (hop == nullptr || now >= entry.give_up) {
      worker.End(entry.packet, hop == nullptr ? Verdict::no_route : Verdict::no_neighbour);
      continue;
    }
    if (now >= entry.ask_again) {
      Ask(*hop, entry.destination, worker);
      entry.ask_again = now + timeout_ / 8;
    }
    if (kept != i) entries_[kept] = entry;
    ++kept;
  }
  count_ = kept;
}

}  // namespace portcullis
