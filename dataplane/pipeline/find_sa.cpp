// SPI → security association. Whatever is not ESP is decided here: default deny.
#include <netinet/in.h>
#include <rte_ip.h>
#include <rte_prefetch.h>

#include <algorithm>

#include "dataplane/esp/header.hpp"
#include "dataplane/pipeline/host.hpp"
#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/pipeline/prefilter.hpp"
#include "dataplane/worker.hpp"

namespace portcullis {
namespace {

// What the next stages read of an SA. With many SAs each line is a cache miss: they are asked for
// together, for the whole burst.
void PrefetchSa(const Sa& sa) noexcept {
  rte_prefetch0(&sa);
  rte_prefetch0(&sa.policer);
  rte_prefetch0(&sa.endpoint);
  rte_prefetch0(&sa.last);
}
void PrefetchWhatItNames(const Sa& sa, const Packet& packet) noexcept {
  rte_prefetch0(sa.record);
  const auto* esp = reinterpret_cast<const EspHeader*>(packet.At(packet.esp));
  rte_prefetch0(sa.words + (esp->sequence.host() / 64 & sa.word_mask));
  rte_prefetch0(sa.peer);
  rte_prefetch0(&sa.peer->policed[static_cast<size_t>(Direction::inbound)]);
}

// So far the packet's SA is that of the SPI's slot; is it this SPI's?
Verdict FindEsp(Worker& worker, Packet& packet) noexcept {
  const Sa* sa = packet.sa;
  // The destination belongs to the SA's identity (RFC 4301 4.1).
  if (sa == nullptr || sa->spi != SpiOf(packet) || sa->local != DestinationOf(packet)) {
    packet.sa = nullptr;
    return JudgeUnknownEsp(worker, packet);
  }
  // Its worker says when it is over, since only there the SA's own counters tell.
  return sa->usable() || sa->worker != worker.index() ? Verdict::accepted : Verdict::sa_expired;
}

// Tells the main thread what an ICMP error says about the path MTU; it decides whether to believe.
void ReadIcmpError(Worker& worker, const Packet& packet) noexcept {
  constexpr size_t kIcmpHeader = 8;
  const uint8_t* icmp = packet.At(packet.esp);
  const std::span<const uint8_t> quote{icmp + kIcmpHeader, packet.esp_length - kIcmpHeader};
  const bool v4 = *packet.At(packet.l3) >> 4U == 4;
  const bool too_big = v4 ? icmp[0] == 3 && icmp[1] == 4 : icmp[0] == 2;
  if (!too_big) return;
  MainMessage message;
  message.kind = MainMessage::Kind::pmtu;
  size_t header = 0;
  uint8_t protocol = 0;
  uint32_t mtu = 0;
  if (v4) {
    const auto* ip = reinterpret_cast<const rte_ipv4_hdr*>(quote.data());
    message.address = Address::V4(&ip->dst_addr);
    header = rte_ipv4_hdr_len(ip);
    protocol = ip->next_proto_id;
    mtu = reinterpret_cast<const be16*>(icmp + 6)->host();
  } else {
    Ipv6Chain chain;
    if (!WalkIpv6(quote, chain)) return;
    message.address = Address::V6(reinterpret_cast<const rte_ipv6_hdr*>(quote.data())->dst_addr);
    if (message.address.IsV4()) return;  // see ReadFlow
    header = chain.header_length;
    protocol = chain.protocol;
    mtu = reinterpret_cast<const be32*>(icmp + 4)->host();
  }
  constexpr size_t kUdpHeader = 8;
  if (protocol == IPPROTO_UDP) header += kUdpHeader;
  // Without SPI and number there is nothing that an outsider could not have made up.
  if (quote.size() < header + sizeof(EspHeader)) return;
  const auto* esp = reinterpret_cast<const EspHeader*>(quote.data() + header);
  message.spi = Spi{esp->spi.host()};
  message.sequence = esp->sequence.host();
  message.mtu = static_cast<uint16_t>(std::min<uint32_t>(mtu, UINT16_MAX));
  worker.TellPathMtu(message);
}

Verdict JudgeClear(Worker& worker, Packet& packet) noexcept {
  const Snapshot* policy = worker.snapshot();
  if (policy == nullptr) return Verdict::cleartext_denied;
  if (ReadFlow(packet.From(packet.l3), packet.flow) != Verdict::accepted) {
    return Verdict::malformed;
  }
  if (!policy->Bypasses(packet.flow, Direction::inbound)) return Verdict::cleartext_denied;
  packet.inner = packet.l3;
  packet.payload_length = packet.flow.length;
  return Verdict::accepted;
}

// Whatever is not ESP.
__rte_noinline Verdict JudgeOther(Worker& worker, Packet& packet) noexcept {
  if (packet.kind == Kind::keepalive) return Verdict::keepalive;
  if (packet.kind == Kind::icmp_error) {
    ReadIcmpError(worker, packet);
    return Verdict::icmp_consumed;
  }
  if (ToHost(worker, packet)) return kTaken;
  return packet.kind == Kind::clear ? JudgeClear(worker, packet) : Verdict::cleartext_denied;
}

}  // namespace

void FindSa(Worker& worker, Burst& burst) noexcept {
  const Sa* last = nullptr;
  for (Packet& packet : burst.all()) {
    if (packet.kind != Kind::esp) continue;
    packet.sa = worker.state().InboundSlot(SpiOf(packet));
    if (packet.sa == nullptr || packet.sa == last) continue;
    last = packet.sa;
    PrefetchSa(*last);
  }
  last = nullptr;
  worker.Filter(burst, [&](Packet& packet) {
    if (packet.kind != Kind::esp) return JudgeOther(worker, packet);
    const Verdict verdict = FindEsp(worker, packet);
    if (packet.sa != nullptr && packet.sa != last) {
      last = packet.sa;
      PrefetchWhatItNames(*last, packet);
    }
    return verdict;
  });
}

}  // namespace portcullis
