// What the AF_XDP sockets of this process are: DPDK's driver opens them and says nothing about how.
#pragma once

#include <set>
#include <string>

namespace portcullis {

/// Descriptors of this process's AF_XDP sockets.
std::set<int> AfXdpSockets();

/// Of those in `sockets` that are not in `others`: "zero-copy" when the driver hands all of them
/// its own buffers, else "copy"; empty when there is none.
std::string AfXdpModeOf(const std::set<int>& sockets, const std::set<int>& others);

}  // namespace portcullis
