// Security associations: adding, replacing and removing them while workers use them.
//
// A request is checked as a whole before any of it is visible. What it asks for is made beside what
// is in force, records last, since a record once made is a promise; then it is linked, and what it
// replaces goes once every worker has passed a quiescent point.
#include <fmt/format.h>
#include <rte_malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <set>

#include "dataplane/esp/header.hpp"
#include "dataplane/state/state.hpp"

namespace portcullis {
namespace {

tl::unexpected<Error> Conflict(std::string message) {
  return Fail(ErrorKind::kConflict, std::move(message));
}

}  // namespace

// What a request was granted so far.
struct State::Plan {
  struct Entry {
    size_t result;  // its place in the answer
    Sa* sa;
    Sa* replaced;
  };
  std::vector<Entry> entries;
  std::set<std::string> ids;
  std::set<std::string> fingerprints;
  std::map<uint32_t, const Sa*> slots;
  std::set<const Sa*> replaced;
};

Result<Sa*> State::FindReplaced(const SaSpec& spec, const Plan& plan) const {
  if (spec.replaces.empty()) return nullptr;
  const auto found = by_id_.find(spec.replaces);
  if (found == by_id_.end()) {
    return Fail(ErrorKind::kNotFound, "no SA \"" + spec.replaces + "\" to replace");
  }
  if (plan.replaced.contains(found->second)) {
    return Conflict("SA \"" + spec.replaces + "\" is replaced by another SA of the same request");
  }
  return found->second;
}

// A slot may pass from an SA to the one that replaces it, an SPI may not: what is still under way
// was protected with the old key.
Result<void> State::CheckSlot(const SaSpec& spec, const Sa* replaced, const Plan& plan) const {
  if (spec.direction != Direction::inbound) return {};
  const uint32_t slot = Value(spec.spi) & slot_mask_;
  const Sa* there = slots_[slot].load();
  if (there != nullptr && there == replaced && there->spi == spec.spi) {
    return Conflict(
        fmt::format("SA \"{}\" has SPI {:#010x}, and packets that are under way under it "
                    "would be lost: give its replacement an SPI of its own",
                    there->spec.id, Value(spec.spi)));
  }
  if (there == replaced) there = nullptr;
  if (const auto planned = plan.slots.find(slot); planned != plan.slots.end()) {
    there = planned->second;
  }
  if (there == nullptr) return {};
  return Conflict(fmt::format(
      "SPI {:#010x} falls into the slot of SPI {:#010x} (SA \"{}\"): choose "
      "one that differs in the low {} bits",
      Value(spec.spi), Value(there->spi), there->spec.id, __builtin_popcount(slot_mask_)));
}

Result<void> State::CheckSpec(const SaSpec& spec, const Sa* replaced, const Plan& plan) const {
  const auto named = by_id_.find(spec.id);
  if ((named != by_id_.end() && named->second != replaced) || plan.ids.contains(spec.id)) {
    return Conflict("an SA \"" + spec.id + "\" is there already");
  }
  if (!peers_.contains(spec.peer)) {
    return Fail(ErrorKind::kNotFound, "no peer \"" + spec.peer + "\" in the policy in force");
  }
  if (spec.lab && !config_.lab) {
    return Fail(ErrorKind::kForbidden,
                "manual keys are for laboratories: this dataplane is not "
                "configured with lab: true");
  }
  if (by_id_.size() + plan.entries.size() >= config_.sa_capacity) {
    return Fail(ErrorKind::kExhausted,
                fmt::format("all {} SAs of sas.capacity are in use", config_.sa_capacity));
  }
  return CheckSlot(spec, replaced, plan);
}

// Everything but the record.
Result<Sa*> State::Make(SaSpec& spec, const Plan& plan) {
  auto* place = static_cast<KeyedSa*>(rte_malloc("sa", sizeof(KeyedSa), alignof(KeyedSa)));
  if (place == nullptr) {
    return Fail(ErrorKind::kExhausted,
                "no memory for another SA: raise memory.megabytes or use hugepages");
  }
  KeySchedule* key = &place->key;
  Sa* sa = new (&place->sa) Sa();
  sa->key = key;
  const auto refuse = [&](tl::unexpected<Error> error) -> Result<Sa*> {
    Unmake(sa);
    return error;
  };
  // Without hugepages this memory could be swapped out.
  if (mlock(key, sizeof(KeySchedule)) != 0) {
    return refuse(Fail(ErrorKind::kExhausted,
                       "a key cannot be locked in memory: raise RLIMIT_MEMLOCK (LimitMEMLOCK=)"));
  }
  if (auto expanded = engine_->Expand(spec.algorithm, spec.key.bytes(), *key); !expanded) {
    return refuse(tl::unexpected(expanded.error()));
  }
  sa->fingerprint = KeyFingerprint(Info(spec.algorithm).name, spec.key.bytes());
  if (plan.fingerprints.contains(sa->fingerprint)) {
    return refuse(Conflict("another SA of the same request has this key"));
  }
  sa->spi = spec.spi;
  sa->algorithm = spec.algorithm;
  sa->payload_offset = static_cast<uint8_t>(EspPayloadOffset(spec.algorithm));
  sa->icv_bytes = Info(spec.algorithm).icv_bytes;
  sa->pad_mask = EspPadMask(spec.algorithm);
  sa->least_length = static_cast<uint8_t>(EspMinLength(spec.algorithm));
  sa->direction = spec.direction;
  sa->esn = spec.esn;
  sa->peer = peers_.at(spec.peer).get();
  sa->worker = sa->peer->worker;
  sa->tunnel = spec.tunnel;
  sa->local = spec.tunnel.local;
  sa->serial = ++last_serial_;
  sa->hard_packets = spec.hard.packets;
  sa->hard_bytes = spec.hard.bytes;
  sa->selectors = spec.selectors;
  sa->registered_selectors = spec.registered_selectors;
  sa->policer = Policer(spec.rate, config_.tsc_hz);
  uint64_t contracted = spec.rate.packets_per_second;
  if (contracted == 0) contracted = snapshot()->PolicyOf(*sa->peer).rate.packets_per_second;
  new (&sa->auth) AuthBudget(config_.auth, contracted, config_.tsc_hz);
  sa->endpoint.Set(spec.tunnel.remote, spec.tunnel.udp_encap ? spec.tunnel.remote_port : 0);
  sa->spec = std::move(spec);
  return sa;
}

Result<void> State::MakeRecord(Sa* sa) {
  const SaSpec& spec = sa->spec;
  const auto print = ParseFingerprint(sa->fingerprint);
  if (!print) return tl::unexpected(print.error());
  sa->added_boot_ns = BootNs();
  sa->registered = spec.registered_seconds != 0;
  sa->registered_until_boot_ns = sa->added_boot_ns + spec.registered_seconds * kNsPerSecond;
  const auto make = [&] {
    return spec.mode == SaMode::fresh
               ? file_.Create(*print, spec.spi, spec.direction, spec.replay_window,
                              sa->added_boot_ns)
               : file_.Resume(*print, spec.spi, spec.direction, spec.replay_window);
  };
  auto record = make();
  // Records of an earlier process that nobody resumed hold their places until they are needed.
  const bool full = !record && record.error().kind == ErrorKind::kExhausted;
  if (full && file_.ReleaseUnclaimed() > 0) record = make();
  if (!record) return tl::unexpected(record.error());
  sa->record = *record;
  if (spec.direction == Direction::inbound && spec.replay_window != 0) {
    sa->words = sa->record->words();
    sa->word_mask = sa->record->word_mask;
    sa->oldest = OldestOf(*sa->record);
  }
  // One that is resumed may have ended while nobody was there.
  sa->expired = sa->TimeIsUp(sa->added_boot_ns);
  return {};
}

void State::Unmake(Sa* sa) {
  auto* key = const_cast<KeySchedule*>(sa->key);
  Wipe({reinterpret_cast<uint8_t*>(key), sizeof(KeySchedule)});
  sa->~Sa();
  rte_free(sa);  // and the key: see KeyedSa
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
    peer->outbound_version.fetch_add(1, std::memory_order_release);
  }
}

