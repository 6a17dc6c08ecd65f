// Everything that a host can lack for the gate to run on it, found by trying rather than by reading
// version numbers wherever trying is harmless: programs are really loaded, sockets really bound,
// interfaces really made (in a network namespace that exists for a moment only).
#pragma once

#include <string>
#include <system_error>
#include <vector>

namespace portcullis::cli::host {

enum class Status {
  kOk,
  kWarn,     // runs, but slower, or without something that not everybody needs
  kMissing,  // does not run
};

struct Finding {
  std::string what;
  Status status = Status::kOk;
  std::string found;
  std::string fix;  // empty when ok
};

/// All of it. `interfaces` are those that the gate shall use; may be empty. `configuration` is the
/// file that portcullis-dataplane shall start with; may be empty.
std::vector<Finding> CheckHost(const std::vector<std::string>& interfaces,
                               const std::string& configuration);

std::vector<Finding> CheckPrivileges();
std::vector<Finding> CheckKernel();
std::vector<Finding> CheckNetwork();
/// `companions` are the other interfaces on its side, which may share its VRF.
std::vector<Finding> CheckInterface(const std::string& name,
                                    const std::vector<std::string>& companions);
std::vector<Finding> CheckConfiguration(const std::string& path);
std::vector<Finding> CheckMachine();
std::vector<Finding> CheckDrivers();

inline std::string Reason(int error) {
  return std::generic_category().message(error);
}

inline Finding Ok(std::string what, std::string found) {
  return {std::move(what), Status::kOk, std::move(found), {}};
}
inline Finding Warn(std::string what, std::string found, std::string fix) {
  return {std::move(what), Status::kWarn, std::move(found), std::move(fix)};
}
inline Finding Missing(std::string what, std::string found, std::string fix) {
  return {std::move(what), Status::kMissing, std::move(found), std::move(fix)};
}

/// First line of a small file such as those in /proc and /sys; "" when it cannot be read.
std::string FirstLine(const std::string& path);
/// The words behind `label` in a file of "label: words" lines, such as /proc/cpuinfo's flags.
std::vector<std::string> LabelledWords(const std::string& path, const std::string& label);

/// A trivial XDP program in the kernel, or -errno.
int LoadXdpProgram();

}  // namespace portcullis::cli::host
