// Reading the configuration: one function per section of the file. The first wrong field throws
// (see Section); ParseConfig turns that into a value.
#include "dataplane/config.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "dataplane/yaml_section.hpp"

namespace portcullis {
namespace {

Result<Mac> ParseMac(const std::string& text) {
  Mac mac{};
  int used = 0;
  const bool whole = std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0],
                                 &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &used) == 6 &&
                     text.size() == 17 && used == 17;
  if (!whole) return Invalid("", "not a link-layer address", "six bytes as in 02:00:00:00:00:01");
  if (mac[0] % 2 != 0 || mac == Mac{}) {
    return Invalid("", "not the address of one station", "a unicast address");
  }
  return mac;
}

Result<std::string> AsText(const std::string& text) {
  return text;
}

Device ReadDevice(const Section& port) {
  if (!port.Has("device")) {
    port.Refuse("device", "missing", "one of interface, vdev, pci", "nothing");
  }
  const Section device = port.Sub("device", {"interface", "vdev", "pci"});
  InterfaceDevice interface;
  VdevDevice vdev;
  PciDevice pci;
  device.Read("interface", interface.name);
  device.Read("vdev", vdev.args);
  device.Read("pci", pci.address);
  const int given = !interface.name.empty() + !vdev.args.empty() + !pci.address.empty();
  if (given != 1) {
    port.Refuse("device", "not one device", "exactly one of interface, vdev, pci",
                std::to_string(given));
  }
  if (!interface.name.empty()) {
    if (interface.name.size() > 15 || interface.name.find_first_of("/, \t") != std::string::npos) {
      device.Refuse("interface", "not an interface name",
                    "up to 15 characters without space, comma or slash (see `ip link`)");
    }
    return interface;
  }
  if (!vdev.args.empty()) {
    if (!vdev.args.starts_with("net_") && !vdev.args.starts_with("virtio_user")) {
      device.Refuse("vdev", "not a network device of DPDK", "net_... or virtio_user...");
    }
    // The PMD's own program would leave the port open after a crash.
    if (vdev.args.starts_with("net_af_xdp")) {
      device.Refuse("vdev", "AF_XDP is not configured as a vdev", "device: { interface: ... }");
    }
    return vdev;
  }
  unsigned domain = 0, bus = 0, slot = 0, function = 0;
  int used = 0;
  if (std::sscanf(pci.address.c_str(), "%4x:%2x:%2x.%1u%n", &domain, &bus, &slot, &function,
                  &used) != 4 ||
      pci.address.size() != 12 || used != 12) {
    device.Refuse("pci", "not a PCI address", "domain:bus:slot.function as in 0000:01:00.0");
  }
  return pci;
}