// Name and slot; outbound lists follow for all at once (UpdateOutbound).
void State::Link(Sa* sa) {
  by_id_[sa->spec.id] = sa;
  if (sa->direction == Direction::inbound) {
    slots_[Value(sa->spi) & slot_mask_].store(sa, std::memory_order_release);
    inbound_watch_(*sa, true);
  } else {
    outbound_by_spi_.emplace(Value(sa->spi), sa);
  }
}

// Name and slot may be another's already, that has replaced this one.
void State::Unlink(Sa* sa) {
  if (const auto named = by_id_.find(sa->spec.id); named->second == sa) by_id_.erase(named);
  if (sa->direction == Direction::inbound) {
    auto& slot = slots_[Value(sa->spi) & slot_mask_];
    if (slot.load() == sa) slot.store(nullptr, std::memory_order_release);
    inbound_watch_(*sa, false);
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

// No worker has seen them.
void State::TakeBack(const Plan& plan) {
  for (auto entry = plan.entries.rbegin(); entry != plan.entries.rend(); ++entry) {
    if (entry->sa->record != nullptr) {
      file_.TakeBack(entry->sa->record, entry->sa->spec.mode == SaMode::fresh);
    }
    Unmake(entry->sa);
  }
}

std::vector<State::Added> State::AddSas(std::vector<SaSpec> specs, bool atomic) {
  std::vector<Added> results;
  Plan plan;
  for (SaSpec& spec : specs) {
    results.push_back({spec.id, {}});
    auto& answer = results.back().fingerprint;
    const auto replaced = FindReplaced(spec, plan);
    if (!replaced) {
      answer = tl::unexpected(replaced.error());
      continue;
    }
    if (const auto checked = CheckSpec(spec, *replaced, plan); !checked) {
      answer = tl::unexpected(checked.error());
      continue;
    }
    const auto made = Make(spec, plan);
    if (!made) {
      answer = tl::unexpected(made.error());
      continue;
    }
    Sa* sa = *made;
    answer = sa->fingerprint;
    plan.entries.push_back({results.size() - 1, sa, *replaced});
    plan.ids.insert(sa->spec.id);
    plan.fingerprints.insert(sa->fingerprint);
    if (sa->direction == Direction::inbound) plan.slots[Value(sa->spi) & slot_mask_] = sa;
    if (*replaced != nullptr) plan.replaced.insert(*replaced);
  }

  bool refused = plan.entries.size() < specs.size();
  if (!atomic || !refused) {
    std::erase_if(plan.entries, [&](const Plan::Entry& entry) {
      if (atomic && refused) return false;
      const auto recorded = MakeRecord(entry.sa);
      if (recorded) return false;
      refused = true;
      results[entry.result].fingerprint = tl::unexpected(recorded.error());
      Unmake(entry.sa);
      return true;
    });
  }
  if (atomic && refused) {
    TakeBack(plan);
    for (Added& result : results) {
      if (!result.fingerprint) continue;
      result.fingerprint = Conflict("not added: another SA of the same request was refused");
    }
    return results;
  }

  // The new ones are there before the old ones go.
  std::vector<Sa*> coming;
  std::vector<Sa*> going;
  for (const Plan::Entry& entry : plan.entries) {
    coming.push_back(entry.sa);
    Link(entry.sa);
    if (entry.replaced == nullptr) continue;
    going.push_back(entry.replaced);
    Unlink(entry.replaced);
  }
  UpdateOutbound(coming, going);
  rcu_.Synchronize();
  Reclaim();
  Destroy(going);
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

void State::Register(std::span<const std::string> ids, uint64_t seconds, uint64_t boot_ns) {
  std::vector<Sa*> ending;
  for (const std::string& id : ids) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) continue;
    Sa* sa = found->second;
    if (seconds == 0) {
      ending.push_back(sa);
    } else {
      sa->registered_until_boot_ns = boot_ns + seconds * kNsPerSecond;
      sa->registered.store(true, std::memory_order_release);
    }
  }
  EndRegistration(ending);
}

// What was judged while it was registered must not be remembered as judged after: a worker reads
// the outbound version before it judges, and the serial only when it remembers; so that one changes
// when no worker is at it any more.
void State::EndRegistration(std::span<Sa* const> of) {
  if (of.empty()) return;
  for (Sa* sa : of) {
    sa->registered.store(false, std::memory_order_release);
    if (sa->direction == Direction::outbound) {
      sa->peer->outbound_version.fetch_add(1, std::memory_order_release);
    }
  }
  rcu_.Synchronize();
  for (Sa* sa : of) sa->serial = ++last_serial_;
}

}  // namespace portcullis
