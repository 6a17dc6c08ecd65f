#include "control/link/drops.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "control/coroutines.hpp"

namespace portcullis {

namespace asio = boost::asio;

namespace {
constexpr uint32_t kSeconds = 30;            // that the dataplane goes on without being asked again
constexpr std::chrono::seconds kAskEach{5};  // one that has restarted knows nothing of it
constexpr std::chrono::seconds kTryEach{1};
}  // namespace

Drops::Drops(asio::any_io_executor executor, DataplaneLink& link)
    : executor_(std::move(executor)), link_(link), again_(executor_) {
  link_.OnDrop([this](const steer::Drop& drop) { OnDrop(drop); });
}

Drops::Watcher::Watcher(Drops& drops, uint32_t one_in, std::function<void()> wake)
    : drops_(drops), one_in_(one_in), wake_(std::move(wake)) {
  drops_.watchers_.push_back(this);
  drops_.Changed();
}

Drops::Watcher::~Watcher() {  // NOLINT(bugprone-exception-escape)
  drops_.watchers_.remove(this);
  drops_.Changed();
}

uint32_t Drops::OneIn() const {
  const auto least = std::ranges::min_element(watchers_, {}, &Watcher::one_in_);
  return least == watchers_.end() ? 0 : (*least)->one_in_;
}

void Drops::Changed() {
  boost::system::error_code ignored;  // a destructor calls this
  again_.cancel(ignored);
  if (keeping_) return;
  keeping_ = true;
  asio::co_spawn(executor_, Keep(), asio::detached);
}

asio::awaitable<bool> Drops::Ask(uint32_t one_in) {
  steer::Request request;
  request.mutable_watch_drops()->set_seconds(one_in == 0 ? 0 : kSeconds);
  request.mutable_watch_drops()->set_one_in(one_in);
  const auto answer = co_await link_.Call(std::move(request));
  co_return answer.has_value();
}

// Asks until nobody looks any more, and then says so. Whatever changes while it asks is seen when
// it has asked.
asio::awaitable<void> Drops::Keep() {
  for (;;) {
    const uint32_t one_in = OneIn();
    const bool asked = co_await Ask(one_in);
    if (OneIn() != one_in) continue;
    if (one_in == 0) break;
    again_.expires_after(asked ? kAskEach : kTryEach);
    co_await again_.async_wait(kAwait);
  }
  keeping_ = false;
}

void Drops::OnDrop(const steer::Drop& drop) {
  for (Watcher* watcher : watchers_) {
    if (watcher->waiting_.size() < kMostWaiting) watcher->waiting_.push_back(drop);
    watcher->wake_();
  }
}

}  // namespace portcullis