PortConfig ReadPort(const Section& s, unsigned workers) {
  PortConfig port;
  s.ReadName("name", port.name);
  if (!s.Has("role")) {
    s.Refuse("role", "missing", "one of untrusted, trusted, local, exception", "nothing");
  }
  s.Read("role", port.role,
         {{"untrusted", PortRole::kUntrusted},
          {"trusted", PortRole::kTrusted},
          {"local", PortRole::kLocal},
          {"exception", PortRole::kException}});
  port.device = ReadDevice(s);
  const bool af_xdp = std::holds_alternative<InterfaceDevice>(port.device);
  s.Read("queues", port.queues, 1, 64);
  if (port.queues > workers) {
    s.Refuse("queues", "a queue that no worker serves",
             fmt::format("at most {}, as many as workers", workers));
  }
  s.Read("mtu", port.mtu, kMinMtu, kMaxMtu);
  if (af_xdp && port.mtu > kMaxAfXdpMtu) {
    s.Refuse("mtu", "too large for AF_XDP, where a frame must fit into one page",
             fmt::format("at most {}; for more give DPDK the device whole (pci)", kMaxAfXdpMtu));
  }
  if (s.Has("mac")) {
    port.mac.emplace();
    s.ReadParsed("mac", *port.mac, ParseMac);
  }
  s.ReadList("addresses", port.addresses, InterfaceAddress::Parse);
  for (const char* key : {"mac", "addresses"}) {
    if (af_xdp && s.Has(key)) {
      s.Refuse(key, "the kernel says this for an interface", "no such key here", "one");
    }
  }
  s.ReadList("prefixes", port.prefixes, Prefix::Parse);
  if (port.role == PortRole::kLocal && port.prefixes.empty()) {
    s.Refuse("prefixes", "a local port without anything behind it", "at least one prefix", "none");
  }
  if (port.role != PortRole::kLocal && s.Has("prefixes")) {
    s.Refuse("prefixes", "only a local port has prefixes", "role: local",
             "role: " + std::string(Name(port.role)));
  }
  s.Read("exception", port.exception_for);
  if ((port.role == PortRole::kException) != s.Has("exception")) {
    s.Refuse("exception", "belongs to role exception, and role exception needs it",
             "the name of the port whose host traffic this one carries",
             port.exception_for.empty() ? "nothing" : "role: " + std::string(Name(port.role)));
  }
  if (port.role == PortRole::kException && af_xdp) {
    s.Refuse("device", "not a device for an exception port", "a vdev: virtio_user... or net_tap...",
             "interface");
  }
  return port;
}

/// Identity of the device, for "used twice".
std::string Key(const Device& device) {
  const std::string text = Text(device);
  return text.substr(0, text.find(','));
}

void CheckPorts(const Section& root, const std::vector<Section>& items,
                const std::vector<PortConfig>& ports) {
  std::map<std::string, const PortConfig*> names;
  std::map<std::string, std::string> devices;
  std::map<std::string, std::string> exceptions;
  unsigned untrusted = 0, inner = 0;
  for (size_t i = 0; i < ports.size(); ++i) {
    const PortConfig& port = ports[i];
    if (!names.emplace(port.name, &port).second) {
      items[i].Refuse("name", "used by two ports", "a name of its own");
    }
    if (!devices.emplace(Key(port.device), port.name).second) {
      items[i].Refuse("device", "used by two ports", "a device of its own", Key(port.device));
    }
    untrusted += port.role == PortRole::kUntrusted;
    inner += port.role == PortRole::kTrusted || port.role == PortRole::kLocal;
  }
  const auto shared = std::ranges::find_if(ports, [](const PortConfig& port) {
    return std::holds_alternative<InterfaceDevice>(port.device);
  });
  for (size_t i = 0; i < ports.size() && shared != ports.end(); ++i) {
    if (ports[i].mtu <= kMaxAfXdpMtu) continue;
    items[i].Refuse("mtu",
                    "too large beside an AF_XDP port, with which it shares packet buffers of one "
                    "page",
                    fmt::format("at most {}, or no port with interface", kMaxAfXdpMtu));
  }
  if (untrusted == 0) {
    root.Refuse("ports", "nothing faces the wire", "at least one port of role untrusted", "none");
  }
  if (inner == 0) {
    root.Refuse("ports", "nothing lies behind the gate",
                "at least one port of role trusted or local", "none");
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    if (ports[i].role != PortRole::kException) continue;
    const auto owner = names.find(ports[i].exception_for);
    if (owner == names.end() || owner->second->role == PortRole::kException) {
      items[i].Refuse("exception", "no such port", "the name of a port of another role");
    }
    if (std::holds_alternative<InterfaceDevice>(owner->second->device)) {
      items[i].Refuse("exception",
                      "an AF_XDP port needs no exception port: its host traffic stays "
                      "in the kernel",
                      "a port with vdev or pci");
    }
    if (!exceptions.emplace(ports[i].exception_for, ports[i].name).second) {
      items[i].Refuse("exception", "has an exception port already", "one exception port each");
    }
  }
}

