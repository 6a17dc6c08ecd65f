#include "control/admission/operations.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>

#include "control/admission/guard_state.hpp"
#include "control/admission/reference.hpp"
#include "control/coroutines.hpp"
#include "control/model/fields.hpp"
#include "control/model/requests.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using identity::Reason;
using nlohmann::json;

namespace {

constexpr size_t kMostMethod = 32;
constexpr size_t kMostPath = 2048;  // as profiles::Target::kLongestPath
constexpr int kMostOperations = 16;
constexpr size_t kMostKind = 63;
constexpr size_t kMostResource = 512;
constexpr size_t kMostServer = 255;  // and of a gateway's name
constexpr unsigned kLeastOk = 200;
constexpr unsigned kLeastRedirect = 300;
constexpr unsigned kLeastError = 400;
// The disk rests as long as it worked, and no longer than this: what comes meanwhile goes with the
// next.
constexpr std::chrono::milliseconds kLongestRest{2};

tl::unexpected<identity::Refusal> Declined(Reason reason, std::string detail) {
  return tl::unexpected(identity::Refusal{reason, std::move(detail)});
}

bool IsPrintable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

bool IsKind(std::string_view text) {
  return text.size() <= kMostKind && IsPrintable(text);
}

// Also bytes beyond ASCII: what the path's parameter stands for.
bool IsResource(std::string_view text) {
  return text.size() <= kMostResource &&
         std::ranges::none_of(text, [](unsigned char c) { return c < ' ' || c == 127; });
}

// Empty: it is well-formed.
std::string WhatIsWrong(const Operate& r) {
  if (!IsReference(r.id())) return "id is not 16 hex digits";
  if (!model::IsName(r.peer())) return "peer is not a name";
  if (!model::IsName(r.interface())) return "interface is not a name";
  if (r.method().empty() || r.method().size() > kMostMethod || !IsPrintable(r.method())) {
    return "method is none";
  }
  if (!r.path().starts_with('/') || r.path().size() > kMostPath || !IsPrintable(r.path())) {
    return fmt::format("path is none, or longer than {} bytes", kMostPath);
  }
  if (r.operations().empty() || r.operations_size() > kMostOperations ||
      !std::ranges::all_of(r.operations(), model::IsOperation)) {
    return fmt::format("operations are not 1 to {} names", kMostOperations);
  }
  if (!IsKind(r.kind()) || !IsResource(r.resource())) return "kind or resource is too long";
  if (r.kind().empty() && !r.resource().empty()) return "a resource of no kind";
  if (!steer::FromBytes(r.source())) return "source is no address";
  if (r.gateway().size() > kMostServer || !IsPrintable(r.gateway())) return "gateway is no name";
  if (!r.has_call()) return {};
  if (r.call().server().size() > kMostServer || !IsPrintable(r.call().server())) {
    return "the server is no name";
  }
  return IsPrintable(r.call().url()) ? "" : "url is none";
}

std::string WhatIsWrong(const Outcome& r, const std::string& kind) {
  if (!IsKind(r.created_kind()) || !IsResource(r.created())) {
    return "created or created_kind is too long";
  }
  if (!r.created().empty() && r.created_kind().empty() && kind.empty()) {
    return "what was created is of no kind";
  }
  return {};
}

audit::Entry EntryOf(const Operate& r) {
  audit::Entry entry;
  entry.who = r.peer();
  entry.action = Operations::kAction;
  entry.subject = r.id();
  entry.detail = {
      {"interface", r.interface()},
      {"operations", json(std::vector<std::string>(r.operations().begin(), r.operations().end()))},
      {"method", r.method()},
      {"path", r.path()},
      {"source", steer::FromBytes(r.source())->Text()}};
  if (r.has_call()) {
    entry.detail["sent_by"] = r.call().server();
    entry.detail["sent_to"] = r.call().url();
  } else {
    entry.detail["token"] = {{"issuer", Plain(r.token().issuer())},
                             {"subject", Plain(r.token().subject())},
                             {"id", Plain(r.token().jti())}};
  }
  if (!r.gateway().empty()) entry.detail["gateway"] = r.gateway();
  if (!r.tenant().empty()) entry.detail["tenant"] = r.tenant();
  if (!r.kind().empty()) entry.detail["kind"] = r.kind();
  if (!r.resource().empty()) entry.detail["resource"] = r.resource();
  return entry;
}

}  // namespace

Operations::Operations(const asio::any_io_executor& executor, Gate& gate, Permits& permits,
                       AuditLog& audit, Journal& journal, Times times)
    : executor_(executor),
      gate_(gate),
      permits_(permits),
      audit_(audit),
      journal_(journal),
      times_(times),
      pause_(executor),
      one_time_(gate.store()),
      held_(gate) {}

