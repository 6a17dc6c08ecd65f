// Workers shed every capability once their queues are open: what parses hostile bytes can change
// nothing on the host. The main thread keeps what netlink and BPF maps need.
#pragma once

#include <sys/capability.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/result.hpp"

namespace portcullis {

/// Of the calling thread alone.
inline Result<void> ShedCapabilities() {
  const std::unique_ptr<_cap_struct, int (*)(void*)> none(cap_init(), cap_free);
  if (!none || cap_set_proc(none.get()) != 0) {
    return Fail(ErrorKind::kInternal,
                std::string("a worker cannot shed its capabilities: ") + std::strerror(errno));
  }
  return {};
}

}  // namespace portcullis
