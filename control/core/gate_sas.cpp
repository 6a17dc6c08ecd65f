// Security associations, with keys from sessions or, in a laboratory, by hand. The keys live in
// locked memory here and in the dataplane, nowhere else; so they are installed only while the
// dataplane is there. The fingerprint is remembered before the key goes out: a crash in between
// errs towards refusing it.
#include <algorithm>
#include <random>

#include "control/core/gate.hpp"
#include "control/model/difference.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis {

namespace {
Error SaConflict(std::string where, std::string message, std::string expected, std::string found) {
  return {ErrorKind::kConflict, std::move(message), std::move(where), std::move(expected),
          std::move(found)};
}
}  // namespace

void Gate::Hold(model::Sa sa) {
  const std::string id = sa.spec.id();
  if (sa.spec.direction() == steer::INBOUND) {
    inbound_[sa.spec.spi()] = id;
    if (capacity_ != 0) slots_.insert(sa.spec.spi() % capacity_);
  }
  sas_.insert_or_assign(id, std::move(sa));
}

void Gate::Drop(const std::string& id) {
  const auto sa = sas_.find(id);
  if (sa == sas_.end()) return;
  const auto at = inbound_.find(sa->second.spec.spi());
  if (at != inbound_.end() && at->second == id) {
    if (capacity_ != 0) slots_.erase(at->first % capacity_);
    inbound_.erase(at);
  }
  sas_.erase(sa);
}

Result<void> Gate::CheckSa(const model::Sa& sa, const std::string& replaces) {
  const steer::SaSpec& spec = sa.spec;
  if (!replaces.empty() && !sas_.contains(replaces)) {
    return Fail(ErrorKind::kNotFound,
                fmt::format("there is no security association '{}'", replaces));
  }
  if (spec.id() != replaces && sas_.contains(spec.id())) {
    return tl::unexpected(
        SaConflict("/id", fmt::format("there is a security association '{}' already", spec.id()),
                   "an id of its own", "\"" + spec.id() + "\""));
  }
  if (std::none_of(document_.peers.begin(), document_.peers.end(),
                   [&](const auto& p) { return p.name == spec.peer(); })) {
    return Invalid("/peer", "there is no such peer", "the name of a peer",
                   "\"" + spec.peer() + "\"");
  }
  // Ours to choose, so ours to keep apart (RFC 4301 4.1). Outbound ones are the peers' choice.
  // Not even the one that is replaced may have it: what is under way to it would be lost.
  const auto same = inbound_.find(spec.spi());
  if (spec.direction() == steer::INBOUND && same != inbound_.end()) {
    return tl::unexpected(SaConflict(
        "/spi",
        same->second == replaces
            ? fmt::format("'{}', which it replaces, has this SPI, and packets that are under way "
                          "under it would be lost",
                          replaces)
            : fmt::format("inbound security association '{}' has this SPI", same->second),
        "an SPI of its own", fmt::format("0x{:08x}", spec.spi())));
  }
  const auto known = store_.KnowsKey(sa.fingerprint);
  if (!known) return tl::unexpected(known.error());
  if (*known) {
    return tl::unexpected(SaConflict("/key", "this key was used before",
                                     "a key that was never used",
                                     "a key with fingerprint " + sa.fingerprint));
  }
  return {};
}

Gate::Changed Gate::InstallSa(model::Sa sa, std::string replaces, Wish wish) {
  const auto held = co_await turn_.Take();
  if (auto checked = CheckSa(sa, replaces); !checked) co_return tl::unexpected(checked.error());
  const std::string id = sa.spec.id();
  Change change{model::OneDifference(replaces == id ? "changed" : "added", "sa", id),
                model::WarningsOf(sa.spec), generation_, InSync(), sa.fingerprint};
  if (!replaces.empty() && replaces != id) {
    change.difference["removed"].push_back({{"kind", "sa"}, {"name", replaces}});
  }
  if (wish.dry_run) co_return change;
  if (!link_.ready()) {
    co_return Fail(
        ErrorKind::kUnavailable,
        "a key goes only into a dataplane that is there, and it is away: " + link_.error());
  }
  if (auto r = store_.RememberKey(sa.fingerprint, id); !r) co_return tl::unexpected(r.error());

  steer::Request request;
  request.mutable_add_sas()->set_atomic(true);
  steer::SaSpec& spec = *request.mutable_add_sas()->add_sas();
  spec = model::WithKey(sa, steer::NEW);
  spec.set_replaces(replaces);
  const auto answer = co_await link_.Call(std::move(request));

  std::optional<Error> refused;
  if (!answer) {
    refused = answer.error();
  } else if (answer->add_sas().results_size() != 1) {
    refused = Error{ErrorKind::kUnavailable, "the dataplane answered something else", {}, {}, {}};
  } else if (answer->add_sas().results(0).has_failure()) {
    refused = steer::ToError(answer->add_sas().results(0).failure());
  }
  if (refused) {
    // Known to have stayed out, unless the dataplane itself says that it has seen the key, or
    // nobody can tell.
    if (refused->kind == ErrorKind::kUnavailable) {
      link_.Reconnect("no answer to a security association: nobody knows whether it is in force");
    } else if (refused->kind != ErrorKind::kConflict) {
      static_cast<void>(store_.ForgetKey(sa.fingerprint));
    }
    events_.Tell("sa_refused", refused->Text(), wish.operator_name, sa.spec.peer(), id);
    co_return tl::unexpected(*refused);
  }
  const std::string peer = sa.spec.peer();
  const bool lab = sa.spec.lab();
  Drop(replaces);
  Hold(std::move(sa));
  change.in_force = true;
  events_.Tell(lab ? "operator" : "session",
               replaces.empty()
                   ? fmt::format("security association '{}' installed {}", id,
                                 lab ? "by hand" : "for a session")
                   : fmt::format("security association '{}' replaced by '{}'", replaces, id),
               wish.operator_name, peer, id);
  co_return change;
}

