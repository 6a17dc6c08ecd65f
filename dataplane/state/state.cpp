#include "dataplane/state/state.hpp"

#include <fmt/format.h>
#include <rte_malloc.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <new>
#include <set>

namespace portcullis {

uint64_t BootNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

State::State(const StateConfig& config, std::unique_ptr<Engine> engine, StateFile file)
    : config_(config),
      engine_(std::move(engine)),
      file_(std::move(file)),
      rcu_(config.workers),
      slot_mask_(config.sa_capacity - 1),
      slots_(std::make_unique<std::atomic<Sa*>[]>(config.sa_capacity)) {}

static bool IsIn(const Snapshot* snapshot, const PeerState& peer) {
  return snapshot != nullptr && peer.index < snapshot->peers.size() &&
         snapshot->peers[peer.index] == &peer;
}

// The records stay in the file: the next start resumes them.
State::~State() {
  for (const auto& [id, sa] : by_id_) Unmake(sa);
  for (const auto* list : garbage_) delete list;
  delete snapshot_.load();
  delete fib_.load();
  delete hosts_.load();
}

// ---- policy

// The smallest that no peer has, so that the arrays stay dense.
uint32_t State::FreePeerIndex() {
  if (free_peer_indices_.empty()) return next_peer_index_++;
  return free_peer_indices_.extract(free_peer_indices_.begin()).value();
}

void State::ForgetPeersNotIn(const Snapshot* snapshot) {
  std::erase_if(peers_, [&](const auto& entry) {
    const PeerState& peer = *entry.second;
    if (IsIn(snapshot, peer)) return false;
    free_peer_indices_.insert(peer.index);
    return true;
  });
}

Result<std::shared_ptr<const SourceTable>> State::CompileSources(const FirstLine& line) const {
  if (!config_.prefilter) return nullptr;
  const Snapshot* now = snapshot();
  if (now != nullptr && now->first_line.get() == &line) return now->sources;
  return SourceTable::Make(line, config_.tsc_hz);
}

Result<std::unique_ptr<Snapshot>> State::Compile(PolicyUpdate& update) {
  const Snapshot* now = snapshot();
  const uint64_t in_force = now == nullptr ? 0 : now->generation;
  if (update.generation <= in_force) {
    return tl::unexpected(Error{ErrorKind::kConflict, "the policy generation does not grow",
                                "generation", fmt::format("more than {}", in_force),
                                std::to_string(update.generation)});
  }
  if (!update.full && update.base_generation != in_force) {
    return tl::unexpected(Error{ErrorKind::kConflict,
                                "the change is not based on the policy in force", "base_generation",
                                std::to_string(in_force), std::to_string(update.base_generation)});
  }

  // Unchanged peers share their compiled policy with the snapshot before.
  std::map<std::string, std::shared_ptr<const PeerPolicy>> wanted;
  if (!update.full && now != nullptr) {
    for (const auto& policy : now->policies) {
      if (policy) wanted[policy->name] = policy;
    }
  }
  for (const std::string& name : update.removed_peers) wanted.erase(name);
  for (PeerPolicy& peer : update.peers) {
    const std::string name = peer.name;
    wanted[name] = std::make_shared<const PeerPolicy>(std::move(peer));
  }

  auto next = std::make_unique<Snapshot>();
  next->generation = update.generation;
  next->interfaces = std::move(update.interfaces);
  next->bypasses = std::move(update.bypasses);
  next->first_line = std::move(update.first_line);
  if (!next->first_line && !update.full && now != nullptr) next->first_line = now->first_line;
  if (!next->first_line) next->first_line = std::make_shared<const FirstLine>();
  if (auto sources = CompileSources(*next->first_line); sources) {
    next->sources = std::move(*sources);
  } else {
    return tl::unexpected(sources.error());
  }
  size_t prefixes = 0;
  for (const auto& [name, policy] : wanted) prefixes += policy->prefixes.size();
  auto map = PrefixMap::Make(prefixes);
  if (!map) return tl::unexpected(map.error());
  next->peer_by_prefix = std::move(*map);

  for (const auto& [name, policy] : wanted) {
    auto& peer = peers_[name];
    if (!peer) {
      const uint32_t index = FreePeerIndex();
      peer = std::make_unique<PeerState>();
      peer->name = name;
      peer->index = index;
      peer->worker = static_cast<uint16_t>(index % config_.workers);
    }
    const size_t size = std::max<size_t>(next->peers.size(), peer->index + 1);
    next->peers.resize(size);
    next->policies.resize(size);
    next->peers[peer->index] = peer.get();
    next->policies[peer->index] = policy;
    // One peer may name a prefix twice.
    for (const Prefix& prefix : std::set(policy->prefixes.begin(), policy->prefixes.end())) {
      const auto inserted = next->peer_by_prefix.Insert(prefix, peer->index);
      if (!inserted) return tl::unexpected(inserted.error());
      if (*inserted) continue;
      return tl::unexpected(Error{ErrorKind::kConflict,
                                  "two peers have the same prefix " + prefix.Text(),
                                  "peer " + name,
                                  "prefixes that belong to one peer each",
                                  {}});
    }
  }
  return next;
}

Result<void> State::Apply(PolicyUpdate update, const Agree& agree) {
  auto next = Compile(update);
  const Snapshot* old = snapshot();
  Result<void> agreed;
  if (next && agree) agreed = agree(**next);
  if (!next || !agreed) {
    // Nothing half applied: peers that only the refused policy knew go again.
    ForgetPeersNotIn(old);
    return tl::unexpected(next ? agreed.error() : next.error());
  }

  // SAs of peers that go are gone before the policy that they would be judged by.
  std::vector<std::string> orphans;
  for (const auto& [id, sa] : by_id_) {
    if (!IsIn(next->get(), *sa->peer)) orphans.push_back(id);
  }
  RemoveSas(orphans);

  const Snapshot* published = next->release();
  snapshot_.store(published, std::memory_order_release);
  ChangeView();
  rcu_.Synchronize();
  delete old;
  ForgetPeersNotIn(published);
  CheckDeadlines(BootNs());
  return {};
}

Result<void> State::Revoke(const std::string& peer, bool revoked) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) {
    return Fail(ErrorKind::kNotFound, "no peer \"" + peer + "\" in the policy in force");
  }
  found->second->revoked.store(revoked, std::memory_order_relaxed);
  rcu_.Synchronize();
  return {};
}

