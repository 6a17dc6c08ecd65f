// Tables of interfaces, peers, policies, blocks, owners and security associations.
#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/table.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

std::string RangeText(const json& range) {
  if (!range.is_object() || range.empty()) return {};
  const uint64_t first = Number(range, "first");
  const uint64_t last = Number(range, "last");
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

// "tcp 8080"
std::string PortsText(const json& ports) {
  const std::string range = ports.contains("first") ? RangeText(ports) : "";
  return range.empty() ? Text(ports, "protocol")
                       : fmt::format("{} {}", Text(ports, "protocol"), range);
}

std::string SaStateText(const json& sa) {
  const json& state = At(sa, "state");
  if (!Flag(sa, "in_force")) return "not in force";
  if (Flag(state, "hard_expired")) return "expired";
  if (Flag(state, "suspect")) return "suspect";
  if (Flag(state, "soft_expired")) return "to be renewed";
  return "ok";
}

}  // namespace

std::string RateText(const json& rate) {
  std::string text;
  if (const uint64_t packets = Number(rate, "packets_per_second"); packets > 0) {
    text = fmt::format("{} packets/s", packets);
  }
  if (const uint64_t bits = Number(rate, "bits_per_second"); bits > 0) {
    text += (text.empty() ? "" : ", ") + Bits(bits);
  }
  return text;
}

std::string SelectorText(const json& selector) {
  const auto side = [&](const char* prefix, const char* ports) {
    std::string text = Text(selector, prefix);
    if (text.empty()) text = "any";
    const std::string range = RangeText(At(selector, ports));
    return range.empty() ? text : text + " port " + range;
  };
  const std::string protocol = Text(selector, "protocol");
  return fmt::format("{} <-> {} {}", side("local", "local_ports"), side("remote", "remote_ports"),
                     protocol.empty() || protocol == "any" ? "any protocol" : protocol);
}

std::string RenderInterfaces(const json& items) {
  Table table({{"NAME"},
               {"TYPE"},
               {"SIDE"},
               {"SERVERS"},
               {"PORTS"},
               {"ZONE"},
               {"PROTECTION"},
               {"GUARD"},
               {"CLIENTS"}});
  for (const json& item : items) {
    const json& at = At(item, "guard");
    const std::string guard =
        at.is_object() ? fmt::format("{} port {}", Text(at, "address"), Text(at, "port")) : "";
    table.Add({Text(item, "name"), Text(item, "type"), Text(item, "side"),
               Joined(At(item, "prefixes")), Joined(At(item, "ports"), ", ", PortsText),
               Text(item, "zone"), Text(item, "protection"), guard, Joined(At(item, "clients"))});
  }
  return table.empty() ? "no interfaces\n" : table.Text();
}

std::string RenderPeers(const json& items) {
  Table table({{"NAME"},
               {"ROLE"},
               {"TENANT"},
               {"IDENTITY"},
               {"ENDPOINT"},
               {"PREFIXES"},
               {"RATE"},
               {"NOTE"}});
  for (const json& item : items) {
    const bool disabled = item.contains("enabled") && !Flag(item, "enabled");
    table.Add({Text(item, "name"), Text(item, "role"), Text(item, "tenant"), Text(item, "identity"),
               Text(item, "endpoint"), Joined(At(item, "prefixes")), RateText(At(item, "rate")),
               disabled ? "disabled" : ""});
  }
  return table.empty() ? "no peers\n" : table.Text();
}

std::string RenderPolicies(const json& items) {
  Table table({{"NAME"}, {"ROLE"}, {"MAY REACH"}, {"OPERATIONS"}, {"CALLBACKS TO"}});
  for (const json& item : items) {
    table.Add({Text(item, "name"), Text(item, "role"), Text(item, "interface"),
               Joined(At(item, "operations")),
               Joined(At(item, "callback_ports"), ", ", PortsText)});
  }
  return table.empty() ? "no policies\n" : table.Text();
}

std::string RenderRequestBlocks(const json& items) {
  Table table({{"NAME"}, {"INTERFACE"}, {"PEER"}, {"METHOD"}, {"PATH"}});
  for (const json& item : items) {
    const auto or_any = [&](const char* field) {
      std::string text = Text(item, field);
      return text.empty() ? std::string("any") : text;
    };
    table.Add({Text(item, "name"), Text(item, "interface"), or_any("peer"), or_any("method"),
               Text(item, "path")});
  }
  return table.empty() ? "no requests are blocked\n" : table.Text();
}

std::string RenderOwners(const json& items) {
  Table table({{"INTERFACE"}, {"KIND"}, {"RESOURCE"}, {"TENANT"}, {"SINCE"}, {"ID"}});
  for (const json& item : items) {
    table.Add({Text(item, "interface"), Text(item, "kind"), Text(item, "resource"),
               Text(item, "tenant"), Text(item, "since"), Text(item, "id")});
  }
  return table.empty() ? "nothing belongs to anybody\n" : table.Text();
}

std::string RenderRegistrations(const json& items) {
  Table table({{"INTERFACE"}, {"PEER"}, {"SINCE"}, {"ID"}});
  for (const json& item : items) {
    table.Add({Text(item, "interface"), Text(item, "peer"), Text(item, "since"), Text(item, "id")});
  }
  return table.empty() ? "nobody is registered\n" : table.Text();
}

std::string RenderSas(const json& items) {
  Table table({{"ID"},
               {"PEER"},
               {"DIRECTION"},
               {"SPI"},
               {"ALGORITHM"},
               {"WINDOW", kRight},
               {"WORKER", kRight},
               {"SEQUENCE", kRight},
               {"PACKETS", kRight},
               {"AGE", kRight},
               {"STATE"},
               {"FINGERPRINT"}});
  for (const json& item : items) {
    const json& state = At(item, "state");
    const bool inbound = Text(item, "direction") == "inbound";
    table.Add({Text(item, "id"), Text(item, "peer"), Text(item, "direction"), Text(item, "spi"),
               Text(item, "algorithm"), inbound ? Text(item, "replay_window") : "",
               Text(state, "worker"), Text(state, "sequence"), Text(state, "packets"),
               state.empty() ? "" : Duration(Number(state, "age_seconds")), SaStateText(item),
               Text(item, "fingerprint")});
  }
  return table.empty() ? "no security associations\n" : table.Text();
}

std::string RenderRevocations(const json& items) {
  Table table({{"KIND"}, {"ID"}, {"ISSUER"}, {"SINCE"}, {"UNTIL"}, {"BY"}, {"REASON"}});
  for (const json& one : items) {
    table.Add({Text(one, "kind"), Text(one, "id"), Text(one, "issuer"), Text(one, "since"),
               Text(one, "until"), Text(one, "by"), Text(one, "reason")});
  }
  return table.empty() ? "nothing is revoked\n" : table.Text();
}

}  // namespace portcullis::cli