// ---- before it is made

// The guard has judged it by what it was told a while ago; this is judged now.
tl::expected<Operations::Judged, identity::Refusal> Operations::Judge(const admission::Operate& r) {
  if (std::string wrong = WhatIsWrong(r); !wrong.empty()) {
    return Declined(Reason::request_malformed, "operation: " + wrong);
  }
  if (open_.contains(r.id())) {
    return Declined(Reason::request_malformed, "an operation of this id is under way");
  }
  const Operation operation{.peer = r.peer(),
                            .tenant = r.tenant(),
                            .interface = r.interface(),
                            .operations = {r.operations().begin(), r.operations().end()},
                            .method = r.method(),
                            .path = r.path()};
  const PolicyView& policy = permits_.View();
  const auto terms = r.has_call()
                         ? DecideCalling(policy, gate_.denials(), operation, r.call().url())
                         : DecideOperation(policy, gate_.denials(), operation,
                                           ApplicantOf({}, r.token(), r.interface()),
                                           std::chrono::system_clock::now());
  if (!terms) return tl::unexpected(terms.error());
  if (!r.has_call()) {
    const auto carried = permits_.Carried(r.interface(), r.peer(), r.source());
    if (!carried) return tl::unexpected(carried.error());
  }
  if (r.registered() && !gate_.IsRegistered(r.interface(), r.peer())) {
    return Declined(Reason::not_registered,
                    fmt::format("peer '{}' is not registered on {}", r.peer(), r.interface()));
  }
  if (!r.resource().empty()) {
    const auto owner = gate_.store().FindOwner({r.interface(), r.kind(), r.resource()});
    if (!owner) return Declined(Reason::gate_unavailable, owner.error().Text());
    if (*owner && (*owner)->tenant != r.tenant()) {
      return Declined(Reason::tenant_violation, fmt::format("{} '{}' is not of tenant '{}'",
                                                            r.kind(), r.resource(), r.tenant()));
    }
  }
  // What could not be recorded must not be done; and what ends must be found again.
  if (!journal_.Takes()) {
    return Declined(Reason::gate_unavailable, "the audit log cannot be written now");
  }
  if (open_.size() >= kMostOpen) {
    return Declined(Reason::gate_unavailable, fmt::format("{} operations are open", kMostOpen));
  }
  if (terms->one_time) {
    if (auto fresh = one_time_.Check(r.token()); !fresh) return tl::unexpected(fresh.error());
  }
  Judged judged{.one_time = terms->one_time};
  if (terms->approval) {
    auto approved = held_.Check(r, EntryOf(r), *terms->approval);
    if (!approved) return tl::unexpected(approved.error());
    judged.approved = *std::move(approved);
  }
  // Last: what is refused for another reason uses up nothing.
  const model::Quota* full =
      quotas_.Take({r.tenant(), r.peer(), r.interface()}, terms->quotas, Clock::now());
  if (full == nullptr) return judged;
  return Declined(Reason::quota_exceeded,
                  fmt::format("tenant '{}' had {} of '{}' within {} s on {}", r.tenant(),
                              full->count, full->operation, full->seconds, r.interface()));
}

Operations::Done Operations::Operate(admission::Operate r, uint64_t guard) {
  const auto judged = Judge(r);
  if (!judged) {
    // Counted by names that policy knows, and not by whatever the guard says.
    if (judged.error().reason == Reason::quota_exceeded) {
      Count(r.interface(), r.operations(), std::string(Info(Reason::quota_exceeded).name));
    }
    if (auto record = held_.TakeRecord()) {
      Waiting held{.entry = *std::move(record), .written = asio::steady_timer(executor_)};
      co_await Write(held);
      if (!held.number) co_return Declined(Reason::gate_unavailable, held.number.error().Text());
    }
    co_return tl::unexpected(judged.error());
  }
  Open operation{.entry = EntryOf(r),
                 .tenant = r.tenant(),
                 .interface = r.interface(),
                 .kind = r.kind(),
                 .resource = r.resource(),
                 .operations = {r.operations().begin(), r.operations().end()},
                 .change = r.change(),
                 .guard = guard,
                 .until = Clock::now() + times_.longest};
  const std::string& id = r.id();
  if (judged->approved) {
    operation.entry.detail["approval"] = {{"held", judged->approved->id},
                                          {"approved_by", judged->approved->decided_by},
                                          {"request_digest", judged->approved->digest}};
  }
  // What a gateway passes on by itself ends here, as far as anybody here will know.
  const bool ends = !r.gateway().empty();
  operation.entry.outcome = ends ? audit::kDecided : audit::kBegun;
  if (!r.change() && !judged->one_time && !judged->approved) {
    if (ends) {
      Count(operation.interface, operation.operations, audit::kDecided);
      journal_.Record(std::move(operation.entry));
    } else {
      open_.emplace(id, std::move(operation));
    }
    co_return tl::expected<void, identity::Refusal>{};
  }
  Waiting waiting{.entry = operation.entry,
                  .recorded = r.change() || ends,
                  .written = asio::steady_timer(executor_)};
  if (judged->one_time) waiting.used.token = one_time_.Begin(r.token());
  if (judged->approved) waiting.used.approval = held_.Begin(*judged->approved);
  // Known from now on: whoever hangs up meanwhile leaves it open.
  if (!ends) open_.emplace(id, std::move(operation));
  co_await Write(waiting);
  if (judged->one_time) one_time_.End(*waiting.used.token, waiting.number.has_value());
  if (judged->approved) held_.End(*judged->approved);
  const auto at = open_.find(id);
  if (!waiting.number) {
    if (at != open_.end()) open_.erase(at);
    co_return Declined(Reason::gate_unavailable, waiting.number.error().Text());
  }
  if (at != open_.end() && waiting.recorded) at->second.begun = *waiting.number;
  if (ends) Count(r.interface(), r.operations(), audit::kDecided);
  co_return tl::expected<void, identity::Refusal>{};
}

