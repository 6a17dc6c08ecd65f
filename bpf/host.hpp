// The two halves of CheckForwardingOff(): what the host is asked, and what is made of the answer.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace portcullis {

/// What an interface is enslaved to. `name` is empty when it is to nothing.
struct Master {
  std::string name;
  std::string kind;                  // "vrf", "bridge", "bond" ...
  std::vector<std::string> members;  // its other members
};

/// Asked by netlink: /sys/class/net shows the network namespace that it was mounted in, not the
/// one that the process is in.
Result<Master> FindMaster(const std::string& interface);

/// The forwarding sysctls that are on for what comes in on `interface`, as sysctl(8) takes them.
std::vector<std::string> ForwardingThatIsOn(const std::string& interface);

/// Whether `interface` may be a port of the gate while the sysctls `on` are on.
Result<void> JudgeForwarding(const std::string& interface, std::span<const std::string> on,
                             const Master& master, std::span<const std::string> companions);

}  // namespace portcullis
