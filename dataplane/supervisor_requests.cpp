// What each steering request does.
#include <fmt/format.h>
#include <rte_cycles.h>
#include <spdlog/spdlog.h>

#include "dataplane/pipeline/pipeline.hpp"
#include "dataplane/steer/convert.hpp"
#include "dataplane/steer/messages.hpp"
#include "dataplane/supervisor.hpp"

namespace portcullis {
namespace {

constexpr uint32_t kProtocol = 1;
constexpr uint32_t kPage = 1000;

}  // namespace

void Supervisor::Handle(const steer::Request& request, steer::Response& response) {
  using Kind = steer::Request::KindCase;
  Result<void> done;
  switch (request.kind_case()) {
    case Kind::kHello:
      done = Hello(request.hello(), *response.mutable_hello());
      break;
    case Kind::kApplySnapshot:
      done = Apply(request.apply_snapshot(), *response.mutable_apply_snapshot());
      break;
    case Kind::kAddSas:
      done = AddSas(request.add_sas(), *response.mutable_add_sas());
      break;
    case Kind::kRemoveSas:
      done = RemoveSas(request.remove_sas(), *response.mutable_remove_sas());
      break;
    case Kind::kListSas:
      done = ListSas(request.list_sas(), *response.mutable_list_sas());
      break;
    case Kind::kReadCounters:
      done = ReadCounters(request.read_counters(), *response.mutable_read_counters());
      break;
    case Kind::kRevoke:
      done = parts_.state.Revoke(request.revoke().peer(), request.revoke().revoked());
      break;
    case Kind::kRegister: {
      const steer::Register& which = request.register_();
      const std::vector<std::string> ids(which.ids().begin(), which.ids().end());
      parts_.state.Register(ids, which.seconds(), BootNs());
      break;
    }
    case Kind::kWatchDrops:
      WatchDrops(request.watch_drops());
      break;
    case Kind::kReadStatus:
      done = ReadStatus(*response.mutable_read_status());
      break;
    case Kind::kSubscribe:  // answered by the server
    case Kind::KIND_NOT_SET:
      done = Invalid("kind", "no such request", "one of steer.Request.kind",
                     "a kind of a later protocol");
  }
  if (!done) {
    response.clear_kind();
    *response.mutable_failure() = steer::ToFailure(done.error());
  }
}

Result<void> Supervisor::Hello(const steer::Hello& request, steer::HelloReply& reply) {
  if (request.protocol() != kProtocol) {
    return Invalid("protocol", "another steering protocol", std::to_string(kProtocol),
                   std::to_string(request.protocol()));
  }
  const Snapshot* policy = parts_.state.snapshot();
  reply.set_protocol(kProtocol);
  reply.set_boot_id(parts_.boot_id);
  reply.set_incarnation(incarnation_);
  reply.set_generation(policy == nullptr ? 0 : policy->generation);
  reply.set_lab(parts_.config.lab);
  reply.set_instance(parts_.config.instance);
  reply.set_sa_capacity(parts_.state.capacity());
  spdlog::info("{} connected", request.client());
  return {};
}

Result<void> Supervisor::Apply(const steer::ApplySnapshot& request, steer::SnapshotReply& reply) {
  auto update = steer::ToPolicyUpdate(request);
  if (!update) return tl::unexpected(update.error());
  const uint64_t generation = update->generation;
  // Everything that can fail comes before; then both, at the same time as far as packets can tell.
  const auto applied = parts_.state.Apply(
      std::move(*update), [this](const Snapshot& next) { return PrepareXdp(next); });
  if (!applied) {
    spdlog::warn("policy {} refused: {}", generation, applied.error().Text());
    return applied;
  }
  CommitXdp();
  reply.set_generation(generation);
  Publish("snapshot", "", "", fmt::format("policy generation {} is in force", generation));
  return {};
}

Result<void> Supervisor::AddSas(const steer::AddSas& request, steer::AddSasReply& reply) {
  // Those whose fields are wrong keep their place in the answer; the others go on, unless they
  // must go together.
  std::vector<SaSpec> specs;
  std::vector<int> places;
  bool wrong = false;
  for (const steer::SaSpec& message : request.sas()) {
    steer::SaResult* result = reply.add_results();
    result->set_id(message.id());
    auto spec = steer::ToSaSpec(message, parts_.config);
    if (spec) {
      places.push_back(reply.results_size() - 1);
      specs.push_back(std::move(*spec));
    } else {
      wrong = true;
      *result->mutable_failure() = steer::ToFailure(spec.error());
    }
  }
  if (wrong && request.atomic()) {
    for (const int place : places) {
      *reply.mutable_results(place)->mutable_failure() = steer::ToFailure(
          Error{ErrorKind::kConflict, "not added: another SA of the same request was refused"});
    }
    return {};
  }
  const auto results = parts_.state.AddSas(std::move(specs), request.atomic());
  for (size_t i = 0; i < results.size(); ++i) {
    steer::SaResult* result = reply.mutable_results(places[i]);
    if (results[i].fingerprint) {
      result->set_fingerprint(*results[i].fingerprint);
      Publish("sa_added", results[i].id, request.sas(places[i]).peer(),
              "security association added");
    } else {
      *result->mutable_failure() = steer::ToFailure(results[i].fingerprint.error());
    }
  }
  return {};
}

Result<void> Supervisor::RemoveSas(const steer::RemoveSas& request, steer::RemoveSasReply& reply) {
  std::vector<std::string> ids;
  std::vector<std::string> peers;
  for (const std::string& id : request.ids()) {
    const auto found = parts_.state.sas().find(id);
    if (found == parts_.state.sas().end()) continue;
    ids.push_back(id);
    peers.push_back(found->second->spec.peer);
  }
  reply.set_removed(static_cast<uint32_t>(parts_.state.RemoveSas(ids)));
  for (size_t i = 0; i < ids.size(); ++i) {
    Publish("sa_removed", ids[i], peers[i], "security association removed");
  }
  return {};
}

Result<void> Supervisor::ListSas(const steer::ListSas& request, steer::ListSasReply& reply) {
  const uint32_t limit = request.limit() == 0 ? kPage : request.limit();
  const auto& sas = parts_.state.sas();
  const auto add = [&](const Sa& sa) {
    *reply.add_sas() = steer::ToMessage(sa, request.with_keys(), rte_rdtsc(), BootNs());
  };
  for (const std::string& id : request.ids()) {
    if (const auto at = sas.find(id); at != sas.end()) add(*at->second);
  }
  if (request.ids_size() != 0) return {};
  for (auto at = sas.upper_bound(request.after()); at != sas.end(); ++at) {
    if (static_cast<uint32_t>(reply.sas_size()) == limit) {
      reply.set_more(true);
      break;
    }
    add(*at->second);
  }
  return {};
}

Result<void> Supervisor::ReadCounters(const steer::ReadCounters& request,
                                      steer::CountersReply& reply) {
  for (const VerdictInfo& verdict : kVerdicts) reply.add_verdicts(std::string(verdict.name));
  Fill(*reply.mutable_total(), "", Total());
  if (const auto xdp = XdpTotal()) {
    for (const Verdict verdict : kFirstLineVerdicts) {
      reply.add_xdp_verdicts(std::string(Info(verdict).name));
    }
    reply.mutable_xdp_packets()->Add(xdp->packets.begin(), xdp->packets.end());
  }
  if (request.workers()) {
    for (const auto& worker : parts_.workers) {
      Fill(*reply.add_workers(), std::to_string(worker->index()), worker->counters().Read());
    }
  }
  if (request.peers()) {
    for (const auto& [name, values] : parts_.state.PeerCounters()) {
      Fill(*reply.add_peers(), name, values);
    }
  }
  if (request.sas()) {
    for (const auto& [id, sa] : parts_.state.sas()) Fill(*reply.add_sas(), id, sa->counters.Read());
  }
  return {};
}

Result<void> Supervisor::ReadStatus(steer::StatusReply& reply) {
  const Snapshot* policy = parts_.state.snapshot();
  reply.set_instance(parts_.config.instance);
  reply.set_version(PORTCULLIS_VERSION);
  reply.set_workers(static_cast<uint32_t>(parts_.workers.size()));
  reply.set_generation(policy == nullptr ? 0 : policy->generation);
  reply.set_sas(static_cast<uint32_t>(parts_.state.sas().size()));
  reply.set_sa_capacity(parts_.state.capacity());
  reply.set_peers(static_cast<uint32_t>(parts_.state.peers().size()));
  reply.set_uptime_seconds((BootNs() - started_boot_ns_) / 1'000'000'000);
  reply.set_hugepages(parts_.hugepages);
  reply.set_engine(parts_.state.EngineName());
  for (const Port& port : parts_.ports.all()) {
    steer::PortStatus* status = reply.add_ports();
    status->set_name(port.name);
    status->set_role(std::string(Name(port.role)));
    status->set_device(port.device);
    status->set_mtu(port.mtu);
    if (port.xdp) {
      status->set_xdp_mode(port.xdp->mode());
      status->set_af_xdp_mode(port.af_xdp_mode);
      status->set_xdp_generation(port.xdp->generation());
    }
    auto counters = Ports::Read(port);
    if (!counters) continue;
    status->set_link_up(counters->link_up);
    status->set_rx_packets(counters->rx_packets);
    status->set_tx_packets(counters->tx_packets);
    status->set_rx_missed(counters->rx_missed);
    status->set_tx_errors(counters->tx_errors);
    status->set_xdp_dropped(counters->xdp_dropped);
    if (!port.xdp) continue;
    status->mutable_xdp_verdicts()->Add(counters->xdp.begin(), counters->xdp.end());
  }
  for (const Verdict verdict : kFirstLineVerdicts) {
    reply.add_xdp_verdicts(std::string(Info(verdict).name));
  }
  if (policy != nullptr) {
    for (const BypassRule& rule : policy->bypasses) reply.add_bypasses(rule.name);
  }
  for (const Stage& stage : InboundStages()) reply.add_stages_inbound(std::string(stage.name));
  for (const Stage& stage : OutboundStages()) reply.add_stages_outbound(std::string(stage.name));
  return {};
}

}  // namespace portcullis
