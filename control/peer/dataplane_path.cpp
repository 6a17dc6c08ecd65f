#include "control/peer/dataplane_path.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <utility>

#include "dataplane/steer/messages.hpp"

namespace portcullis::peer {

namespace asio = boost::asio;
using guard::SessionSelector;

namespace {

constexpr const char* kGate = "gate";  // the one peer's name in the dataplane
constexpr uint32_t kLeastSpi = 256;    // RFC 4303 2.1
constexpr uint32_t kPage = 1000;

std::string InboundOf(const std::string& pair) {
  return pair + "-in";
}
std::string OutboundOf(const std::string& pair) {
  return pair + "-out";
}

// "local" is this side, which the session calls the peer's.
steer::Selector ToMessage(const SessionSelector& from) {
  steer::Selector to;
  if (from.behind_peer) *to.mutable_local() = steer::ToMessage(*from.behind_peer);
  if (from.behind_gate) *to.mutable_remote() = steer::ToMessage(*from.behind_gate);
  to.set_protocol(from.protocol);
  const auto ports = [](const SessionSelector::Ports& range, auto&& mutable_ports) {
    if (range.first == 0 && range.last == UINT16_MAX) return;
    mutable_ports()->set_first(range.first);
    mutable_ports()->set_last(range.last);
  };
  ports(from.peer_ports, [&] { return to.mutable_local_ports(); });
  ports(from.gate_ports, [&] { return to.mutable_remote_ports(); });
  return to;
}

// The schema's numbers are the engine's list, from 1.
steer::Algorithm ToMessage(Algorithm algorithm) {
  return static_cast<steer::Algorithm>(static_cast<int>(algorithm) + 1);
}

steer::SaSpec SpecOf(const SaPair& pair, steer::Direction direction) {
  const bool inbound = direction == steer::INBOUND;
  steer::SaSpec spec;
  spec.set_id(inbound ? InboundOf(pair.name) : OutboundOf(pair.name));
  spec.set_pair(inbound ? OutboundOf(pair.name) : InboundOf(pair.name));
  spec.set_peer(kGate);
  spec.set_direction(direction);
  spec.set_spi(Value(inbound ? pair.to_peer : pair.to_gate));
  spec.set_algorithm(ToMessage(pair.algorithm));
  const Secret& key = inbound ? pair.key_to_peer : pair.key_to_gate;
  spec.set_key(key.bytes().data(), key.size());
  spec.set_esn(pair.esn);
  if (inbound) spec.set_replay_window(pair.replay_window);
  for (const auto& selector : pair.selectors) *spec.add_selectors() = ToMessage(selector);
  steer::Tunnel& tunnel = *spec.mutable_tunnel();
  tunnel.set_local(steer::ToBytes(pair.peer_outer));
  tunnel.set_remote(steer::ToBytes(pair.gate_outer));
  tunnel.set_udp_encap(pair.udp_encap);
  spec.mutable_lifetime()->set_hard_seconds(static_cast<uint64_t>(pair.life.count()));
  spec.set_mode(steer::NEW);
  return spec;
}

}  // namespace

DataplanePath::DataplanePath(const asio::any_io_executor& executor, const std::string& socket,
                             std::vector<SessionSelector> admitted)
    : link_(executor, socket, events_, "portcullis-peer"), admitted_(std::move(admitted)) {}

asio::awaitable<void> DataplanePath::Run() {
  co_await link_.Run([this](const steer::HelloReply& hello) { return Reconcile(hello); });
}

steer::ApplySnapshot DataplanePath::Policy(uint64_t generation) const {
  steer::ApplySnapshot policy;
  policy.set_generation(generation);
  policy.set_full(true);
  steer::Peer& gate = *policy.add_peers();
  gate.set_name(kGate);
  steer::ProtectedInterface& guarded = *policy.add_interfaces();
  guarded.set_name("sessions");
  std::set<Prefix> there;
  std::set<Prefix> all;
  for (const auto& selector : admitted_) {
    there.insert(*selector.behind_gate);  // the configuration names both
    all.insert({*selector.behind_gate, *selector.behind_peer});
    steer::Rule& rule = *gate.add_rules();
    rule.set_policy("peer.yaml");
    *rule.mutable_selector() = ToMessage(selector);
  }
  for (const Prefix& prefix : there) *gate.add_prefixes() = steer::ToMessage(prefix);
  for (const Prefix& prefix : all) *guarded.add_prefixes() = steer::ToMessage(prefix);
  return policy;
}

// The pairs of an earlier run of this agent stay until a session replaces them: packets go on.
asio::awaitable<Result<void>> DataplanePath::Reconcile(steer::HelloReply hello) {
  if (incarnation_ != hello.incarnation()) {
    steer::Request request;
    *request.mutable_apply_snapshot() = Policy(hello.generation() + 1);
    const auto applied = co_await link_.Call(std::move(request));
    if (!applied) co_return tl::unexpected(applied.error());
    incarnation_ = hello.incarnation();
  }
  std::vector<std::string> all;
  const auto listed = co_await List(std::move(all));
  if (!listed) co_return tl::unexpected(listed.error());
  spis_.clear();
  for (const auto& state : *listed) {
    if (state.spec().direction() == steer::INBOUND) spis_.insert(state.spec().spi());
  }
  co_return Result<void>{};
}

asio::awaitable<Result<std::vector<steer::SaState>>> DataplanePath::List(
    std::vector<std::string> ids) {
  std::vector<steer::SaState> all;
  for (bool more = true; more;) {
    steer::Request request;
    request.mutable_list_sas()->set_limit(kPage);
    for (const auto& id : ids) request.mutable_list_sas()->add_ids(id);
    if (!all.empty()) request.mutable_list_sas()->set_after(all.back().spec().id());
    auto answer = co_await link_.Call(std::move(request));
    if (!answer) co_return tl::unexpected(answer.error());
    for (auto& state : *answer->mutable_list_sas()->mutable_sas()) all.push_back(std::move(state));
    more = answer->list_sas().more() && answer->list_sas().sas_size() > 0;
  }
  co_return all;
}

// A free slot, not just a free number (steer.proto: HelloReply.sa_capacity).
Result<Spi> DataplanePath::ChooseSpi() {
  const uint32_t capacity = link_.ready() ? link_.hello()->sa_capacity() : 0;
  if (capacity == 0) return Fail(ErrorKind::kUnavailable, WhyNotReady());
  std::set<uint32_t> slots;
  for (const uint32_t spi : spis_) slots.insert(spi % capacity);
  if (slots.size() >= capacity) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("all {} security associations of the dataplane are in use", capacity));
  }
  std::random_device random;  // the kernel's
  std::uniform_int_distribution<uint32_t> any(kLeastSpi, UINT32_MAX);
  uint32_t spi = any(random);
  while (slots.contains(spi % capacity)) spi = spi == UINT32_MAX ? kLeastSpi : spi + 1;
  return Spi{spi};
}