void ReadRoutes(const Section& root, DataplaneConfig& config) {
  for (const Section& s : root.Items("routes", {"prefix", "port", "mac"})) {
    StaticRoute route;
    for (const char* key : {"prefix", "port", "mac"}) {
      if (!s.Has(key)) s.Refuse(key, "missing", "prefix, port and mac", "nothing");
    }
    s.ReadParsed("prefix", route.prefix, Prefix::Parse);
    s.Read("port", route.port);
    s.ReadParsed("mac", route.mac, ParseMac);
    const auto port = std::ranges::find(config.ports, route.port, &PortConfig::name);
    if (port == config.ports.end() || port->role == PortRole::kException) {
      s.Refuse("port", "no such port", "the name of a port under ports:");
    }
    if (std::holds_alternative<InterfaceDevice>(port->device)) {
      s.Refuse("port", "a static route to a port whose routes the kernel has",
               "a port without kernel interface; for this one: ip route add");
    }
    config.routes.push_back(std::move(route));
  }
}

void ReadWorkers(const Section& root, WorkersConfig& workers) {
  if (!root.Has("workers")) return;
  const Section s = root.Sub("workers", {"count", "cores", "idle"});
  s.Read("count", workers.count, 1, kMaxWorkers);
  s.ReadNumbers("cores", workers.cores, 1023);
  s.Read("idle", workers.idle, {{"sleep", Idle::kSleep}, {"poll", Idle::kPoll}});
  if (s.Has("cores") && workers.cores.size() != workers.count) {
    s.Refuse("cores", "not one core per worker", fmt::format("{} cores", workers.count),
             fmt::format("{}", workers.cores.size()));
  }
  if (std::set(workers.cores.begin(), workers.cores.end()).size() != workers.cores.size()) {
    s.Refuse("cores", "one core for two workers", "different cores",
             fmt::format("{}", fmt::join(workers.cores, ", ")));
  }
}

void ReadSas(const Section& root, SasConfig& sas) {
  if (!root.Has("sas")) return;
  const Section s = root.Sub("sas", {"capacity", "max_replay_window"});
  s.Read("capacity", sas.capacity, 64, 1U << 20);
  if (!std::has_single_bit(sas.capacity)) {
    s.Refuse("capacity", "not a power of two (the slot is part of the SPI)",
             fmt::format("{} or {}", std::bit_floor(sas.capacity), std::bit_ceil(sas.capacity)));
  }
  s.Read("max_replay_window", sas.max_replay_window, 64, 8192);
}

