// Where a port's link and maps are pinned, and what bpffs asks of the host.
#include "bpf/pins.hpp"

#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "bpf/shared.h"

namespace portcullis {
namespace {

constexpr char kBpffs[] = "/sys/fs/bpf";

bool GoodName(const std::string& name) {
  return !name.empty() && name.size() <= 32 && std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_';
  });
}

std::string ReadLink(const std::string& path) {
  char text[64];
  const ssize_t length = readlink(path.c_str(), text, sizeof(text));
  return length > 0 ? std::string(text, static_cast<size_t>(length)) : std::string();
}

/// The parent's process id, 0 when there is none or /proc does not say.
int ParentOf(int process) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string word; status >> word;) {
    if (word == "PPid:" && status >> process) return process;
  }
  return 0;
}

/// `ip netns exec` and service sandboxes give a process a mount namespace of its own: one that an
/// ancestor, in the end process 1, is not in.
bool InPrivateMountNamespace() {
  const std::string own = ReadLink("/proc/self/ns/mnt");
  for (int process = getppid(); process > 0; process = ParentOf(process)) {
    const std::string its = ReadLink("/proc/" + std::to_string(process) + "/ns/mnt");
    if (!its.empty() && its != own) return true;
  }
  return false;
}

}  // namespace

tl::unexpected<Error> SystemError(const std::string& what, int error) {
  error = std::abs(error);
  if (error == EPERM || error == EACCES) {
    return tl::unexpected(Error{ErrorKind::kForbidden,
                                what + ": " + std::strerror(error),
                                {},
                                "root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
                                "user id " + std::to_string(geteuid())});
  }
  return Fail(ErrorKind::kInternal, what + ": " + std::strerror(error));
}

Result<std::string> PinDirectory(const std::string& instance, const std::string& port) {
  for (const auto& [field, name] : {std::pair{"instance", instance}, std::pair{"port", port}}) {
    if (!GoodName(name)) {
      return Invalid(field, "not a name for pinned XDP objects",
                     "1 to 32 characters of a-z, A-Z, 0-9, '-' and '_'", "'" + name + "'");
    }
  }
  return std::string(PORTCULLIS_PIN_ROOT) + "/" + instance + "/" + port;
}

Result<void> EnsureBpffs() {
  struct statfs fs {};
  if (statfs(kBpffs, &fs) == 0 && fs.f_type == BPF_FS_MAGIC) return {};
  if (InPrivateMountNamespace()) {
    return tl::unexpected(
        Error{ErrorKind::kUnavailable,
              "bpffs is not mounted on /sys/fs/bpf in this mount namespace, and mounted here it "
              "would vanish with the process, which would open the ports",
              {},
              "a mount namespace that shows the host's bpffs",
              "a private one: use `nsenter --net=/run/netns/NAME` instead of `ip netns exec`, or "
              "mount bpffs into the container"});
  }
  if (mount("bpf", kBpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
    const int error = errno;
    return SystemError(
        "bpffs is not mounted on /sys/fs/bpf, and mounting it failed (by hand: "
        "mount -t bpf bpf /sys/fs/bpf)",
        error);
  }
  return {};
}

Result<void> MakePinDirectory(const std::string& directory) {
  const size_t root = std::strlen(kBpffs) + 1;
  for (size_t slash = directory.find('/', root);; slash = directory.find('/', slash + 1)) {
    const std::string part = directory.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      const int error = errno;
      return SystemError("cannot create " + part, error);
    }
    if (slash == std::string::npos) return {};
  }
}

}  // namespace portcullis
