// Prometheus text format 0.0.4. Series of the dataplane are absent while it is away, rather than
// zero: a zero would be a claim.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iterator>

#include "control/registry/audit/log.hpp"
#include "control/rest/observe.hpp"
#include "control/rest/routes.hpp"
#include "control/syslog/syslog.hpp"

namespace portcullis::rest {

namespace {

class Metrics {
 public:
  void Family(const char* name, const char* type, const char* help) {
    name_ = name;
    fmt::format_to(Out(), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void Sample(const std::string& labels, uint64_t value) {
    fmt::format_to(Out(), "{}{}{}{} {}\n", name_, labels.empty() ? "" : "{", labels,
                   labels.empty() ? "" : "}", value);
  }
  std::string text;

 private:
  std::back_insert_iterator<std::string> Out() { return std::back_inserter(text); }
  const char* name_ = "";
};

// Label values: names need no escaping, but devices are the operator's text.
std::string Escaped(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// All verdicts of the total, so that every series exists from the start; elsewhere those that
// happened: 100,000 security associations times 31 zeros help nobody.
void Verdicts(Metrics& out, const steer::CountersReply& reply, const steer::Counters& counters,
              const char* label, bool zeros) {
  for (int i = 0; i < counters.verdicts_size() && i < reply.verdicts_size(); ++i) {
    if (counters.verdicts(i) == 0 && !zeros) continue;
    const std::string own =
        *label == '\0' ? "" : fmt::format("{}=\"{}\",", label, Escaped(counters.name()));
    out.Sample(fmt::format("{}verdict=\"{}\"", own, reply.verdicts(i)), counters.verdicts(i));
  }
}

void Counters(Metrics& out, const steer::CountersReply& reply) {
  out.Family("portcullis_packets_total", "counter", "Packets by verdict");
  Verdicts(out, reply, reply.total(), "", true);
  out.Family("portcullis_accepted_bytes_total", "counter", "Bytes of accepted inner packets");
  out.Sample("", reply.total().bytes());
  out.Family("portcullis_worker_packets_total", "counter", "Packets by worker and verdict");
  for (const auto& c : reply.workers()) Verdicts(out, reply, c, "worker", true);
  out.Family("portcullis_peer_packets_total", "counter", "Packets by peer and verdict");
  for (const auto& c : reply.peers()) Verdicts(out, reply, c, "peer", false);
  out.Family("portcullis_sa_packets_total", "counter",
             "Packets by security association and verdict");
  for (const auto& c : reply.sas()) Verdicts(out, reply, c, "sa", false);
}

void Ports(Metrics& out, const steer::StatusReply& status) {
  const auto family = [&](const char* name, const char* type, const char* help, auto value) {
    out.Family(name, type, help);
    for (const auto& p : status.ports()) {
      out.Sample(fmt::format("port=\"{}\",role=\"{}\"", Escaped(p.name()), Escaped(p.role())),
                 value(p));
    }
  };
  using P = const steer::PortStatus&;
  family("portcullis_port_up", "gauge", "Whether the port's link is up",
         [](P p) { return uint64_t{p.link_up()}; });
  family("portcullis_port_rx_packets_total", "counter", "Packets received",
         [](P p) { return p.rx_packets(); });
  family("portcullis_port_tx_packets_total", "counter", "Packets sent",
         [](P p) { return p.tx_packets(); });
  family("portcullis_port_rx_missed_total", "counter", "Packets lost for want of a buffer",
         [](P p) { return p.rx_missed(); });
  family("portcullis_port_tx_errors_total", "counter", "Packets that could not be sent",
         [](P p) { return p.tx_errors(); });
  family("portcullis_port_xdp_dropped_total", "counter", "Packets dropped by the XDP prefilter",
         [](P p) { return p.xdp_dropped(); });
}

// Ports without XDP have no such series.
void Xdp(Metrics& out, const steer::StatusReply& status) {
  const auto each = [&](auto show) {
    for (const auto& p : status.ports()) {
      if (!p.xdp_mode().empty()) show(p, fmt::format("port=\"{}\"", Escaped(p.name())));
    }
  };
  using P = const steer::PortStatus&;
  out.Family(
      "portcullis_xdp_packets_total", "counter",
      "Packets by port and verdict of the first line; xdp_accepted went on to the dataplane, "
      "xdp_exception to the kernel");
  each([&](P p, const std::string& port) {
    for (int i = 0; i < p.xdp_verdicts_size() && i < status.xdp_verdicts_size(); ++i) {
      out.Sample(fmt::format("{},verdict=\"xdp_{}\"", port, status.xdp_verdicts(i)),
                 p.xdp_verdicts(i));
    }
  });
  out.Family("portcullis_xdp_info", "gauge", "How the port is shared with the kernel; always 1");
  each([&](P p, const std::string& port) {
    out.Sample(fmt::format("{},mode=\"{}\",af_xdp=\"{}\"", port, p.xdp_mode(), p.af_xdp_mode()), 1);
  });
  out.Family("portcullis_xdp_policy_generation", "gauge",
             "Generation of the policy that the first line goes by");
  each([&](P p, const std::string& port) {
    if (p.xdp_generation() != 0) out.Sample(port, p.xdp_generation());  // on the trusted side none
  });
}

// Counters of the guard are absent while it is away, as the dataplane's.
void GuardMetrics(Metrics& out, const admission::GuardState& guard) {
  out.Family("portcullis_guard_up", "gauge", "Whether the guard is there");
  out.Sample("", guard.connected() ? 1 : 0);
  const admission::Status* status = guard.connected() ? guard.status() : nullptr;
  if (status == nullptr) return;
  out.Family("portcullis_refusals_total", "counter", "Peers and strangers refused, by reason");
  for (const auto& count : status->refusals()) {
    out.Sample(fmt::format("reason=\"{}\"", Escaped(count.name())), count.value());
  }
  const auto family = [&](const char* name, const char* type, const char* help, auto value) {
    out.Family(name, type, help);
    for (const auto& listener : status->listeners()) {
      out.Sample(fmt::format("port=\"{}\",mode=\"{}\"", listener.port(),
                             listener.mode() == admission::PSK ? "psk" : "certificate"),
                 value(listener));
    }
  };
  using L = const admission::Listener&;
  family("portcullis_tls_connections_total", "counter", "Connections that the guard accepted",
         [](L l) { return l.accepted(); });
  family("portcullis_tls_handshakes_total", "counter", "Handshakes that proved who is there",
         [](L l) { return l.authenticated(); });
  family("portcullis_tls_half_open", "gauge", "Connections before their handshake's end",
         [](L l) { return uint64_t{l.half_open()}; });
  family("portcullis_tls_open", "gauge", "Authenticated connections",
         [](L l) { return uint64_t{l.open()}; });
}

// Outcomes that never happened have no series: operations times three would be zeros.
void Operations(Metrics& out, const admission::Operations& operations) {
  out.Family("portcullis_operations_total", "counter",
             "Requests that were judged, by interface, operation and outcome");
  for (const auto& [what, count] : operations.counts()) {
    out.Sample(fmt::format("interface=\"{}\",operation=\"{}\",outcome=\"{}\"", what.interface,
                           what.operation, what.outcome),
               count);
  }
  out.Family("portcullis_operations_open", "gauge", "Operations whose outcome is not known yet");
  out.Sample("", operations.open());
}

void Expiring(Metrics& out, const Alarms& alarms) {
  out.Family("portcullis_expiry_timestamp_seconds", "gauge",
             "When a certificate, CA, revocation list or key set ends");
  for (const auto& [source, ending, told] : alarms.All()) {
    const auto when = std::chrono::system_clock::to_time_t(ending.when);
    out.Sample(fmt::format("where=\"{}\",what=\"{}\"", source, Escaped(ending.what)),
               static_cast<uint64_t>(std::max<std::time_t>(when, 0)));
  }
}

}  // namespace

Answer GetMetrics(Context& context, Request&) {
  Gate& gate = context.gate;
  const auto status = co_await ReadStatus(gate);
  const auto counters = co_await ReadCounters(gate, {true, true, true});
  Metrics out;
  out.Family("portcullis_up", "gauge", "1: control answers");
  out.Sample("", 1);
  out.Family("portcullis_dataplane_connected", "gauge", "Whether the dataplane is there");
  out.Sample("", gate.link().ready() ? 1 : 0);
  out.Family("portcullis_in_sync", "gauge", "Whether the dataplane has the stored policy");
  out.Sample("", gate.InSync() ? 1 : 0);
  out.Family("portcullis_policy_generation", "gauge", "Generation of the stored policy");
  out.Sample("", gate.generation());
  out.Family("portcullis_policy_peers", "gauge", "Peers in the stored policy");
  out.Sample("", gate.document().peers.size());
  out.Family("portcullis_revoked_peers", "gauge", "Peers that are revoked");
  out.Sample("", gate.denials().Peers().size());
  out.Family("portcullis_sas", "gauge", "Security associations known to control");
  out.Sample("", gate.sas().size());
  out.Family("portcullis_audit_records_total", "counter", "Records in the audit log");
  out.Sample("", context.audit.count());
  out.Family("portcullis_audit_writable", "gauge", "0: changes are refused until control restarts");
  out.Sample("", context.audit.Healthy() ? 1 : 0);
  if (context.syslog != nullptr) {
    out.Family("portcullis_audit_syslog_lost_total", "counter",
               "Records that the remote log did not get");
    out.Sample("", context.syslog->lost());
  }
  out.Family("portcullis_clock_ok", "gauge", "Whether the wall clock can be believed");
  out.Sample("", gate.clock() == TimeVerdict::ok ? 1 : 0);
  out.Family("portcullis_sessions", "gauge", "Sessions that peers have");
  out.Sample("", context.sessions.List().size());
  if (context.guard != nullptr) GuardMetrics(out, *context.guard);
  if (context.operations != nullptr) Operations(out, *context.operations);
  Expiring(out, context.alarms);
  if (status) Ports(out, *status);
  if (status) Xdp(out, *status);
  if (counters) Counters(out, *counters);
  co_return Response{200, "text/plain; version=0.0.4; charset=utf-8", std::move(out.text), {}, {}};
}

}  // namespace portcullis::rest
