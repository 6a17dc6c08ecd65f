#include "dataplane/steer/client.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "dataplane/steer/messages.hpp"
#include "dataplane/steer/server.hpp"

namespace portcullis {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

// A real server on a thread of its own, as the dataplane's main thread is one.
class SteerClientTest : public testing::Test {
 protected:
  SteerClientTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "steer-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    path_ = folder_ / "steer.sock";
  }
  ~SteerClientTest() override {
    Stop();
    std::filesystem::remove_all(folder_);
  }

  void Serve(SteerServer::Handler handler) {
    auto server = SteerServer::Listen(path_, {}, std::move(handler));
    ASSERT_TRUE(server) << server.error().Text();
    stop_ = false;
    thread_ = std::thread([this, server = std::move(*server)]() mutable {
      while (!stop_) {
        server.Poll(5ms);
        if (publish_.exchange(false)) {
          steer::Drop drop;
          drop.set_verdict("xdp_unknown_spi");
          server.Publish(drop);
          steer::Event event;
          event.set_kind("port_up");
          server.Publish(event);
        }
      }
    });
  }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  template <class Coroutine>
  void Run(Coroutine coroutine) {
    asio::io_context io;
    auto done = asio::co_spawn(io, std::move(coroutine), asio::use_future);
    io.run_for(20s);
    ASSERT_EQ(done.wait_for(0s), std::future_status::ready) << "the coroutine never ended";
    done.get();
  }

  static SteerServer::Handler Echo() {
    return [](const steer::Request& request, steer::Response& response) {
      response.mutable_hello()->set_instance(request.hello().client());
    };
  }
  static steer::Request Hello(const std::string& name) {
    steer::Request request;
    request.mutable_hello()->set_client(name);
    return request;
  }
  asio::awaitable<Result<SteerClient>> Connect(SteerClient::EventHandler on_event = {},
                                               SteerClient::CloseHandler on_close = {}) {
    co_return co_await SteerClient::Connect(co_await asio::this_coro::executor, path_,
                                            std::move(on_event), std::move(on_close));
  }

  std::filesystem::path folder_;
  std::string path_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> publish_ = false;
};

TEST_F(SteerClientTest, CallsAreAnswered) {
  Serve(Echo());
  Run([&]() -> asio::awaitable<void> {
    auto client = co_await Connect();
    EXPECT_TRUE(client.has_value());
    for (const char* name : {"one", "two"}) {
      auto answer = co_await client->Call(Hello(name));
      EXPECT_TRUE(answer.has_value());
      if (answer) {
        EXPECT_EQ(answer->hello().instance(), name);
      }
    }
  });
}

TEST_F(SteerClientTest, CallsMayOverlap) {
  Serve(Echo());
  Run([&]() -> asio::awaitable<void> {
    auto client = co_await Connect();
    const auto executor = co_await asio::this_coro::executor;
    int answered = 0;
    for (int i = 0; i < 50; ++i) {
      asio::co_spawn(
          executor,
          [&client, &answered, i]() -> asio::awaitable<void> {
            auto answer = co_await client->Call(Hello(std::to_string(i)));
            if (answer && answer->hello().instance() == std::to_string(i)) ++answered;
          },
          asio::detached);
    }
    asio::steady_timer timer(executor);
    for (int i = 0; i < 200 && answered < 50; ++i) {
      timer.expires_after(10ms);
      co_await timer.async_wait(asio::use_awaitable);
    }
    EXPECT_EQ(answered, 50);
  });
}

TEST_F(SteerClientTest, AFailureComesBackAsTheErrorItWas) {
  Serve([](const steer::Request&, steer::Response& response) {
    *response.mutable_failure() =
        steer::ToFailure({ErrorKind::kConflict, "taken", "/spi", "a free one", "0x1001"});
  });
  Run([&]() -> asio::awaitable<void> {
    auto client = co_await Connect();
    auto answer = co_await client->Call(Hello("x"));
    EXPECT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().kind, ErrorKind::kConflict);
    EXPECT_EQ(answer.error().where, "/spi");
  });
}

