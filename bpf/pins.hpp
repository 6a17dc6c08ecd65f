// Where a port's link and maps are pinned, and what bpffs asks of the host.
#pragma once

#include <string>

#include "base/result.hpp"

namespace portcullis {

/// /sys/fs/bpf/portcullis/<instance>/<port>; both names are checked.
Result<std::string> PinDirectory(const std::string& instance, const std::string& port);

/// Sees to bpffs on /sys/fs/bpf. It is mounted only where the mount outlives this process: in a
/// private mount namespace the pins would vanish with it, and the ports would open.
Result<void> EnsureBpffs();

/// Like mkdir -p below the pin root, mode 0700.
Result<void> MakePinDirectory(const std::string& directory);

/// A failed system call as an error: EPERM and EACCES become kForbidden and say what is needed.
tl::unexpected<Error> SystemError(const std::string& what, int error);

}  // namespace portcullis