// ---- afterwards

Operations::Done Operations::Outcome(admission::Outcome r) {
  const auto at = open_.find(r.id());
  if (at == open_.end() || (at->second.change && at->second.begun == 0)) {
    co_return Declined(Reason::request_malformed,
                       fmt::format("outcome: no operation '{}' is under way", Plain(r.id())));
  }
  Open operation = std::move(at->second);
  open_.erase(at);
  const bool ok = r.status() >= kLeastOk && r.status() < kLeastRedirect;
  const bool failed = r.status() < kLeastOk || r.status() >= kLeastError;
  std::string wrong = WhatIsWrong(r, operation.kind);

  Waiting waiting{.entry = std::move(operation.entry), .written = asio::steady_timer(executor_)};
  audit::Entry& entry = waiting.entry;
  entry.outcome = failed ? audit::kFailed : audit::kDone;
  if (operation.begun != 0) entry.detail["begun"] = operation.begun;
  entry.detail["status"] = r.status();
  entry.detail["request_bytes"] = r.request_bytes();
  entry.detail["response_bytes"] = r.response_bytes();
  Count(operation.interface, operation.operations, entry.outcome);

  model::Owner owner{.tenant = operation.tenant, .since = std::chrono::system_clock::now()};
  if (ok && wrong.empty() && !r.created().empty()) {
    owner.resource = {operation.interface,
                      r.created_kind().empty() ? operation.kind : r.created_kind(), r.created()};
    entry.detail["created"] = {{"kind", owner.resource.kind}, {"id", owner.resource.id}};
    // Without a tenant there is nobody to whom it could belong.
    if (!operation.tenant.empty()) waiting.owner = model::OwnerChange{owner, false};
  } else if (ok && r.deleted() && !operation.resource.empty()) {
    owner.resource = {operation.interface, operation.kind, operation.resource};
    entry.detail["deleted"] = true;
    if (!operation.tenant.empty()) waiting.owner = model::OwnerChange{owner, true};
  }
  if (ok) Register(operation.interface, entry.who, r.registration());
  if (!operation.change && !waiting.owner) {
    journal_.Record(std::move(entry));
    if (wrong.empty()) co_return tl::expected<void, identity::Refusal>{};
    co_return Declined(Reason::request_malformed, "outcome: " + wrong);
  }
  co_await Write(waiting);
  if (!waiting.number) journal_.Record(entry);  // when the log can be written again
  if (!wrong.empty()) co_return Declined(Reason::request_malformed, "outcome: " + wrong);
  if (!waiting.tenant) co_return Declined(Reason::gate_unavailable, waiting.tenant.error().Text());
  if (waiting.owner && !waiting.owner->gone && *waiting.tenant != operation.tenant) {
    std::string text = fmt::format(
        "{}: the server says that {} '{}' was created for tenant '{}'; it is another's ({}) and "
        "stays so",
        operation.interface, owner.resource.kind, owner.resource.id, operation.tenant, r.id());
    gate_.events().Tell("alarm", text, {}, entry.who);
    co_return Declined(Reason::tenant_violation, std::move(text));
  }
  if (!waiting.number) co_return Declined(Reason::gate_unavailable, waiting.number.error().Text());
  co_return tl::expected<void, identity::Refusal>{};
}

