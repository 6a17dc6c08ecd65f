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

Result<void> State::Apply(PolicyUpdate update) {
  auto next = Compile(update);
  const Snapshot* old = snapshot();
  if (!next) {
    // Nothing half applied: peers that only the refused policy knew go again.
    ForgetPeersNotIn(old);
    return tl::unexpected(next.error());
  }

  // SAs of peers that go are gone before the policy that they would be judged by.
  std::vector<std::string> orphans;
  for (const auto& [id, sa] : by_id_) {
    if (!IsIn(next->get(), *sa->peer)) orphans.push_back(id);
  }
  RemoveSas(orphans);

  const Snapshot* published = next->release();
  snapshot_.store(published, std::memory_order_release);
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
  rcu_.Synchronize();
  delete old;
}

void State::Publish(std::unique_ptr<const HostAddresses> hosts) {
  const HostAddresses* old = hosts_.exchange(hosts.release(), std::memory_order_acq_rel);
  rcu_.Synchronize();
  delete old;
}

// ---- security associations

Result<SaRecord*> State::MakeRecord(const Fingerprint& print, const SaSpec& spec,
                                    uint64_t boot_ns) {
  const auto make = [&] {
    return spec.mode == SaMode::fresh
               ? file_.Create(print, spec.spi, spec.direction, spec.replay_window, boot_ns)
               : file_.Resume(print, spec.spi, spec.direction, spec.replay_window);
  };
  auto record = make();
  // Records of an earlier process that nobody resumed hold their places until they are needed.
  const bool full = !record && record.error().kind == ErrorKind::kExhausted;
  return full && file_.ReleaseUnclaimed() > 0 ? make() : std::move(record);
}

Result<Sa*> State::Make(SaSpec& spec) {
  const auto conflict = [](std::string message) {
    return Fail(ErrorKind::kConflict, std::move(message));
  };
  if (by_id_.contains(spec.id)) return conflict("an SA \"" + spec.id + "\" is there already");
  const auto peer = peers_.find(spec.peer);
  if (peer == peers_.end()) {
    return Fail(ErrorKind::kNotFound, "no peer \"" + spec.peer + "\" in the policy in force");
  }
  if (spec.lab && !config_.lab) {
    return Fail(ErrorKind::kForbidden,
                "manual keys are for laboratories: this dataplane is not "
                "configured with lab: true");
  }
  if (by_id_.size() >= config_.sa_capacity) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("all {} SAs of sas.capacity are in use", config_.sa_capacity));
  }
  if (spec.direction == Direction::inbound) {
    const Sa* there = slots_[Value(spec.spi) & slot_mask_].load();
    // The SA that this one replaces may leave its slot in the same step, but not its SPI: packets
    // under the old key would be judged by the new one.
    if (there != nullptr) {
      return conflict(fmt::format(
          "SPI {:#010x} falls into the slot of SPI {:#010x} (SA \"{}\"): "
          "choose one that differs in the low {} bits",
          Value(spec.spi), Value(there->spi), there->spec.id, __builtin_popcount(slot_mask_)));
    }
  }

  auto* key = static_cast<KeySchedule*>(rte_malloc("key", sizeof(KeySchedule), 64));
  void* place = rte_malloc("sa", sizeof(Sa), 64);
  if (key == nullptr || place == nullptr) {
    rte_free(key);
    rte_free(place);
    return Fail(ErrorKind::kExhausted,
                "no memory for another SA: raise memory.megabytes or use hugepages");
  }
  Sa* sa = new (place) Sa();
  sa->key = key;
  const auto refuse = [&](Error error) {
    Unmake(sa);
    return tl::unexpected(std::move(error));
  };
  if (auto expanded = engine_->Expand(spec.algorithm, spec.key.bytes(), *key); !expanded) {
    return refuse(expanded.error());
  }
  sa->fingerprint = KeyFingerprint(Info(spec.algorithm).name, spec.key.bytes());
  const auto print = ParseFingerprint(sa->fingerprint);
  if (!print) return refuse(print.error());
  sa->added_boot_ns = BootNs();
  auto record = MakeRecord(*print, spec, sa->added_boot_ns);
  if (!record) return refuse(record.error());

  sa->record = *record;
  sa->spi = spec.spi;
  sa->algorithm = spec.algorithm;
  sa->direction = spec.direction;
  sa->esn = spec.esn;
  sa->peer = peer->second.get();
  sa->worker = sa->peer->worker;
  sa->tunnel = spec.tunnel;
  sa->hard = spec.hard;
  sa->selectors = spec.selectors;
  sa->policer = Policer(spec.rate, config_.tsc_hz);
  uint64_t contracted = spec.rate.packets_per_second;
  if (contracted == 0) contracted = snapshot()->PolicyOf(*sa->peer).rate.packets_per_second;
  new (&sa->auth) AuthBudget(config_.auth, contracted, config_.tsc_hz);
  sa->endpoint.Set(spec.tunnel.remote, spec.tunnel.udp_encap ? spec.tunnel.remote_port : 0);
  sa->spec = std::move(spec);
  return sa;
}

void State::Unmake(Sa* sa) {
  auto* key = const_cast<KeySchedule*>(sa->key);
  Wipe({reinterpret_cast<uint8_t*>(key), sizeof(KeySchedule)});
  rte_free(key);
  sa->~Sa();
  rte_free(sa);
}