void State::Publish(std::unique_ptr<const Fib> fib) {
  const Fib* old = fib_.exchange(fib.release(), std::memory_order_acq_rel);
  ChangeView();
  rcu_.Synchronize();
  delete old;
}

void State::Publish(std::unique_ptr<const HostAddresses> hosts) {
  const HostAddresses* old = hosts_.exchange(hosts.release(), std::memory_order_acq_rel);
  rcu_.Synchronize();
  delete old;
}

// After what is published, before the quiescence that its predecessor waits for: a round that
// begins later sees the new view, and no conclusion drawn from what is about to go.
void State::ChangeView() {
  const uint32_t next = view_.load(std::memory_order_relaxed) + 1;
  view_.store(next == 0 ? 1 : next, std::memory_order_release);
}

// ---- readings

std::map<std::string, CounterValues> State::PeerCounters() const {
  std::map<std::string, CounterValues> sums;
  for (const auto& [name, peer] : peers_) sums[name] = peer->removed;
  for (const auto& [id, sa] : by_id_) sums[sa->peer->name] += sa->counters.Read();
  return sums;
}

Sa* State::FindOutbound(const Address& remote, Spi spi) const {
  const auto [begin, end] = outbound_by_spi_.equal_range(Value(spi));
  const auto found = std::find_if(
      begin, end, [&](const auto& entry) { return entry.second->endpoint.address() == remote; });
  return found == end ? nullptr : found->second;
}

void State::CheckDeadlines(uint64_t boot_ns) {
  const Snapshot* now = snapshot();
  if (now == nullptr) return;
  for (PeerState* peer : now->peers) {
    if (peer == nullptr) continue;
    const uint64_t deadline = now->PolicyOf(*peer).deadline_boot_ns;
    peer->past_deadline.store(deadline != 0 && boot_ns >= deadline, std::memory_order_relaxed);
  }
  std::vector<Sa*> ending;
  for (const auto& [id, sa] : by_id_) {
    if (sa->registered && boot_ns >= sa->registered_until_boot_ns) ending.push_back(sa);
    if (sa->TimeIsUp(boot_ns)) sa->expired.store(true, std::memory_order_relaxed);
    const uint16_t pmtu = sa->pmtu.load(std::memory_order_relaxed);
    if (pmtu != 0 && boot_ns >= sa->pmtu_until_boot_ns) {
      sa->pmtu.store(0, std::memory_order_relaxed);
    }
  }
  EndRegistration(ending);
}

}  // namespace portcullis
