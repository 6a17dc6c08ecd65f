#include "dataplane/pipeline/host.hpp"

#include <netinet/in.h>
#include <rte_ip.h>

#include <algorithm>

#include "dataplane/worker.hpp"

namespace portcullis {

bool IsOwn(Worker& worker, uint16_t port, const Address& address) noexcept {
  const HostAddresses* hosts = worker.hosts();
  return hosts != nullptr && port < hosts->size() &&
         std::ranges::find((*hosts)[port], address) != (*hosts)[port].end();
}

bool IsProtected(const Snapshot& policy, const Address& address) noexcept {
  if (policy.PeerOf(address) != nullptr) return true;
  return std::ranges::any_of(policy.interfaces, [&](const ProtectedInterface& interface) {
    return std::ranges::any_of(interface.prefixes, [&](const Prefix& prefix) {
      // ::/0 is IPv6's, although both share the space.
      return prefix.IsV4() == address.IsV4() && prefix.Contains(address);
    });
  });
}

bool IsNeighbourDiscovery(Worker& worker, const Packet& packet) noexcept {
  constexpr uint8_t kFirst = 133;
  constexpr uint8_t kLast = 137;
  constexpr uint8_t kFromThisLink = 255;
  const auto bytes = packet.From(packet.l3);
  if (bytes.size() <= sizeof(rte_ipv6_hdr) || bytes[0] >> 4U != 6) return false;
  const auto* ip = reinterpret_cast<const rte_ipv6_hdr*>(bytes.data());
  const uint8_t type = bytes[sizeof(*ip)];
  if (ip->proto != IPPROTO_ICMPV6 || ip->hop_limits != kFromThisLink) return false;
  if (type < kFirst || type > kLast) return false;
  const uint8_t* to = ip->dst_addr;
  return (to[0] == 0xff && to[1] == 0x02) || (to[0] == 0xfe && (to[1] & 0xc0U) == 0x80) ||
         IsOwn(worker, packet.mbuf->port, DestinationOf(packet));
}

bool ToExceptionPort(Worker& worker, Packet& packet) noexcept {
  const auto judge = [&] {
    if (packet.kind == Kind::not_ip) return true;
    if (IsNeighbourDiscovery(worker, packet)) return true;
    const Port& port = worker.PortOf(packet);
    const Address to = DestinationOf(packet);
    if (!IsOwn(worker, port.id, to)) return false;
    // From the wire, what policy protects comes first; without policy nobody knows what that is.
    return port.role != PortRole::kUntrusted ||
           (worker.snapshot() != nullptr && !IsProtected(*worker.snapshot(), to) &&
            !IsProtected(*worker.snapshot(), SourceOf(packet)));
  };
  const bool hosts = judge();
  if (hosts) worker.SendRaw(packet, worker.PortOf(packet).exception, Verdict::exception);
  return hosts;
}

}  // namespace portcullis
