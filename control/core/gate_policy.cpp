// Changes of the policy: checked as a whole, accepted by the dataplane, then stored. While the
// dataplane is away a change is stored and follows when it is back.
#include <algorithm>

#include "control/core/gate.hpp"
#include "control/model/compile.hpp"
#include "control/model/difference.hpp"
#include "control/model/json.hpp"
#include "control/model/validate.hpp"

namespace portcullis {

Gate::Gate(boost::asio::any_io_executor executor, bool lab, Store store, Events& events,
           DataplaneLink& link)
    : lab_(lab),
      store_(std::move(store)),
      events_(events),
      link_(link),
      turn_(std::move(executor)) {}

Result<void> Gate::Load(const std::string& boot_id) {
  auto stored = store_.ReadPolicy();
  if (!stored) return tl::unexpected(stored.error());
  auto warnings = model::Validate(stored->document, lab_);
  if (!warnings) {
    Error error = warnings.error();
    error.message = "the stored policy is not admitted by this configuration: " + error.message;
    return tl::unexpected(error);
  }
  auto denied = store_.ReadDenied();
  if (!denied) return tl::unexpected(denied.error());
  auto time = store_.ReadTimeGuard();
  if (!time) return tl::unexpected(time.error());
  time_guard_ = TimeGuard({}, *time, boot_id);
  document_ = std::move(stored->document);
  generation_ = stored->generation;
  policy_warnings_ = std::move(*warnings);
  denials_.Replace(std::move(*denied));
  auto registrations = store_.ReadRegistrations();
  if (!registrations) return tl::unexpected(registrations.error());
  registrations_ = std::move(*registrations);
  DropRegistrations();  // what was changed just before the end
  return {};
}

std::vector<model::Warning> Gate::Warnings() const {
  std::vector<model::Warning> all = policy_warnings_;
  // One per kind of warning, not per association: there may be 100,000.
  std::map<std::string, std::pair<std::string, size_t>> of_sas;  // text -> first id, how many
  for (const auto& [id, sa] : sas_) {
    for (const auto& warning : model::WarningsOf(sa.spec)) {
      ++of_sas.try_emplace(warning.text, id, 0).first->second.second;
    }
  }
  for (const auto& [text, who] : of_sas) {
    const auto& [first, count] = who;
    all.push_back(
        {"sa", first, count == 1 ? text : fmt::format("{} (and {} more)", text, count - 1)});
  }
  return all;
}

uint64_t Gate::NextGeneration() const {
  return std::max(generation_, dataplane_generation_) + 1;
}

void Gate::NextEpoch() {
  ++epoch_;
  if (wake_) wake_();
}

boost::asio::awaitable<Result<void>> Gate::Push(steer::ApplySnapshot snapshot) {
  const uint64_t generation = snapshot.generation();
  steer::Request request;
  *request.mutable_apply_snapshot() = std::move(snapshot);
  const auto answer = co_await link_.Call(std::move(request));
  if (!answer) {
    if (answer.error().kind == ErrorKind::kUnavailable) {
      link_.Reconnect("no answer to a policy: nobody knows which one is in force");
    }
    co_return tl::unexpected(answer.error());
  }
  dataplane_generation_ = generation;
  co_return Result<void>{};
}

// Remembers who has what, so that after a restart of either side the same policy is recognised. If
// this fails the next connection pushes once more than needed; so it is no error.
void Gate::NoteInForce() {
  static_cast<void>(store_.WriteInForce({incarnation_, generation_}));
}

// An SA without its peer would count for nobody and be judged by no rule.
Result<void> Gate::SasKeepTheirPeers(const model::Document& wanted) const {
  std::set<std::string> peers;
  for (const auto& peer : wanted.peers) peers.insert(peer.name);
  for (const auto& [id, sa] : sas_) {
    if (peers.contains(sa.spec.peer())) continue;
    return tl::unexpected(
        Error{ErrorKind::kConflict,
              fmt::format("peer '{}' still has security associations", sa.spec.peer()),
              {},
              "a peer without security associations",
              fmt::format("security association '{}'", id)});
  }
  return {};
}

// Whoever agreed has seen what the change does to one policy; to another it may do something else.
Result<void> Gate::IsStillTheBase(const Wish& wish) const {
  if (!wish.approved_on || *wish.approved_on == generation_) return {};
  return tl::unexpected(Error{ErrorKind::kConflict,
                              "the policy has changed since this was asked for: ask anew",
                              {},
                              fmt::format("generation {}", *wish.approved_on),
                              fmt::format("generation {}", generation_)});
}

Gate::Changed Gate::Apply(Edit edit, Wish wish) {
  const auto held = co_await turn_.Take();
  if (auto base = IsStillTheBase(wish); !base) co_return tl::unexpected(base.error());
  auto wanted = edit(document_);
  if (!wanted) co_return tl::unexpected(wanted.error());
  auto warnings = model::Validate(*wanted, lab_);
  if (!warnings) co_return tl::unexpected(warnings.error());
  if (auto kept = SasKeepTheirPeers(*wanted); !kept) co_return tl::unexpected(kept.error());
  model::SortByName(*wanted);

  Change change{model::DifferenceOf(document_, *wanted), *warnings, generation_, InSync(), {}};
  change.cover = model::CoverOf(document_.approval, change.difference);
  change.held = change.cover && !wish.dry_run && !wish.approved_on;
  if (wish.dry_run || change.held || model::IsEmpty(change.difference)) co_return change;

  const uint64_t next = NextGeneration();
  const bool pushes = link_.ready();
  if (pushes) {
    // Not as one expression: GCC 12 destroys a conditional temporary of a co_await twice.
    steer::ApplySnapshot snapshot;
    if (in_sync_) {
      snapshot = model::CompileChange(Admitted(document_), generation_, Admitted(*wanted), next);
    } else {
      snapshot = model::CompileFull(Admitted(*wanted), next);
    }
    const auto pushed = co_await Push(std::move(snapshot));
    if (!pushed) {
      events_.Tell("policy_refused",
                   fmt::format("generation {} is not in force, {} goes on: {}", next, generation_,
                               pushed.error().Text()),
                   wish.operator_name);
      co_return tl::unexpected(pushed.error());
    }
  }
  const auto stored = store_.WritePolicy({next, *wanted});
  if (!stored) {
    // What a restart would not find must not be in force: the old policy comes back.
    in_sync_ = false;
    sync_error_ = stored.error().Text();
    if (pushes) {
      const auto restored = co_await Push(model::CompileFull(Admitted(document_), next + 1));
      if (!restored) sync_error_ += "; and the old policy: " + restored.error().Text();
    }
    events_.Tell("policy_refused", sync_error_, wish.operator_name);
    co_return tl::unexpected(stored.error());
  }
  document_ = std::move(*wanted);
  generation_ = next;
  NextEpoch();
  DropRegistrations();
  policy_warnings_ = std::move(*warnings);
  in_sync_ = pushes && link_.ready();
  if (in_sync_) {
    sync_error_.clear();
    NoteInForce();
    // A peer that was removed and comes back is still revoked.
    if (auto revoked = co_await PushRevocations(); !revoked) in_sync_ = false;
  }
  events_.Tell("policy_applied",
               fmt::format("generation {}: {} added, {} changed, {} removed{}", generation_,
                           change.difference["added"].size(), change.difference["changed"].size(),
                           change.difference["removed"].size(),
                           InSync() ? "" : "; stored, follows when the dataplane is back"),
               wish.operator_name);
  change.generation = generation_;
  change.in_force = InSync();
  co_return change;
}

}  // namespace portcullis