TEST_F(SteerClientTest, NobodyThereIsUnavailable) {
  Run([&]() -> asio::awaitable<void> {
    auto client = co_await Connect();
    EXPECT_FALSE(client.has_value());
    EXPECT_EQ(client.error().kind, ErrorKind::kUnavailable);
  });
}

TEST_F(SteerClientTest, ALateAnswerTimesOutAndTheNextCallStillWorks) {
  Serve([](const steer::Request& request, steer::Response& response) {
    if (request.hello().client() == "slow") std::this_thread::sleep_for(200ms);
    response.mutable_hello()->set_instance(request.hello().client());
  });
  Run([&]() -> asio::awaitable<void> {
    auto client = co_await Connect();
    auto slow = co_await client->Call(Hello("slow"), 50ms);
    EXPECT_FALSE(slow.has_value());
    EXPECT_EQ(slow.error().kind, ErrorKind::kUnavailable);
    auto next = co_await client->Call(Hello("next"));
    EXPECT_TRUE(next.has_value());
    if (next) {
      EXPECT_EQ(next->hello().instance(), "next");
    }
  });
}

TEST_F(SteerClientTest, AServerThatGoesIsTold) {
  Serve(Echo());
  Run([&]() -> asio::awaitable<void> {
    int closed = 0;
    auto client = co_await Connect({}, [&](const Error& error) {
      ++closed;
      EXPECT_EQ(error.kind, ErrorKind::kUnavailable);
    });
    EXPECT_TRUE((co_await client->Call(Hello("x"))).has_value());
    Stop();
    auto answer = co_await client->Call(Hello("y"));
    EXPECT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().kind, ErrorKind::kUnavailable);
    EXPECT_EQ(closed, 1);
    EXPECT_FALSE(client->connected());
    // The caller's way back: a new connection to the server's next life.
    Serve(Echo());
    auto again = co_await Connect();
    EXPECT_TRUE(again.has_value());
    if (again) {
      EXPECT_TRUE((co_await again->Call(Hello("z"))).has_value());
    }
  });
}

TEST_F(SteerClientTest, EventsAndDropsComeOnceSubscribed) {
  Serve(Echo());
  Run([&]() -> asio::awaitable<void> {
    std::string heard;
    std::string dropped;
    auto client = co_await Connect([&](const steer::Event& event) { heard = event.kind(); });
    client->OnDrop([&](const steer::Drop& drop) { dropped = drop.verdict(); });
    steer::Request subscribe;
    subscribe.mutable_subscribe();
    EXPECT_TRUE((co_await client->Call(subscribe)).has_value());
    publish_ = true;
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (int i = 0; i < 200 && heard.empty(); ++i) {
      timer.expires_after(10ms);
      co_await timer.async_wait(asio::use_awaitable);
    }
    EXPECT_EQ(heard, "port_up");
    EXPECT_EQ(dropped, "xdp_unknown_spi");
  });
}

TEST_F(SteerClientTest, ClosingEndsTheCallsUnderWay) {
  Serve([](const steer::Request&, steer::Response&) { std::this_thread::sleep_for(100ms); });
  Run([&]() -> asio::awaitable<void> {
    auto client = co_await Connect();
    const auto executor = co_await asio::this_coro::executor;
    bool ended = false;
    asio::co_spawn(
        executor,
        [&]() -> asio::awaitable<void> {
          auto answer = co_await client->Call(Hello("x"));
          ended = !answer && answer.error().kind == ErrorKind::kUnavailable;
        },
        asio::detached);
    asio::steady_timer timer(executor, 20ms);
    co_await timer.async_wait(asio::use_awaitable);
    client->Close();
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::use_awaitable);
    EXPECT_TRUE(ended);
  });
}

}  // namespace
}  // namespace portcullis
