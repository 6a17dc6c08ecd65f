// What is denied, whatever the policy says: stored first, so that it outlives whatever happens
// next, then put in force. A peer is shut out by a flag in the dataplane, at once and without a
// compile; a policy by a snapshot without its rules. Certificates, tokens, keys and issuers are the
// sessions' affair: the dataplane knows none.
#include <algorithm>

#include "control/core/gate.hpp"
#include "control/model/compile.hpp"
#include "control/model/difference.hpp"

namespace portcullis {

using Kind = model::Revocable::Kind;

namespace {

bool IsThere(const model::Document& document, const model::Revocable& what) {
  const auto named = [&](const auto& all) {
    return std::ranges::any_of(all, [&](const auto& one) { return one.name == what.id; });
  };
  if (what.kind == Kind::peer) return named(document.peers);
  if (what.kind == Kind::policy) return named(document.policies);
  return true;  // nobody lists all that was ever issued
}

}  // namespace

/// The document without the policies that are revoked.
model::Document Gate::Admitted(model::Document document) const {
  std::erase_if(document.policies, [&](const model::Policy& policy) {
    return denials_.Has({Kind::policy, "", policy.name});
  });
  return document;
}

boost::asio::awaitable<Result<void>> Gate::PushRevocation(std::string peer, bool revoked) {
  steer::Request request;
  request.mutable_revoke()->set_peer(std::move(peer));
  request.mutable_revoke()->set_revoked(revoked);
  const auto answer = co_await link_.Call(std::move(request));
  if (answer) co_return Result<void>{};
  link_.Reconnect("a revocation was not confirmed: " + answer.error().Text());
  co_return tl::unexpected(answer.error());
}

boost::asio::awaitable<Result<void>> Gate::PushRevocations() {
  for (std::string& peer : denials_.Peers()) {
    if (!IsThere(document_, {Kind::peer, "", peer})) continue;
    if (auto pushed = co_await PushRevocation(std::move(peer), true); !pushed) co_return pushed;
  }
  co_return Result<void>{};
}

// Whether the dataplane has confirmed what it needs to know of it. While it is away it follows on
// the next connection.
boost::asio::awaitable<Result<bool>> Gate::RevocationInForce(model::Revocable what, bool revoked) {
  if (what.kind == Kind::policy) {
    // Another generation also while the dataplane is away, or it would be taken for one that knows.
    const uint64_t next = NextGeneration();
    if (auto stored = store_.WritePolicy({next, document_}); !stored) {
      co_return tl::unexpected(stored.error());
    }
    generation_ = next;
    in_sync_ = false;
    if (!link_.ready()) co_return false;
    auto pushed = co_await Push(model::CompileFull(Admitted(document_), next));
    if (pushed) pushed = co_await PushRevocations();
    in_sync_ = pushed.has_value();
    sync_error_ = pushed ? "" : pushed.error().Text();
    if (in_sync_) NoteInForce();
    co_return in_sync_;
  }
  if (!link_.ready()) co_return false;
  if (what.kind != Kind::peer || !IsThere(document_, what)) co_return true;
  const auto pushed = co_await PushRevocation(std::move(what.id), revoked);
  co_return pushed.has_value();
}

Gate::Changed Gate::Revoke(model::Denial denial, Wish wish) {
  const auto held = co_await turn_.Take();
  const model::Revocable what = denial.what;
  if (!IsThere(document_, what)) {
    co_return Fail(ErrorKind::kNotFound, fmt::format("there is no {}", Text(what)));
  }
  Change change{
      model::OneDifference("added", "revocation", what.id), {}, generation_, InSync(), {}};
  if (denials_.Has(what)) change.difference = model::DifferenceOf(document_, document_);  // nothing
  if (wish.dry_run) co_return change;

  denial.who = wish.operator_name;
  denial.since = std::chrono::system_clock::now();
  if (auto stored = store_.Deny(denial); !stored) co_return tl::unexpected(stored.error());
  NextEpoch();
  denials_.Deny(std::move(denial), epoch_);
  DropRegistrations();
  const auto in_force = co_await RevocationInForce(what, true);
  if (!in_force) co_return tl::unexpected(in_force.error());
  change.in_force = *in_force;
  change.generation = generation_;
  events_.Tell("operator",
               fmt::format("{} is revoked{}", Text(what),
                           change.in_force ? "" : "; follows when the dataplane is back"),
               wish.operator_name, what.kind == Kind::peer ? what.id : "");
  co_return change;
}

Gate::Changed Gate::Readmit(model::Revocable what, Wish wish) {
  const auto held = co_await turn_.Take();
  if (auto base = IsStillTheBase(wish); !base) co_return tl::unexpected(base.error());
  const bool denied = denials_.Has(what);
  if (!denied && !IsThere(document_, what)) {
    co_return Fail(ErrorKind::kNotFound, fmt::format("there is no {}", Text(what)));
  }
  Change change{
      model::OneDifference("removed", "revocation", what.id), {}, generation_, InSync(), {}};
  if (!denied) change.difference = model::DifferenceOf(document_, document_);  // nothing
  change.cover = model::CoverOf(document_.approval, change.difference);
  change.held = change.cover && !wish.dry_run && !wish.approved_on;
  if (wish.dry_run || change.held || !denied) co_return change;

  if (auto stored = store_.Admit(what); !stored) co_return tl::unexpected(stored.error());
  NextEpoch();
  denials_.Admit(what);
  const auto in_force = co_await RevocationInForce(what, false);
  if (!in_force) co_return tl::unexpected(in_force.error());
  change.in_force = *in_force;
  change.generation = generation_;
  events_.Tell("operator",
               fmt::format("{} is admitted again{}", Text(what),
                           change.in_force ? "" : "; follows when the dataplane is back"),
               wish.operator_name, what.kind == Kind::peer ? what.id : "");
  co_return change;
}

}  // namespace portcullis
