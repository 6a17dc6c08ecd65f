#include "control/hardening.hpp"

#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace portcullis {

void HardenProcess() {
  umask(S_IRWXG | S_IRWXO);
  if (prctl(PR_SET_DUMPABLE, 0) != 0) {
    spdlog::warn("this process can be dumped: {}", std::strerror(errno));
  }
  constexpr rlimit kNoCore{0, 0};
  if (setrlimit(RLIMIT_CORE, &kNoCore) != 0) {
    spdlog::warn("core dumps are not switched off: {}", std::strerror(errno));
  }
  // With a limit, locking everything would turn a later allocation into a crash; keys at rest are
  // in memory that is locked by itself (base/secret.hpp).
  constexpr rlimit kUnlimited{RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &kUnlimited) != 0) {
    spdlog::warn("RLIMIT_MEMLOCK stays limited ({}): only keys at rest are locked in memory",
                 std::strerror(errno));
  } else if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    spdlog::warn("memory is not locked and may be swapped: {}", std::strerror(errno));
  }
}

}  // namespace portcullis
