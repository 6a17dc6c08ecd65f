// Status, counters, differences and events.
#include <algorithm>
#include <set>

#include "control/cli/json_text.hpp"
#include "control/cli/render.hpp"
#include "control/cli/table.hpp"
#include "dataplane/packet/verdict.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

std::string Line(const char* label, const std::string& text) {
  return text.empty() ? "" : fmt::format("{:<11}{}\n", label, text);
}

std::string DataplaneText(const json& dataplane) {
  if (!Flag(dataplane, "connected")) {
    const std::string error = Text(dataplane, "error");
    return "NOT CONNECTED" + (error.empty() ? "" : ": " + error);
  }
  std::string text =
      fmt::format("{} {}, connected, up {}, {}, {} of {} SAs, {}, {}", Text(dataplane, "instance"),
                  Text(dataplane, "version"), Duration(Number(dataplane, "uptime_seconds")),
                  Count(Number(dataplane, "workers"), "worker"), Number(dataplane, "sas"),
                  Number(dataplane, "sa_capacity"), Count(Number(dataplane, "peers"), "peer"),
                  Flag(dataplane, "hugepages") ? "hugepages" : "no hugepages");
  if (const std::string engine = Text(dataplane, "engine"); !engine.empty()) text += ", " + engine;
  if (const std::string error = Text(dataplane, "error"); !error.empty()) {
    text += "\n           NOT IN SYNC: " + error;
  }
  return text;
}

std::string GuardText(const json& guard) {
  uint64_t refused = 0;
  for (const json& count : At(guard, "refusals")) refused += count.get<uint64_t>();
  uint64_t open = 0;
  for (const json& listener : At(guard, "listeners")) open += Number(listener, "open");
  std::string text =
      Flag(guard, "connected")
          ? fmt::format("connected since {}, {} open, {} since its start", Text(guard, "since"),
                        Count(open, "connection"), Count(refused, "refusal"))
          : "NOT CONNECTED: nobody can open or renew a session";
  for (const char* kind : {"lists", "issuers"}) {
    for (const json& followed : At(guard, kind)) {
      const std::string error = Text(followed, "error");
      if (error.empty()) continue;
      text += fmt::format("\n           NOT RENEWED: {}: {}", Text(followed, "name"), error);
    }
  }
  return text;
}

// What an alarm was raised for.
std::string RenderExpiring(const json& expiring) {
  std::string text;
  for (const json& item : expiring) {
    if (!Flag(item, "alarm")) continue;
    const json& seconds = At(item, "seconds_left");
    const auto left = seconds.is_number() ? seconds.get<int64_t>() : 0;
    text += Line(left <= 0 ? "EXPIRED" : "expires",
                 fmt::format("{}: {}, {}", Text(item, "where"), Text(item, "what"),
                             left <= 0 ? "at " + Text(item, "when")
                                       : "in " + Duration(static_cast<uint64_t>(left))));
  }
  return text;
}

std::string RenderPorts(const json& ports) {
  Table table({{"PORT"},
               {"ROLE"},
               {"DEVICE"},
               {"LINK"},
               {"MTU", kRight},
               {"RECEIVED", kRight},
               {"SENT", kRight},
               {"MISSED", kRight},
               {"SEND ERRORS", kRight},
               {"DROPPED BY XDP", kRight},
               {"XDP"},
               {"AF_XDP"}});
  for (const json& port : ports) {
    const auto grouped = [&port](const char* name) { return Grouped(Number(port, name)); };
    table.Add({Text(port, "name"), Text(port, "role"), Text(port, "device"),
               Flag(port, "link_up") ? "up" : "DOWN", Text(port, "mtu"), grouped("rx_packets"),
               grouped("tx_packets"), grouped("rx_missed"), grouped("tx_errors"),
               grouped("xdp_dropped"), Text(At(port, "xdp"), "mode"),
               Text(At(port, "xdp"), "af_xdp")});
  }
  return table.empty() ? "" : "\n" + table.Text();
}

std::string NamedText(const json& named) {
  const std::string kind = Text(named, "kind");
  const std::string name = Text(named, "name");
  return kind == name ? kind : fmt::format("{} {}", kind, name);  // there is one first line
}

