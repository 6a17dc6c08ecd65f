#include "control/guard/review.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>

#include "control/admission/refusal_message.hpp"
#include "control/coroutines.hpp"
#include "control/identity/token/moment.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using admission::Held;
using identity::Reason;
using identity::Refusal;

namespace {
constexpr std::chrono::milliseconds kLookEvery{200};
}

Review::Review(const asio::any_io_executor& executor, ControlLink& control,
               const identity::Revocations& revocations)
    : control_(control), revocations_(revocations), pause_(executor) {}

void Review::Use(Issuers issuers) {
  issuers_ = std::move(issuers);
  ++changes_;
}

void Review::Vanished(const std::string& issuer, const std::vector<std::string>& kids) {
  const std::lock_guard lock(mutex_);
  for (const auto& kid : kids) vanished_.emplace(issuer, kid);
}

// That a list is stale or an issuer away ends nobody: a session has its own deadline, soon enough.
std::optional<Refusal> Review::Judge(const Held& held, const Kids& vanished) const {
  std::vector<identity::ChainLink> chain;
  for (const auto& c : held.chain()) {
    chain.push_back({c.authority(), {c.issuer(), c.serial()}, "serial " + c.serial()});
  }
  const identity::Moment now = identity::Moment::Now();
  if (auto valid = revocations_.Check(chain, false, now.wall); !valid) return valid.error();

  if (held.kid().empty()) return {};  // an opaque token: nobody signed it
  const auto issuer = std::ranges::find_if(
      issuers_, [&](const auto& i) { return i->config().claims.issuer == held.token_issuer(); });
  if (issuer == issuers_.end()) {
    return Refusal{Reason::token_issuer_unknown,
                   fmt::format("'{}' is no longer configured", held.token_issuer())};
  }
  const auto keys = (*issuer)->Keys(now);
  if (vanished.contains({held.token_issuer(), held.kid()}) ||
      (keys != nullptr && keys->Find(held.kid()) == nullptr)) {
    return Refusal{Reason::token_key_unknown,
                   fmt::format("key '{}' of {} is gone", held.kid(), held.token_issuer())};
  }
  return {};
}

asio::awaitable<Result<void>> Review::LookAtAll(Kids vanished) {
  std::string after;
  for (bool more = true; more;) {
    admission::Request request;
    request.mutable_review()->set_after(after);
    auto answer = co_await control_.Call(std::move(request));
    if (!answer) co_return tl::unexpected(answer.error());
    const admission::Reviewed& page = answer->reviewed();
    admission::Request withdraw;
    for (const Held& held : page.held()) {
      after = held.session();
      const auto why = Judge(held, vanished);
      if (!why) continue;
      auto& one = *withdraw.mutable_withdraw()->add_sessions();
      one.set_session(held.session());
      one.set_generation(held.generation());
      Fill(*one.mutable_refusal(), *why);
      spdlog::warn("session '{}' ends: {}", held.session(), why->Text());
    }
    more = page.more() && !page.held().empty();
    if (!withdraw.has_withdraw()) continue;
    const auto ended = co_await control_.Call(std::move(withdraw));
    if (!ended) co_return tl::unexpected(ended.error());
  }
  co_return Result<void>{};
}

asio::awaitable<void> Review::Run() {
  std::tuple<uint64_t, uint64_t, uint64_t> seen{};
  while (!stopping_) {
    Kids vanished;
    {
      const std::lock_guard lock(mutex_);
      vanished.swap(vanished_);
    }
    // Read before the look: what changes meanwhile is looked for again.
    const std::tuple now(control_.connections(), revocations_.epoch(), changes_);
    if (control_.ready() && (now != seen || !vanished.empty())) {
      const auto looked = co_await LookAtAll(vanished);
      if (looked) {
        seen = now;
        vanished.clear();
      } else {
        spdlog::warn("sessions were not held against what is valid now: {}", looked.error().Text());
      }
    }
    if (!vanished.empty()) {  // the next time, then
      const std::lock_guard lock(mutex_);
      vanished_.merge(vanished);
    }
    pause_.expires_after(kLookEvery);
    co_await pause_.async_wait(kAwait);
  }
}

void Review::Stop() {
  stopping_ = true;
  pause_.cancel();
}

}  // namespace portcullis::guard
