// Agreement on each new connection, whichever side restarted, in whatever order:
//
//   same dataplane process, or control is new    its SAs are the truth: take them back, with keys
//   dataplane restarted                          push the policy, then every SA with RESUME, so
//                                                that windows and sequence numbers go on
//   both restarted                               there are no SAs, and no key is admitted again
//
// and the policy is pushed unless the store remembers that this very process has it.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

#include "control/core/gate.hpp"
#include "control/model/compile.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis {

namespace {
constexpr uint32_t kPage = 1000;
}

boost::asio::awaitable<Result<void>> Gate::Reconcile(const steer::HelloReply& hello) {
  const auto held = co_await turn_.Take();
  in_sync_ = false;
  dataplane_generation_ = hello.generation();
  const auto had = store_.ReadInForce();
  if (!had) co_return tl::unexpected(had.error());

  const bool restarted = !incarnation_.empty() && incarnation_ != hello.incarnation();
  if (!restarted) {
    if (auto r = co_await TakeBackSas(); !r) co_return r;
  }
  const bool has_it = hello.generation() == generation_ &&
                      (generation_ == 0 ||
                       (had->incarnation == hello.incarnation() && had->generation == generation_));
  if (!has_it) {
    const uint64_t next = NextGeneration();
    const auto pushed = co_await Push(model::CompileFull(Admitted(document_), next));
    if (!pushed && pushed.error().kind == ErrorKind::kUnavailable) co_return pushed;
    if (!pushed) {
      // It goes on with what it has; an operator must change the policy.
      sync_error_ = pushed.error().Text();
      events_.Tell("policy_refused",
                   fmt::format("the dataplane refused generation {}: {}", next, sync_error_));
    } else {
      if (auto r = store_.WritePolicy({next, document_}); !r) co_return r;
      generation_ = next;
      events_.Tell("policy_applied", fmt::format("generation {} pushed to a dataplane that had {}",
                                                 next, hello.generation()));
    }
  }
  in_sync_ = dataplane_generation_ == generation_;
  if (in_sync_) sync_error_.clear();
  if (auto r = co_await PushRevocations(); !r) co_return r;
  if (restarted) {
    if (auto r = co_await ResumeSas(); !r) co_return r;
  }
  incarnation_ = hello.incarnation();
  if (in_sync_) NoteInForce();
  co_return Result<void>{};
}

boost::asio::awaitable<Result<std::vector<steer::SaState>>> Gate::ListSas(bool with_keys) {
  std::vector<steer::SaState> all;
  for (bool more = true; more;) {
    steer::Request request;
    request.mutable_list_sas()->set_with_keys(with_keys);
    request.mutable_list_sas()->set_limit(kPage);
    if (!all.empty()) request.mutable_list_sas()->set_after(all.back().spec().id());
    auto answer = co_await link_.Call(std::move(request));
    if (!answer) co_return tl::unexpected(answer.error());
    for (auto& state : *answer->mutable_list_sas()->mutable_sas()) all.push_back(std::move(state));
    more = answer->list_sas().more() && answer->list_sas().sas_size() > 0;
  }
  co_return all;
}

boost::asio::awaitable<Result<void>> Gate::TakeBackSas() {
  auto listed = co_await ListSas(true);
  if (!listed) co_return tl::unexpected(listed.error());
  std::vector<model::Sa> taken;
  std::set<std::string> there;
  std::vector<std::pair<std::string, std::string>> keys;
  for (auto& state : *listed) {
    if (state.spec().key().empty()) {
      co_return Fail(ErrorKind::kForbidden,
                     "the dataplane keeps its keys from this user: security associations would be "
                     "lost when it restarts");
    }
    model::Sa sa = model::Adopt(std::move(*state.mutable_spec()));
    keys.emplace_back(sa.fingerprint, sa.spec.id());
    there.insert(sa.spec.id());
    taken.push_back(std::move(sa));
  }
  // The store may be older than the keys: restored, or control was killed at the wrong moment.
  if (auto r = store_.NoteKeysInUse(keys); !r) co_return r;
  for (const auto& [id, sa] : sas_) {
    if (!there.contains(id)) {
      events_.Tell("sa_lost", "the dataplane no longer has it", {}, sa.spec.peer(), id);
    }
  }
  sas_.clear();
  inbound_.clear();
  slots_.clear();
  for (auto& sa : taken) Hold(std::move(sa));
  co_return Result<void>{};
}

boost::asio::awaitable<Result<void>> Gate::ResumeSas() {
  // Some may be there already, when the connection broke in the middle of this.
  const auto listed = co_await ListSas(false);
  if (!listed) co_return tl::unexpected(listed.error());
  std::set<std::string> there;
  for (const auto& state : *listed) there.insert(state.spec().id());

  std::vector<std::string> missing;
  for (const auto& [id, sa] : sas_) {
    if (!there.contains(id)) missing.push_back(id);
  }
  for (size_t from = 0; from < missing.size(); from += kPage) {
    steer::Request request;
    for (size_t i = from; i < std::min<size_t>(from + kPage, missing.size()); ++i) {
      steer::SaSpec& spec = *request.mutable_add_sas()->add_sas();
      spec = model::WithKey(sas_.at(missing[i]), steer::RESUME);
      spec.clear_registered_seconds();  // as it was when the SA was made: sessions know better
    }
    const auto answer = co_await link_.Call(std::move(request));
    if (!answer) co_return tl::unexpected(answer.error());
    for (const auto& result : answer->add_sas().results()) {
      if (!result.has_failure()) continue;
      const auto lost = sas_.find(result.id());
      if (lost == sas_.end()) continue;
      events_.Tell("sa_lost",
                   "the restarted dataplane refused it: " + steer::ToError(result.failure()).Text(),
                   {}, lost->second.spec.peer(), result.id());
      Drop(result.id());
    }
  }
  co_return Result<void>{};
}

}  // namespace portcullis
