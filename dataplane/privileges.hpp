// Workers shed every capability once their queues are open: what parses hostile bytes can change
// nothing on the host. The main thread keeps what netlink and BPF maps need. And nothing of this
// process, which holds keys, is ever written to a disk.
#pragma once

#include <sys/capability.h>
#include <sys/mman.h>

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

/// All memory that there is, as it is used. For after the EAL: key schedules stand in its memory,
/// which without hugepages could be swapped. Not what is mapped later, where a limit would turn
/// into failures; no key stands there (base/secret.hpp locks its own).
inline Result<void> LockMemory() {
  if (mlockall(MCL_CURRENT | MCL_ONFAULT) != 0) {
    return Fail(ErrorKind::kUnavailable,
                std::string("memory is not locked, keys may be swapped out: ") +
                    std::strerror(errno) + "; expected CAP_IPC_LOCK");
  }
  return {};
}

}  // namespace portcullis