// Replaces each concerned peer's list once, however many SAs come and go. Newest first: a renewed
// SA takes over.
void State::UpdateOutbound(std::span<Sa* const> coming, std::span<Sa* const> going) {
  std::map<PeerState*, std::vector<Sa*>> lists;
  for (Sa* sa : coming) {
    if (sa->direction == Direction::outbound) lists[sa->peer].push_back(sa);
  }
  for (const Sa* sa : going) {
    if (sa->direction == Direction::outbound) lists[sa->peer];
  }
  const std::set<const Sa*> gone(going.begin(), going.end());
  for (auto& [peer, list] : lists) {
    std::ranges::reverse(list);
    std::ranges::copy_if(*peer->outbound.load(), std::back_inserter(list),
                         [&](const Sa* sa) { return !gone.contains(sa); });
    garbage_.push_back(
        peer->outbound.exchange(new std::vector<Sa*>(std::move(list)), std::memory_order_acq_rel));
  }
}

// Name and slot; outbound lists follow for all at once (UpdateOutbound).
void State::Link(Sa* sa) {
  by_id_[sa->spec.id] = sa;
  if (sa->direction == Direction::inbound) {
    slots_[Value(sa->spi) & slot_mask_].store(sa, std::memory_order_release);
  } else {
    outbound_by_spi_.emplace(Value(sa->spi), sa);
  }
}

void State::Unlink(Sa* sa) {
  by_id_.erase(sa->spec.id);
  if (sa->direction == Direction::inbound) {
    slots_[Value(sa->spi) & slot_mask_].store(nullptr, std::memory_order_release);
  } else {
    const auto [begin, end] = outbound_by_spi_.equal_range(Value(sa->spi));
    outbound_by_spi_.erase(
        std::find_if(begin, end, [&](const auto& entry) { return entry.second == sa; }));
  }
}

// Unlinked SAs: no worker finds them after the first quiescence; the second one is for packets that
// wait for a neighbour, which a worker gives up when it sees `removed` (see Waiting).
void State::Destroy(std::span<Sa* const> sas) {
  if (sas.empty()) return;
  for (Sa* sa : sas) sa->removed.store(true, std::memory_order_release);
  rcu_.Synchronize();
  rcu_.Synchronize();
  Reclaim();
  for (Sa* sa : sas) {
    sa->peer->removed += sa->counters.Read();
    file_.Release(sa->record);
    Unmake(sa);
  }
}

// Only after a quiescence.
void State::Reclaim() {
  for (const auto* list : garbage_) delete list;
  garbage_.clear();
}

std::vector<State::Added> State::AddSas(std::vector<SaSpec> specs, bool atomic) {
  std::vector<Added> results;
  std::vector<Sa*> made;
  std::vector<Sa*> replaced;
  bool refused = false;
  for (SaSpec& spec : specs) {
    const std::string id = spec.id;
    const std::string replaces = spec.replaces;
    Sa* old = nullptr;
    if (!replaces.empty()) {
      const auto found = by_id_.find(replaces);
      if (found == by_id_.end()) {
        results.push_back(
            {id, Fail(ErrorKind::kNotFound, "no SA \"" + replaces + "\" to replace")});
        refused = true;
        continue;
      }
      old = found->second;
    }
    // An SA may be replaced under its own name: the old one gives the name up first.
    if (old != nullptr && replaces == id) by_id_.erase(id);
    auto sa = Make(spec);
    if (old != nullptr && replaces == id) by_id_[id] = old;
    if (!sa) {
      results.push_back({id, tl::unexpected(sa.error())});
      refused = true;
      continue;
    }
    results.push_back({id, (*sa)->fingerprint});
    made.push_back(*sa);
    // Linked at once, so that the next in the list sees its slot and name taken. The new one is
    // there before the old one goes.
    if (old != nullptr) {
      Unlink(old);
      replaced.push_back(old);
    }
    Link(*sa);
  }
  if (refused && atomic) {
    for (Sa* sa : made) Unlink(sa);
    for (Sa* sa : replaced) Link(sa);  // their peers' lists still have them
    // The fingerprints stay known: inbound ones were in their slots for a moment.
    Destroy(made);
    for (Added& result : results) {
      if (result.fingerprint) {
        result.fingerprint = Fail(ErrorKind::kConflict,
                                  "not added: another SA of the same "
                                  "request was refused");
      }
    }
    return results;
  }
  UpdateOutbound(made, replaced);
  rcu_.Synchronize();
  Reclaim();
  Destroy(replaced);
  return results;
}

size_t State::RemoveSas(std::span<const std::string> ids) {
  std::vector<Sa*> gone;
  for (const std::string& id : ids) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) continue;
    gone.push_back(found->second);
    Unlink(found->second);
  }
  UpdateOutbound({}, gone);
  Destroy(gone);
  return gone.size();
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
  for (const auto& [id, sa] : by_id_) {
    const uint64_t age = (boot_ns - sa->record->born_boot_ns) / 1'000'000'000;
    if (sa->hard.seconds != 0 && age >= sa->hard.seconds) {
      sa->expired.store(true, std::memory_order_relaxed);
    }
    const uint16_t pmtu = sa->pmtu.load(std::memory_order_relaxed);
    if (pmtu != 0 && boot_ns >= sa->pmtu_until_boot_ns) {
      sa->pmtu.store(0, std::memory_order_relaxed);
    }
  }
}

}  // namespace portcullis
