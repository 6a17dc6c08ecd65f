#include "dataplane/ports/af_xdp.hpp"

#include <linux/if_xdp.h>
#include <sys/socket.h>

#include <charconv>
#include <filesystem>

namespace portcullis {

std::set<int> AfXdpSockets() {
  std::set<int> sockets;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    const std::string name = entry.path().filename();
    int fd = -1;
    std::from_chars(name.data(), name.data() + name.size(), fd);
    int domain = 0;
    socklen_t size = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_XDP) {
      sockets.insert(fd);
    }
  }
  return sockets;
}

std::string AfXdpModeOf(const std::set<int>& sockets, const std::set<int>& others) {
  std::string mode;
  for (const int fd : sockets) {
    if (others.contains(fd)) continue;
    xdp_options options{};
    socklen_t size = sizeof(options);
    const bool known = getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &size) == 0;
    if (!known || (options.flags & XDP_OPTIONS_ZEROCOPY) == 0) return "copy";
    mode = "zero-copy";
  }
  return mode;
}

}  // namespace portcullis