// What is not stored does not hold: the peer stays shut out, and registers again.
void Operations::Register(const std::string& interface, const std::string& peer,
                          Registration registration) {
  if (registration == UNCHANGED) return;
  const bool opened = registration == OPENED;
  const auto done = gate_.SetRegistered(interface, peer, opened);
  if (done) return;
  gate_.events().Tell("alarm",
                      fmt::format("that peer '{}' {} on {} is not stored: {}", peer,
                                  opened ? "has registered" : "is no longer registered", interface,
                                  done.error().Text()),
                      {}, peer);
}

tl::expected<std::string, identity::Refusal> Operations::FindOwner(
    const admission::FindOwner& request) {
  if (!model::IsName(request.interface()) || request.kind().empty() || !IsKind(request.kind()) ||
      request.resource().empty() || !IsResource(request.resource())) {
    return Declined(Reason::request_malformed, "owner: interface, kind and resource name nothing");
  }
  const auto owner =
      gate_.store().FindOwner({request.interface(), request.kind(), request.resource()});
  if (!owner) return Declined(Reason::gate_unavailable, owner.error().Text());
  return *owner ? (*owner)->tenant : std::string();
}

// ---- the disk

asio::awaitable<void> Operations::Write(Waiting& waiting) {
  waiting.written.expires_at(Clock::time_point::max());
  waiting_.push_back(&waiting);
  if (!writing_) {
    writing_ = true;
    asio::co_spawn(executor_, WriteAll(), Rethrow);
  }
  while (!waiting.ended) co_await waiting.written.async_wait(kAwait);
}

asio::awaitable<void> Operations::WriteAll() {
  asio::steady_timer gather(executor_);
  while (!waiting_.empty()) {
    // Whatever has arrived by now is worked on before this goes on.
    gather.expires_at(std::max(rested_, Clock::now()));
    co_await gather.async_wait(kAwait);
    const auto begun = Clock::now();
    co_await WriteBatch();
    const auto now = Clock::now();
    rested_ = now + std::min<Clock::duration>(now - begun, kLongestRest);
  }
  writing_ = false;
}

// Records follow what was stored: none tells of more than that. What a request uses up is as
// much a part of it as its record, and whatever of that fails, it is not made.
asio::awaitable<void> Operations::WriteBatch() {
  const std::deque<Waiting*> batch = std::exchange(waiting_, {});
  UseUp(batch);
  const auto tenants = ChangeOwners(batch);
  std::vector<audit::Entry> entries;
  std::vector<Waiting*> recorded;
  for (Waiting* w : batch) {
    if (!w->recorded || !w->number) continue;
    entries.push_back(w->entry);
    recorded.push_back(w);
  }
  if (!entries.empty()) {
    const auto last = co_await journal_.Append(entries);
    if (!last) gate_.events().Tell("audit_failed", last.error().Text());
    for (size_t i = 0; i < recorded.size(); ++i) {
      if (last) {
        recorded[i]->number = *last - (recorded.size() - 1 - i);
      } else {
        recorded[i]->number = tl::unexpected(last.error());
      }
    }
  }
  if (!tenants) gate_.events().Tell("audit_failed", tenants.error().Text());
  for (Waiting* w : batch) {
    w->ended = true;
    w->written.cancel();
  }
}

void Operations::UseUp(const std::deque<Waiting*>& batch) {
  const auto uses = [](const Waiting* w) { return w->used.token || !w->used.approval.empty(); };
  std::vector<model::Used> all;
  for (const Waiting* w : batch) {
    if (uses(w)) all.push_back(w->used);
  }
  if (gate_.store().UseUp(all)) return;
  // One of them may have been withdrawn meanwhile; the others are none the worse for it.
  for (Waiting* w : batch) {
    if (!uses(w)) continue;
    const auto used = gate_.store().UseUp({w->used});
    if (used) continue;
    w->number = tl::unexpected(used.error());
    gate_.events().Tell("audit_failed", used.error().Text());
  }
}

Result<void> Operations::ChangeOwners(const std::deque<Waiting*>& batch) {
  std::vector<model::OwnerChange> owners;
  for (const Waiting* w : batch) {
    if (w->owner) owners.push_back(*w->owner);
  }
  const auto tenants = gate_.store().ChangeOwners(owners);
  size_t next = 0;
  for (Waiting* w : batch) {
    if (!w->owner) continue;
    if (tenants) {
      w->tenant = (*tenants)[next++];
    } else {
      w->tenant = tl::unexpected(tenants.error());
    }
    const bool kept = tenants && (w->owner->gone || *w->tenant == w->owner->owner.tenant);
    if (!kept) w->entry.detail["ownership"] = tenants ? "another tenant's" : "not stored";
  }
  if (!tenants) return tl::unexpected(tenants.error());
  return {};
}

}  // namespace portcullis::admission
