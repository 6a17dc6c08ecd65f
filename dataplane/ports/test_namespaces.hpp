// For tests on real interfaces: this process moves into a network namespace of its own, a child
// holds a second one for the other end. Both vanish with their processes.
#pragma once

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace portcullis {

/// Runs a command here; throws when it fails.
inline void Sh(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

/// Moves this process, which has one thread yet, into a new network namespace.
inline void EnterOwnNamespace() {
  if (unshare(CLONE_NEWNET) != 0) {
    throw std::runtime_error("these tests need root, for a network namespace of their own");
  }
  Sh("ip link set lo up");
}

/// The other end of the wires.
class FarNamespace {
 public:
  FarNamespace() {
    int ready[2];
    if (pipe(ready) != 0) throw std::runtime_error("pipe");
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char ok = unshare(CLONE_NEWNET) == 0 ? 1 : 0;
      (void)!write(ready[1], &ok, 1);
      for (;;) pause();
    }
    char ok = 0;
    (void)!read(ready[0], &ok, 1);
    close(ready[0]);
    close(ready[1]);
    if (ok != 1) throw std::runtime_error("no second network namespace");
    Run("ip link set lo up");
  }
  ~FarNamespace() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  FarNamespace(const FarNamespace&) = delete;
  FarNamespace& operator=(const FarNamespace&) = delete;

  [[nodiscard]] pid_t pid() const { return child_; }
  /// nsenter and not `ip netns exec`, which would hide bpffs.
  void Run(const std::string& command) const {
    Sh(fmt::format("nsenter --net=/proc/{}/ns/net {}", child_, command));
  }
  /// A veth pair: `near` here, `far` there, both up; MACs 02:00:00:00:`number`:01 and :02.
  void Wire(const std::string& near, const std::string& far, unsigned number) const {
    Sh(fmt::format(
        "ip link add {0} address 02:00:00:00:{2:02x}:01 type veth peer name {1} address "
        "02:00:00:00:{2:02x}:02 netns {3}",
        near, far, number, child_));
    // IPv6 addresses are there at once, without duplicate detection.
    Sh(fmt::format("sysctl -qw net.ipv6.conf.{}.accept_dad=0", near));
    Sh(fmt::format("ip link set {} up", near));
    Run(fmt::format("sysctl -qw net.ipv6.conf.{}.accept_dad=0", far));
    Run(fmt::format("ip link set {} up", far));
  }

 private:
  pid_t child_ = -1;
};

}  // namespace portcullis