// The first line's, then the order of verdict.hpp, which is the order of a packet's way; then what
// this build does not know.
std::vector<std::string> VerdictOrder(const json& verdicts) {
  std::vector<std::string> names;
  std::set<std::string> known;
  const auto add = [&](const std::string& name) {
    known.insert(name);
    if (verdicts.contains(name)) names.push_back(name);
  };
  for (const Verdict verdict : kFirstLineVerdicts) add(XdpName(verdict));
  for (const VerdictInfo& info : kVerdicts) add(std::string(info.name));
  for (const auto& [name, count] : verdicts.items()) {
    if (!known.contains(name)) names.push_back(name);
  }
  return names;
}

std::string VerdictMeaning(const std::string& name) {
  for (const Verdict verdict : kFirstLineVerdicts) {
    if (XdpName(verdict) == name) return XdpText(verdict);
  }
  for (const VerdictInfo& info : kVerdicts) {
    if (info.name == name) return std::string(info.text);
  }
  return {};
}

const json* RowNamed(const json& rows, const std::string& name) {
  for (const json& row : rows) {
    if (Text(row, "name") == name) return &row;
  }
  return nullptr;
}

std::string PerSecond(uint64_t now, uint64_t before, double seconds) {
  // After a restart of the dataplane counters begin at zero again.
  const uint64_t grown = now >= before ? now - before : now;
  return fmt::format("{:.0f}", static_cast<double>(grown) / seconds);
}

}  // namespace

std::string XdpName(Verdict verdict) {
  return fmt::format("xdp_{}", Info(verdict).name);
}

std::string XdpText(Verdict verdict) {
  if (verdict == Verdict::accepted) return "XDP let it go on to the dataplane";
  if (verdict == Verdict::exception) return "XDP let it go on to the kernel";
  return fmt::format("dropped by XDP: {}", Info(verdict).text);
}

std::string RenderFirstLineCounters(const json& status) {
  Table table({{"PORT"}, {"VERDICT"}, {"PACKETS", kRight}, {"MEANING"}});
  for (const json& port : At(At(status, "dataplane"), "ports")) {
    const json& verdicts = At(At(port, "xdp"), "verdicts");
    std::string shown = Text(port, "name");
    for (const std::string& name : VerdictOrder(verdicts)) {
      const uint64_t count = Number(verdicts, name.c_str());
      if (count == 0) continue;
      table.Add({shown, name, Grouped(count), VerdictMeaning(name)});
      shown.clear();
    }
  }
  return table.empty() ? "no packets yet\n" : table.Text();
}

std::string RenderStatus(const json& status) {
  const json& policy = At(status, "policy");
  const json& dataplane = At(status, "dataplane");
  std::string text =
      Line("control", fmt::format("{}, {}, up {}{}; you are {} ({})", Text(status, "version"),
                                  Flag(status, "ready") ? "ready" : "NOT READY",
                                  Duration(Number(status, "uptime_seconds")),
                                  Flag(status, "lab") ? ", LAB: keys by hand are admitted" : "",
                                  Text(status, "operator"), Text(status, "role")));
  if (const std::string clock = Text(status, "clock"); !clock.empty() && clock != "ok") {
    text += Line("clock", "NOT TO BE BELIEVED: " + clock);
  }
  text += Line("policy", fmt::format("generation {}, {}: {}, {}, {}", Number(policy, "generation"),
                                     Flag(policy, "in_force") ? "in force" : "NOT IN FORCE",
                                     Count(Number(policy, "interfaces"), "interface"),
                                     Count(Number(policy, "peers"), "peer"),
                                     Count(Number(policy, "policies"), "policy", "policies")));
  text += Line("SAs", fmt::format("{} known", Number(status, "sas")));
  text += Line("dataplane", DataplaneText(dataplane));
  if (const json& guard = At(status, "guard"); !guard.empty()) {
    text += Line("guard", GuardText(guard));
  }
  text += RenderExpiring(At(status, "expiring"));
  if (const std::string names = Joined(At(status, "bypasses")); !names.empty()) {
    text += Line("CLEARTEXT", "passes to " + names);
  }
  text += Line("revoked", Joined(At(status, "revoked_peers")));
  text += RenderWarnings(At(status, "warnings"));
  return text + RenderPorts(At(dataplane, "ports"));
}

