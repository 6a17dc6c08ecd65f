#include "control/link/link.hpp"
#include "control/coroutines.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

namespace portcullis {

namespace asio = boost::asio;

namespace {
constexpr uint32_t kProtocol = 1;
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{2000};
}  // namespace

DataplaneLink::DataplaneLink(asio::any_io_executor executor, std::string path, Events& events,
                             std::string client)
    : executor_(std::move(executor)),
      path_(std::move(path)),
      events_(events),
      client_name_(std::move(client)),
      broken_(executor_),
      pause_(executor_) {}

asio::awaitable<void> DataplaneLink::Run(Reconcile reconcile) {
  auto pause = kFirstPause;
  std::string told;
  while (!stopping_) {
    const auto connected = co_await Connect(reconcile);
    if (connected) {
      pause = kFirstPause;
      told.clear();
      while (hello_ && !stopping_) {
        broken_.expires_at(asio::steady_timer::time_point::max());
        if (hello_) co_await broken_.async_wait(kAwait);
      }
    } else {
      Broke(connected.error().Text());
      client_.reset();
      if (error_ != told) {  // once per reason, not once per attempt
        told = error_;
        events_.Tell("disconnected", error_);
      }
      if (stopping_) co_return;
      pause_.expires_after(pause);
      co_await pause_.async_wait(kAwait);
      pause = std::min(pause * 2, kLongestPause);
    }
  }
}

asio::awaitable<Result<void>> DataplaneLink::Connect(const Reconcile& reconcile) {
  auto client = co_await SteerClient::Connect(
      executor_, path_, [this](const steer::Event& event) { OnEvent(event); },
      [this](const Error& why) {
        const bool was_ready = ready_;
        Broke(why.Text());
        if (was_ready) events_.Tell("disconnected", why.Text());
      });
  if (!client) co_return tl::unexpected(client.error());
  client_.emplace(std::move(*client));
  client_->OnDrop([this](const steer::Drop& drop) {
    if (on_drop_) on_drop_(drop);
  });

  steer::Request greeting;
  greeting.mutable_hello()->set_protocol(kProtocol);
  greeting.mutable_hello()->set_client(client_name_);
  auto greeted = co_await client_->Call(std::move(greeting));
  if (!greeted) co_return tl::unexpected(greeted.error());
  if (greeted->hello().protocol() != kProtocol) {
    co_return Invalid(path_, "the dataplane speaks another protocol", std::to_string(kProtocol),
                      std::to_string(greeted->hello().protocol()));
  }
  hello_ = greeted->hello();

  steer::Request subscription;
  subscription.mutable_subscribe();
  if (auto subscribed = co_await client_->Call(std::move(subscription)); !subscribed) {
    co_return tl::unexpected(subscribed.error());
  }
  const steer::HelloReply hello = *hello_;  // `hello_` goes when the connection does
  const auto reconciled = co_await reconcile(hello);
  if (!reconciled) co_return reconciled;
  if (!hello_) co_return Fail(ErrorKind::kUnavailable, error_);
  ready_ = true;
  error_.clear();
  events_.Tell("connected", fmt::format("connected to dataplane '{}', incarnation {}",
                                        hello.instance(), hello.incarnation()));
  co_return Result<void>{};
}

void DataplaneLink::Broke(const std::string& why) {
  ready_ = false;
  hello_.reset();
  error_ = why;
  broken_.cancel();
}

asio::awaitable<Result<steer::Response>> DataplaneLink::Call(steer::Request request) {
  if (!client_ || !client_->connected()) {
    co_return Fail(ErrorKind::kUnavailable, "the dataplane is away: " + error_);
  }
  co_return co_await client_->Call(std::move(request));
}

void DataplaneLink::Stop() {
  stopping_ = true;
  Broke(client_name_ + " is ending");
  if (client_) client_->Close();
  pause_.cancel();
}

void DataplaneLink::Reconnect(const std::string& why) {
  if (!hello_) return;
  Broke(why);
  events_.Tell("disconnected", why);
  if (client_) client_->Close();
}

void DataplaneLink::OnEvent(const steer::Event& event) {
  const auto time =
      std::chrono::system_clock::time_point(std::chrono::milliseconds(event.wall_ms()));
  events_.Publish({0, time, "dataplane", event.kind(), event.peer(), event.sa(), "", event.text()});
}

}  // namespace portcullis
