// UDP port 4500 of this host, for ESP through a NAT (RFC 3948): the kernel takes ESP out of what
// comes to a socket that was told so, and somebody has to hold that socket.
#pragma once

#include "base/fd.hpp"
#include "base/ip.hpp"
#include "base/result.hpp"

namespace portcullis::peer {

class NatPorts {
 public:
  /// Of both families. kUnavailable: somebody else has one of them.
  static Result<NatPorts> Open();
  /// RFC 3948 2.3: the NAT remembers this peer. Due every 20 s; what is lost is sent again.
  void KeepOpen(const Address& gate) const;

 private:
  Fd v4_;
  Fd v6_;
};

}  // namespace portcullis::peer