DataplaneConfig Read(const YAML::Node& yaml, const std::string& file) {
  const Section root(
      yaml, file, "",
      {"instance", "lab", "workers", "memory", "ports", "routes", "sas", "state_file", "steering",
       "fragments", "auth_failures", "mss_clamp", "neighbours"});
  DataplaneConfig config;
  config.file = file;
  if (root.Has("instance")) root.ReadName("instance", config.instance);
  root.Read("lab", config.lab);
  ReadWorkers(root, config.workers);
  if (root.Has("memory")) {
    const Section s = root.Sub("memory", {"hugepages", "megabytes", "buffers"});
    s.Read("hugepages", config.memory.hugepages,
           {{"auto", Hugepages::kAuto},
            {"require", Hugepages::kRequire},
            {"never", Hugepages::kNever}});
    s.Read("megabytes", config.memory.megabytes, 64, 65536);
    s.Read("buffers", config.memory.buffers, 2048, 1U << 20);
  }
  const std::vector<Section> ports = root.Items(
      "ports",
      {"name", "role", "device", "queues", "mtu", "mac", "addresses", "prefixes", "exception"});
  for (const Section& port : ports) {
    config.ports.push_back(ReadPort(port, config.workers.count));
  }
  CheckPorts(root, ports, config.ports);
  ReadRoutes(root, config);
  ReadSas(root, config.sas);

  config.state_file = "/dev/shm/portcullis-" + config.instance + ".state";
  root.Read("state_file", config.state_file);
  config.steering.socket = "/run/portcullis/" + config.instance + "/steer.sock";
  if (root.Has("steering")) {
    const Section s = root.Sub("steering", {"socket", "users"});
    s.Read("socket", config.steering.socket);
    s.ReadList("users", config.steering.users, AsText);
    // sockaddr_un holds 107 characters and a zero.
    if (config.steering.socket.size() > 107 || !config.steering.socket.starts_with('/')) {
      s.Refuse("socket", "not a socket path", "an absolute path of at most 107 characters",
               fmt::format("\"{}\"", config.steering.socket));
    }
    if (config.steering.users.empty()) {
      s.Refuse("users", "nobody may steer", "at least one user", "none");
    }
  }
  root.Read("fragments", config.fragments,
            {{"drop", FragmentMode::kDrop}, {"reassemble", FragmentMode::kReassemble}});
  if (root.Has("auth_failures")) {
    const Section s = root.Sub("auth_failures", {"per_second", "suspect_seconds", "cpu_percent"});
    s.Read("per_second", config.auth_failures.per_second, 1, 1'000'000);
    s.Read("suspect_seconds", config.auth_failures.suspect_seconds, 1, 3600);
    s.Read("cpu_percent", config.auth_failures.cpu_percent, 1, 100);
  }
  root.Read("mss_clamp", config.mss_clamp);
  if (root.Has("neighbours")) {
    const Section s = root.Sub("neighbours", {"queue", "timeout_ms"});
    s.Read("queue", config.neighbours.queue, 0, 65536);
    s.Read("timeout_ms", config.neighbours.timeout_ms, 10, 60000);
  }
  return config;
}

}  // namespace

std::string_view Name(PortRole role) {
  switch (role) {
    case PortRole::kUntrusted:
      return "untrusted";
    case PortRole::kTrusted:
      return "trusted";
    case PortRole::kLocal:
      return "local";
    case PortRole::kException:
      return "exception";
  }
  return "";
}

std::string Text(const Device& device) {
  if (const auto* interface = std::get_if<InterfaceDevice>(&device)) return interface->name;
  if (const auto* vdev = std::get_if<VdevDevice>(&device)) return vdev->args;
  return std::get<PciDevice>(device).address;
}

Result<InterfaceAddress> InterfaceAddress::Parse(std::string_view text) {
  const auto wrong = [&] {
    return Invalid("", "not an address with its prefix length", "as in 192.0.2.1/24",
                   "\"" + std::string(text) + "\"");
  };
  const size_t slash = text.find('/');
  const auto address = Address::Parse(text.substr(0, slash));
  if (!address) return wrong();
  const unsigned most = address->IsV4() ? 32 : 128;
  unsigned length = most;
  if (slash != std::string_view::npos) {
    const std::string digits(text.substr(slash + 1));
    if (digits.empty() || digits.size() > 3 ||
        digits.find_first_not_of("0123456789") != std::string::npos) {
      return wrong();
    }
    length = static_cast<unsigned>(std::stoul(digits));
    if (length > most) return wrong();
  }
  return InterfaceAddress{*address, Prefix(*address, address->IsV4() ? 96 + length : length)};
}

Result<DataplaneConfig> ParseConfig(const std::string& yaml, const std::string& file) {
  try {
    return Read(YAML::Load(yaml), file);
  } catch (const WrongField& wrong) {
    return tl::unexpected(wrong.error);
  } catch (const YAML::Exception& e) {
    return Invalid(fmt::format("{}:{}", file, e.mark.line + 1), "not YAML: " + e.msg);
  }
}

Result<DataplaneConfig> LoadConfig(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  // Opening a directory succeeds, reading it does not.
  if (!in || text.fail()) {
    return Fail(ErrorKind::kNotFound,
                fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
  }
  return ParseConfig(text.str(), path);
}

}  // namespace portcullis
