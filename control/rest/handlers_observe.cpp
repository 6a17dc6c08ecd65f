// Status, counters, pipeline, events, and what load balancers ask.
#include <nlohmann/json.hpp>

#include "control/model/fields.hpp"
#include "control/model/json.hpp"
#include "control/registry/audit/log.hpp"
#include "control/rest/observe.hpp"
#include "control/rest/openapi.hpp"
#include "control/rest/operators.hpp"
#include "control/rest/routes.hpp"
#include "control/rest/version.hpp"

namespace portcullis::rest {

using nlohmann::json;

boost::asio::awaitable<Result<steer::StatusReply>> ReadStatus(Gate& gate) {
  steer::Request request;
  request.mutable_read_status();
  auto answer = co_await gate.link().Call(std::move(request));
  if (!answer) co_return tl::unexpected(answer.error());
  co_return std::move(*answer->mutable_read_status());
}

boost::asio::awaitable<Result<steer::CountersReply>> ReadCounters(Gate& gate,
                                                                  CountersWanted wanted) {
  steer::Request request;
  request.mutable_read_counters()->set_workers(wanted.workers);
  request.mutable_read_counters()->set_peers(wanted.peers);
  request.mutable_read_counters()->set_sas(wanted.sas);
  auto answer = co_await gate.link().Call(std::move(request));
  if (!answer) co_return tl::unexpected(answer.error());
  co_return std::move(*answer->mutable_read_counters());
}

namespace {

json CountersJson(const steer::CountersReply& reply, const steer::Counters& counters,
                  bool with_zeros) {
  json verdicts = json::object();
  for (int i = 0; i < counters.verdicts_size() && i < reply.verdicts_size(); ++i) {
    if (with_zeros || counters.verdicts(i) != 0) {
      verdicts[reply.verdicts(i)] = counters.verdicts(i);
    }
  }
  return {{"verdicts", std::move(verdicts)}, {"bytes", counters.bytes()}};
}

json XdpJson(const steer::StatusReply& s, const steer::PortStatus& port) {
  json verdicts = json::object();
  for (int i = 0; i < port.xdp_verdicts_size() && i < s.xdp_verdicts_size(); ++i) {
    verdicts["xdp_" + s.xdp_verdicts(i)] = port.xdp_verdicts(i);
  }
  return {{"mode", port.xdp_mode()},
          {"af_xdp", port.af_xdp_mode()},
          {"generation", port.xdp_generation()},
          {"verdicts", std::move(verdicts)}};
}

json DataplaneJson(const steer::StatusReply& s, const steer::HelloReply& hello) {
  json ports = json::array();
  for (const auto& p : s.ports()) {
    ports.push_back({{"name", p.name()},
                     {"role", p.role()},
                     {"device", p.device()},
                     {"link_up", p.link_up()},
                     {"mtu", p.mtu()},
                     {"rx_packets", p.rx_packets()},
                     {"tx_packets", p.tx_packets()},
                     {"rx_missed", p.rx_missed()},
                     {"tx_errors", p.tx_errors()},
                     {"xdp_dropped", p.xdp_dropped()}});
    if (!p.xdp_mode().empty()) ports.back()["xdp"] = XdpJson(s, p);
  }
  return {{"connected", true},
          {"instance", s.instance()},
          {"version", s.version()},
          {"incarnation", hello.incarnation()},
          {"generation", s.generation()},
          {"lab", hello.lab()},
          {"workers", s.workers()},
          {"sas", s.sas()},
          {"sa_capacity", s.sa_capacity()},
          {"peers", s.peers()},
          {"uptime_seconds", s.uptime_seconds()},
          {"hugepages", s.hugepages()},
          {"engine", s.engine()},
          {"ports", std::move(ports)}};
}

boost::asio::awaitable<json> DataplaneStatus(Gate& gate) {
  const auto status = co_await ReadStatus(gate);
  const steer::HelloReply* hello = gate.link().hello();
  if (!status || hello == nullptr || !gate.link().ready()) {
    const std::string& why = gate.link().error();
    co_return json{{"connected", false},
                   {"error", why.empty() && !status ? status.error().Text() : why}};
  }
  json out = DataplaneJson(*status, *hello);
  if (!gate.sync_error().empty()) out["error"] = gate.sync_error();
  co_return out;
}

}  // namespace

Answer GetStatus(Context& context, Request& request) {
  Gate& gate = context.gate;
  json dataplane = co_await DataplaneStatus(gate);
  const auto& document = gate.document();
  json bypasses = json::array();
  for (const auto& i : document.interfaces) {
    if (i.protection == model::Protection::none) bypasses.push_back(i.name);
  }
  auto warnings = gate.Warnings();
  if (!document.approval.empty() && context.operators.CountOf(Role::operator_) < 2) {
    warnings.push_back({"approval", document.approval.front().name,
                        "nobody can approve: the configuration has fewer than two operators"});
  }
  const auto now = std::chrono::system_clock::now();
  const auto up = std::chrono::steady_clock::now() - context.started;
  json status = {{"version", kVersion},
                 {"lab", gate.lab()},
                 {"ready", gate.StoreHealthy() && context.audit.Healthy() && gate.InSync()},
                 {"uptime_seconds", std::chrono::duration_cast<std::chrono::seconds>(up).count()},
                 {"clock", Info(gate.clock()).name},
                 {"time", TimeText(now)},
                 {"operator", request.who.name},
                 {"role", RoleText(request.who.role)},
                 {"policy",
                  {{"generation", gate.generation()},
                   {"in_force", gate.InSync()},
                   {"interfaces", document.interfaces.size()},
                   {"peers", document.peers.size()},
                   {"policies", document.policies.size()}}},
                 {"sas", gate.sas().size()},
                 {"dataplane", std::move(dataplane)},
                 {"expiring", ExpiringJson(context.alarms, now)},
                 {"revoked_peers", gate.denials().Peers()},
                 {"bypasses", std::move(bypasses)},
                 {"warnings", model::ToJson(warnings)}};
  if (context.guard != nullptr) status["guard"] = GuardJson(*context.guard);
  co_return Json(200, status);
}

Answer GetCounters(Context& context, Request& request) {
  const auto given = request.query.find("by");
  const std::string by = given == request.query.end() ? "verdict" : given->second;
  const CountersWanted wanted{by == "worker", by == "peer", by == "sa"};
  if (by != "verdict" && !wanted.workers && !wanted.peers && !wanted.sas) {
    co_return Problem(kMalformed,
                      {ErrorKind::kInvalid, "not an admitted value", "by",
                       "verdict, worker, peer or sa", "\"" + by.substr(0, 63) + "\""},
                      request.path);
  }
  const auto reply = co_await ReadCounters(context.gate, wanted);
  if (!reply) co_return Problem(reply.error(), request.path);
  json rows = json::array();
  for (const auto* list : {&reply->workers(), &reply->peers(), &reply->sas()}) {
    for (const auto& counters : *list) {
      json row = CountersJson(*reply, counters, false);
      row["name"] = counters.name();
      rows.push_back(std::move(row));
    }
  }
  json total = CountersJson(*reply, reply->total(), true);
  for (int i = 0; i < reply->xdp_verdicts_size() && i < reply->xdp_packets_size(); ++i) {
    total["verdicts"]["xdp_" + reply->xdp_verdicts(i)] = reply->xdp_packets(i);
  }
  co_return Json(200, {{"by", by}, {"total", std::move(total)}, {"rows", std::move(rows)}});
}

Answer GetPipeline(Context& context, Request& request) {
  const auto status = co_await ReadStatus(context.gate);
  if (!status) co_return Problem(status.error(), request.path);
  json inbound = json::array();
  json outbound = json::array();
  for (const auto& stage : status->stages_inbound()) inbound.push_back(stage);
  for (const auto& stage : status->stages_outbound()) outbound.push_back(stage);
  co_return Json(200, {{"inbound", std::move(inbound)}, {"outbound", std::move(outbound)}});
}

Answer StreamEvents(Context& context, Request& request) {
  const Events& events = context.gate.events();
  Response response;
  response.content_type = "text/event-stream";
  const bool follow = Flag(request, "follow", true);
  const bool replay = !request.last_event_id.empty() || !follow;
  response.stream = {replay ? events.NumberOf(request.last_event_id) : events.Last(), follow};
  co_return response;
}

Answer StreamDrops(Context& context, Request& request) {
  const auto one_in = Number(request, "oneIn", 1, Drops::kMostOneIn);
  if (!one_in) co_return Problem(kMalformed, one_in.error(), request.path);
  if (const DataplaneLink& link = context.gate.link(); !link.ready()) {
    co_return Problem(
        {ErrorKind::kUnavailable, "the dataplane is away: " + link.error(), "", "", ""},
        request.path);
  }
  Response response;
  response.content_type = "text/event-stream";
  Response::Stream drops;
  drops.drops_one_in = static_cast<uint32_t>(*one_in);
  response.stream = drops;
  co_return response;
}

Answer ConfirmTime(Context& context, Request& request) {
  const auto body = model::ParseJson(request.body);
  if (!body) co_return Problem(kMalformed, body.error(), request.path);
  std::optional<Error> error;
  model::Fields fields(*body, "", error);
  fields.RefuseOthers();
  if (error) co_return Problem(*error, request.path);
  const auto now = audit::Stamp::Now();
  const auto wall = std::chrono::floor<std::chrono::milliseconds>(now.wall);
  const Gate::Wish wish = WishOf(request);
  const auto before = context.gate.ConfirmTime(wall, now.boot, wish);
  if (!before) co_return Problem(before.error(), request.path);
  json answer = {{"confirmed", !wish.dry_run},
                 {"time", TimeText(now.wall)},
                 {"was", Info(*before).name},
                 {"clock", Info(context.gate.clock()).name}};
  co_return Json(200, answer);
}

Answer GetHealth(Context&, Request&) {
  co_return Json(200, {{"alive", true}});
}

Answer GetReadiness(Context& context, Request&) {
  Gate& gate = context.gate;
  const bool store = gate.StoreHealthy();
  const bool audit = context.audit.Healthy();
  const bool ready = store && audit && gate.InSync();
  co_return Json(ready ? 200 : 503, {{"ready", ready},
                                     {"store", store},
                                     {"audit", audit},
                                     {"dataplane_connected", gate.link().ready()},
                                     {"in_sync", gate.InSync()}});
}

Answer GetOpenapi(Context&, Request&) {
  co_return Response{200, "application/yaml", std::string(kOpenapi), {}, {}, {}, {}};
}

}  // namespace portcullis::rest