asio::awaitable<Result<void>> DataplanePath::Install(SaPair pair) {
  steer::Request request;
  request.mutable_add_sas()->set_atomic(true);
  *request.mutable_add_sas()->add_sas() = SpecOf(pair, steer::INBOUND);
  *request.mutable_add_sas()->add_sas() = SpecOf(pair, steer::OUTBOUND);
  const auto answer = co_await link_.Call(std::move(request));  // which wipes the keys
  if (!answer) {
    link_.Reconnect("no answer to a session's keys: nobody knows whether they are in force");
    co_return tl::unexpected(answer.error());
  }
  for (const auto& result : answer->add_sas().results()) {
    if (result.has_failure()) co_return tl::unexpected(steer::ToError(result.failure()));
  }
  spis_.insert(Value(pair.to_peer));
  co_return Result<void>{};
}

asio::awaitable<Result<void>> DataplanePath::Remove(std::vector<std::string> names) {
  if (names.empty()) co_return Result<void>{};
  std::vector<std::string> inbound;
  inbound.reserve(names.size());
  for (const auto& name : names) inbound.push_back(InboundOf(name));
  const auto listed = co_await List(std::move(inbound));
  steer::Request request;
  for (const auto& name : names) {
    request.mutable_remove_sas()->add_ids(OutboundOf(name));
    request.mutable_remove_sas()->add_ids(InboundOf(name));
  }
  const auto answer = co_await link_.Call(std::move(request));
  if (!answer) co_return tl::unexpected(answer.error());
  if (listed) {
    for (const auto& state : *listed) spis_.erase(state.spec().spi());
  }
  co_return Result<void>{};
}

asio::awaitable<Result<std::vector<std::string>>> DataplanePath::Names() {
  std::vector<std::string> all;
  const auto listed = co_await List(all);
  if (!listed) co_return tl::unexpected(listed.error());
  for (const auto& state : *listed) {
    const std::string& id = state.spec().id();
    const bool inbound = state.spec().direction() == steer::INBOUND;
    if (inbound && id.ends_with("-in")) all.push_back(id.substr(0, id.size() - 3));
  }
  co_return all;
}

asio::awaitable<Result<Traffic>> DataplanePath::Read(std::string name) {
  std::vector<std::string> ids{InboundOf(name), OutboundOf(name)};
  const auto listed = co_await List(std::move(ids));
  if (!listed) co_return tl::unexpected(listed.error());
  constexpr size_t kBoth = 2;
  if (listed->size() != kBoth) {
    co_return Fail(ErrorKind::kNotFound, "the dataplane no longer has the session's keys");
  }
  Traffic traffic;
  for (const auto& state : *listed) {
    const bool inbound = state.spec().direction() == steer::INBOUND;
    (inbound ? traffic.received : traffic.sent) = state.packets();
  }
  co_return traffic;
}

}  // namespace portcullis::peer
