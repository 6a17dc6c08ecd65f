#include "control/guard/request/carried.hpp"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "control/coroutines.hpp"
#include "control/guard/ask_control.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;

namespace {
constexpr std::chrono::milliseconds kBetweenLooks{100};
}

CarriedConnections::Place::Place(CarriedConnections& all, admission::Stay stay,
                                 std::function<void()> close)
    : places_(all.places_), stay_(std::move(stay)), close_(std::move(close)), number_(++all.last_) {
  places_->emplace(number_, this);
}

CarriedConnections::Place::~Place() {
  places_->erase(number_);
}

// False: nobody can tell now. Connections come and go meanwhile.
asio::awaitable<bool> CarriedConnections::LookAtAll() {
  for (auto at = places_->begin(); at != places_->end();) {
    const uint64_t number = at->first;
    admission::Request request;
    *request.mutable_stay() = at->second->stay_;
    const auto answer = co_await AskControl(control_, std::move(request));
    if (!answer && answer.error().why.reason == identity::Reason::gate_unavailable) {
      co_return false;
    }
    const auto there = places_->find(number);
    if (!answer && there != places_->end()) {
      spdlog::info("a connection ends: {}", answer.error().why.Text());
      there->second->close_();
    }
    at = places_->upper_bound(number);
  }
  co_return true;
}

asio::awaitable<void> CarriedConnections::Run() {
  for (uint64_t seen = 0; !stopping_;) {
    // Read before the look: what changes meanwhile is looked for again.
    const uint64_t now = permits_.changes();
    if (now != seen) {
      const bool looked = co_await LookAtAll();
      if (looked) seen = now;
    }
    pause_.expires_after(kBetweenLooks);
    co_await pause_.async_wait(kAwait);
  }
}

void CarriedConnections::Stop() {
  stopping_ = true;
  pause_.cancel();
}

}  // namespace portcullis::guard
