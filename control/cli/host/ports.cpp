// The interfaces that the gate shall use, one by one or as its configuration names them. What is
// asked is what the dataplane itself asks when it starts.
#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "bpf/host.hpp"
#include "control/cli/host/check.hpp"
#include "dataplane/config.hpp"
#include "dataplane/ports/host.hpp"

namespace portcullis::cli::host {
namespace {

Finding Forwarding(const std::string& name, const std::vector<std::string>& companions) {
  const std::string what = name + ": forwarding";
  const auto master = FindMaster(name);
  if (!master) return Missing(what, master.error().Text(), "netlink must work");
  const std::vector<std::string> on = ForwardingThatIsOn(name);
  const auto judged = JudgeForwarding(name, on, *master, companions);
  if (judged) return Ok(what, on.empty() ? "off" : "on, but in VRF " + master->name);
  std::string fix = "sysctl -w";
  for (const std::string& sysctl : on) fix += " " + sysctl + "=0";
  return Missing(what, judged.error().found, fix + ", or give it a VRF of its own");
}

}  // namespace

std::vector<Finding> CheckInterface(const std::string& name,
                                    const std::vector<std::string>& companions) {
  const auto interface = ReadInterface(name);
  if (!interface) return {Missing(name, "not in this network namespace", "see: ip link")};
  std::vector<Finding> findings;
  findings.push_back(interface->ethernet ? Ok(name + ": kind", "Ethernet")
                                         : Missing(name + ": kind", "not Ethernet", "another one"));
  findings.push_back(interface->up ? Ok(name + ": state", "up")
                                   : Missing(name + ": state", "down",
                                             fmt::format("ip link set dev {} up", name)));
  findings.push_back(interface->mtu <= kMaxAfXdpMtu
                         ? Ok(name + ": MTU", std::to_string(interface->mtu))
                         : Missing(name + ": MTU",
                                   fmt::format("{}, more than AF_XDP carries", interface->mtu),
                                   fmt::format("ip link set dev {} mtu {}", name, kMaxAfXdpMtu)));
  findings.push_back(Forwarding(name, companions));
  return findings;
}

std::vector<Finding> CheckConfiguration(const std::string& path) {
  const std::string what = "configuration";
  const auto config = LoadConfig(path);
  if (!config) return {Missing(what, config.error().Text(), "put it right")};
  std::vector<Finding> findings;
  const std::vector<Error> lacking = ::portcullis::CheckHost(*config);
  findings.reserve(lacking.size() + config->ports.size());
  for (const Error& error : lacking) {
    findings.push_back(Missing(
        error.where.empty() ? what : error.where,
        error.found.empty() ? error.message : fmt::format("{}: {}", error.message, error.found),
        error.expected));
  }
  if (lacking.empty()) findings.push_back(Ok(what, "this host has what it asks for"));
  const auto interface_of = [](const PortConfig& port) {
    const auto* device = std::get_if<InterfaceDevice>(&port.device);
    return device != nullptr ? device->name : std::string();
  };
  for (const PortConfig& port : config->ports) {
    const std::string name = interface_of(port);
    if (name.empty() || !ReadInterface(name)) continue;  // the latter is said above
    std::vector<std::string> companions;
    for (const PortConfig& other : config->ports) {
      if (other.role == port.role && other.name != port.name) {
        companions.push_back(interface_of(other));
      }
    }
    findings.push_back(Forwarding(name, companions));
  }
  return findings;
}

}  // namespace portcullis::cli::host