boost::asio::awaitable<Result<std::vector<steer::SaState>>> Gate::LiveSas(
    std::vector<std::string> ids) {
  steer::Request request;
  for (std::string& id : ids) request.mutable_list_sas()->add_ids(std::move(id));
  auto answer = co_await link_.Call(std::move(request));
  if (!answer) co_return tl::unexpected(answer.error());
  auto& listed = *answer->mutable_list_sas()->mutable_sas();
  co_return std::vector<steer::SaState>(std::make_move_iterator(listed.begin()),
                                        std::make_move_iterator(listed.end()));
}

Result<uint32_t> Gate::ChooseSpi(const std::set<uint32_t>& reserved) {
  const uint32_t capacity = link_.ready() ? link_.hello()->sa_capacity() : 0;
  if (capacity == 0) return Fail(ErrorKind::kUnavailable, "the dataplane is away");
  if (capacity != capacity_) {  // another dataplane
    capacity_ = capacity;
    slots_.clear();
    for (const auto& [spi, id] : inbound_) slots_.insert(spi % capacity);
  }
  std::set<uint32_t> promised;
  for (const uint32_t spi : reserved) promised.insert(spi % capacity);
  const auto taken = [&](uint32_t slot) {
    return slots_.contains(slot) || promised.contains(slot);
  };
  constexpr uint32_t kLeastSpi = 256;  // RFC 4303 2.1
  std::random_device random;           // the kernel's
  // A free slot, not just a free number: few attempts while most slots are free, one pass if not.
  std::uniform_int_distribution<uint32_t> any(kLeastSpi, UINT32_MAX);
  uint32_t spi = any(random);
  for (uint32_t tried = 0; tried <= capacity; ++tried) {
    if (!taken(spi % capacity)) return spi;
    spi = spi == UINT32_MAX ? kLeastSpi : spi + 1;
  }
  return Fail(ErrorKind::kExhausted,
              fmt::format("all {} security associations of the dataplane are in use", capacity));
}

// What is kept about them goes last: the dataplane is not to wait for that with the next thousand.
boost::asio::awaitable<Result<void>> Gate::TakeOut(std::vector<std::string> ids) {
  constexpr size_t kAtOnce = 1000;
  size_t gone = 0;
  Result<void> done;
  while (done && gone < ids.size()) {
    steer::Request request;
    const size_t to = std::min(gone + kAtOnce, ids.size());
    for (size_t i = gone; i < to; ++i) request.mutable_remove_sas()->add_ids(ids[i]);
    const auto answer = co_await link_.Call(std::move(request));
    if (!answer) {
      link_.Reconnect("a removal was not confirmed: " + answer.error().Text());
      done = tl::unexpected(answer.error());
    } else {
      gone = to;
    }
  }
  for (size_t i = 0; i < gone; ++i) Drop(ids[i]);
  co_return done;
}

Gate::Changed Gate::RemoveSa(std::string id, Wish wish) {
  const auto held = co_await turn_.Take();
  const auto sa = sas_.find(id);
  if (sa == sas_.end()) {
    co_return Fail(ErrorKind::kNotFound, fmt::format("there is no security association '{}'", id));
  }
  Change change{model::OneDifference("removed", "sa", id), {}, generation_, InSync(), {}};
  if (wish.dry_run) co_return change;
  const std::string peer = sa->second.spec.peer();
  std::vector<std::string> one{id};
  if (auto gone = co_await TakeOut(std::move(one)); !gone) co_return tl::unexpected(gone.error());
  change.in_force = true;
  events_.Tell("operator", fmt::format("security association '{}' removed", id), wish.operator_name,
               peer, id);
  co_return change;
}

boost::asio::awaitable<Result<void>> Gate::RegisterSas(std::vector<std::string> ids,
                                                       std::chrono::seconds duration) {
  const auto held = co_await turn_.Take();
  steer::Request request;
  for (std::string& id : ids) request.mutable_register_()->add_ids(std::move(id));
  request.mutable_register_()->set_seconds(static_cast<uint64_t>(duration.count()));
  const auto answer = co_await link_.Call(std::move(request));
  if (!answer) {
    link_.Reconnect("a registration was not confirmed: " + answer.error().Text());
    co_return tl::unexpected(answer.error());
  }
  co_return Result<void>{};
}

boost::asio::awaitable<Result<void>> Gate::RemoveSas(std::vector<std::string> ids) {
  const auto held = co_await turn_.Take();
  if (link_.ready()) {
    std::erase_if(ids, [&](const std::string& id) { return !sas_.contains(id); });
    co_return co_await TakeOut(std::move(ids));
  }
  // A dataplane that restarts does not get them again; one that goes on tells of them when it is
  // back.
  for (const std::string& id : ids) Drop(id);
  co_return Fail(ErrorKind::kUnavailable, "the dataplane is away: " + link_.error());
}

}  // namespace portcullis
