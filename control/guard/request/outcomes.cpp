#include "control/guard/request/outcomes.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <utility>

#include "control/coroutines.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::Reason;
using namespace std::chrono_literals;

namespace {
constexpr auto kBetweenTries = 100ms;
constexpr size_t kMostAtOnce = 256;
}  // namespace

asio::awaitable<Outcome<void>> Outcomes::Begin(admission::Operate operation) {
  const bool change = operation.change();
  const bool has_end = operation.gateway().empty();
  admission::Request nothing;
  nothing.mutable_outcome()->set_id(operation.id());
  admission::Request message;
  *message.mutable_operate() = std::move(operation);
  auto response = co_await AskControl(control_, std::move(message));
  const bool may_have_begun = has_end && (response || response.error().reference.empty());
  if (change && may_have_begun) ++open_;
  if (response) co_return Outcome<void>{};
  if (may_have_begun) End(std::move(nothing), change);
  co_return tl::unexpected(std::move(response.error()));
}

void Outcomes::End(admission::Request outcome, bool change) {
  if (change) {
    Tell(std::move(outcome));
    return;
  }
  const std::string id = outcome.outcome().id();
  if (!control_.Tell(std::move(outcome))) {
    spdlog::warn("the outcome of {} cannot be told: control is away", id);
  }
}

asio::awaitable<Outcome<void>> Outcomes::Try(admission::Request outcome) {
  auto answer = co_await AskControl(control_, outcome);
  --open_;
  if (answer) co_return Outcome<void>{};
  if (answer.error().why.reason == Reason::gate_unavailable) {
    if (kept_.size() >= kMost) {
      spdlog::error("the outcome of {} is lost: {} wait for control already",
                    kept_.front().outcome().id(), kMost);
      kept_.pop_front();
    }
    kept_.push_back(std::move(outcome));
  }
  co_return tl::unexpected(std::move(answer.error()));
}

void Outcomes::Tell(admission::Request outcome) {
  std::string id = outcome.outcome().id();
  asio::co_spawn(executor_, Try(std::move(outcome)),
                 [id = std::move(id)](const std::exception_ptr& failure, const auto& told) {
                   Rethrow(failure);
                   if (told || told.error().why.reason == Reason::gate_unavailable) return;
                   spdlog::error("control does not take the outcome of {}: {}", id,
                                 told.error().why.Text());
                 });
}

asio::awaitable<Outcome<void>> Outcomes::TellNow(admission::Request outcome) {
  return Try(std::move(outcome));
}

asio::awaitable<void> Outcomes::Run() {
  while (!stopping_) {
    pause_.expires_after(kBetweenTries);
    co_await pause_.async_wait(kAwait);
    if (!control_.ready()) continue;
    for (size_t i = std::min(kMostAtOnce, kept_.size()); i > 0; --i) {
      admission::Request outcome = std::move(kept_.front());
      kept_.pop_front();
      ++open_;
      Tell(std::move(outcome));
    }
  }
}

void Outcomes::Stop() {
  stopping_ = true;
  pause_.cancel();
  if (!idle()) spdlog::warn("control is not told what came of {} changes", open_ + kept_.size());
}

}  // namespace portcullis::guard