std::string RenderWarnings(const json& warnings) {
  constexpr size_t kShown = 10;  // a laboratory has one for each of its SAs; --json has them all
  std::string text;
  size_t number = 0;
  for (const json& warning : warnings) {
    if (++number > kShown) {
      return text + Line("warning", fmt::format("... and {} more", warnings.size() - kShown));
    }
    text += Line("warning", fmt::format("{}: {}", NamedText(warning), Text(warning, "text")));
  }
  return text;
}

std::string RenderCounters(const json& report, bool all, const json* before, double seconds) {
  const bool rates = before != nullptr && seconds > 0;
  const json& total = At(At(report, "total"), "verdicts");
  if (Text(report, "by") == "verdict") {
    Table table({{"VERDICT"}, {"PACKETS", kRight}, {"PER SECOND", kRight}, {"MEANING"}});
    for (const std::string& name : VerdictOrder(total)) {
      const uint64_t count = Number(total, name.c_str());
      if (count == 0 && !all) continue;
      const json& old = rates ? At(At(*before, "total"), "verdicts") : total;
      table.Add({name, Grouped(count),
                 rates ? PerSecond(count, Number(old, name.c_str()), seconds) : "",
                 VerdictMeaning(name)});
    }
    return table.empty() ? "no packets yet\n" : table.Text();
  }
  // One row per worker, peer or SA and verdict: some thirty columns would fit no terminal.
  std::string title = Text(report, "by");
  std::transform(title.begin(), title.end(), title.begin(), ::toupper);
  Table table({{title}, {"VERDICT"}, {"PACKETS", kRight}, {"PER SECOND", kRight}});
  for (const json& row : At(report, "rows")) {
    const std::string name = Text(row, "name");
    const json& verdicts = At(row, "verdicts");
    const json* old_row = rates ? RowNamed(At(*before, "rows"), name) : nullptr;
    std::string shown = name;
    for (const std::string& verdict : VerdictOrder(verdicts)) {
      const uint64_t count = Number(verdicts, verdict.c_str());
      if (count == 0 && !all) continue;
      const uint64_t old =
          old_row == nullptr ? 0 : Number(At(*old_row, "verdicts"), verdict.c_str());
      table.Add({shown, verdict, Grouped(count), rates ? PerSecond(count, old, seconds) : ""});
      shown.clear();
    }
    if (!shown.empty()) table.Add({shown, "", "0", ""});
  }
  return table.empty() ? fmt::format("no {}s\n", Text(report, "by")) : table.Text();
}

bool IsDifference(const json& difference) {
  return !At(difference, "added").empty() || !At(difference, "changed").empty() ||
         !At(difference, "removed").empty();
}

std::string RenderDifference(const json& difference) {
  std::string text;
  for (const json& item : At(difference, "added")) text += "+ " + NamedText(item) + '\n';
  for (const json& item : At(difference, "changed")) {
    text += "~ " + NamedText(item) + '\n';
    for (const json& field : At(item, "fields")) {
      const auto value = [&field](const char* which) {
        return field.contains(which) ? field[which].dump() : std::string("(absent)");
      };
      text += fmt::format("    {}: {} -> {}\n", Text(field, "field"), value("from"), value("to"));
    }
  }
  for (const json& item : At(difference, "removed")) text += "- " + NamedText(item) + '\n';
  return text;
}

std::string RenderEvent(const json& event) {
  std::string about;
  for (const char* name : {"peer", "sa", "operator"}) {
    const std::string value = Text(event, name);
    if (!value.empty()) about += fmt::format(" {}={}", name, value);
  }
  return fmt::format("{}  {:<9}  {:<16} {}{}\n", Text(event, "time"), Text(event, "source"),
                     Text(event, "kind"), Text(event, "text"),
                     about.empty() ? "" : "  [" + about.substr(1) + "]");
}

}  // namespace portcullis::cli
