#include "control/peer/nat_ports.hpp"

#include <linux/udp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace portcullis::peer {

namespace {

constexpr uint16_t kNatPort = 4500;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress At(const Address& address) {
  SocketAddress at;
  const auto wire = address.wire();
  if (address.IsV4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(at.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(kNatPort);
    std::memcpy(&v4.sin_addr, wire.data(), wire.size());
    at.size = sizeof(v4);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(at.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(kNatPort);
    std::memcpy(&v6.sin6_addr, wire.data(), wire.size());
    at.size = sizeof(v6);
  }
  return at;
}

Result<Fd> OpenPort(int family, const SocketAddress& any) {
  Fd port(socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (port.get() < 0 && family == AF_INET6 && errno == EAFNOSUPPORT) return port;
  const int on = 1;
  const int encap = UDP_ENCAP_ESPINUDP;
  const bool apart =
      family == AF_INET || setsockopt(port.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0;
  if (port.get() < 0 || !apart || bind(port.get(), any.get(), any.size) != 0 ||
      setsockopt(port.get(), IPPROTO_UDP, UDP_ENCAP, &encap, sizeof(encap)) != 0) {
    return Fail(ErrorKind::kUnavailable,
                fmt::format("udp_encap: UDP port {} cannot be had for ESP: {}; expected that no "
                            "other program has it (ss -ulpn)",
                            kNatPort, std::strerror(errno)));
  }
  return port;
}

}  // namespace

Result<NatPorts> NatPorts::Open() {
  NatPorts ports;
  constexpr uint32_t kAny = 0;
  auto v4 = OpenPort(AF_INET, At(Address::V4(&kAny)));
  if (!v4) return tl::unexpected(v4.error());
  auto v6 = OpenPort(AF_INET6, At(Address()));
  if (!v6) return tl::unexpected(v6.error());
  ports.v4_ = *std::move(v4);
  ports.v6_ = *std::move(v6);
  return ports;
}

void NatPorts::KeepOpen(const Address& gate) const {
  constexpr uint8_t kKeepalive = 0xff;
  const SocketAddress to = At(gate);
  const Fd& from = gate.IsV4() ? v4_ : v6_;
  (void)sendto(from.get(), &kKeepalive, sizeof(kKeepalive), 0, to.get(), to.size);
}

}  // namespace portcullis::peer
