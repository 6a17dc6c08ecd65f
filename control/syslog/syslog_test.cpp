// With real sockets on loopback.
#include "control/syslog/syslog.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>

namespace portcullis {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using namespace std::chrono_literals;

const auto kLoopback = asio::ip::make_address("127.0.0.1");
constexpr std::chrono::system_clock::time_point kTime{1'700'000'000s};
constexpr const char* kHead = "<109>1 2023-11-14T22:13:20.000Z ";

class SyslogTest : public testing::Test {
 protected:
  // Lets everything run until it is so.
  void Until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (!done() && std::chrono::steady_clock::now() < end) io_.run_one_for(20ms);
    ASSERT_TRUE(done());
  }
  void Start(Syslog& log) { asio::co_spawn(io_, log.Run(), asio::detached); }
  void End(Syslog& log) {
    log.Stop();
    io_.restart();
    io_.run_for(10s);
    EXPECT_TRUE(io_.stopped());
  }
  // What has come so far, without waiting.
  static std::string Come(tcp::socket& socket) {
    std::string text(65536, '\0');
    boost::system::error_code error;
    socket.non_blocking(true);
    text.resize(socket.read_some(asio::buffer(text), error));
    return text;
  }

  asio::io_context io_;
};

TEST_F(SyslogTest, Udp) {
  udp::socket collector(io_, udp::endpoint(kLoopback, 0));
  Syslog log(io_.get_executor(),
             {kLoopback, collector.local_endpoint().port(), Syslog::Transport::udp});
  log.Send(kTime, "{\"a\":1}");
  std::string text(2048, '\0');
  text.resize(collector.receive(asio::buffer(text)));
  EXPECT_TRUE(text.starts_with(kHead)) << text;
  EXPECT_TRUE(text.ends_with(" audit - {\"a\":1}")) << text;
  EXPECT_EQ(log.lost(), 0U);
}

TEST_F(SyslogTest, WhatUdpCannotCarryIsCounted) {
  udp::socket collector(io_, udp::endpoint(kLoopback, 0));
  Syslog log(io_.get_executor(),
             {kLoopback, collector.local_endpoint().port(), Syslog::Transport::udp});
  log.Send(kTime, std::string(70'000, 'x'));
  EXPECT_EQ(log.lost(), 1U);
  log.Send(kTime, "small");
  EXPECT_EQ(log.lost(), 1U);
}

TEST_F(SyslogTest, TcpCountsOctets) {
  tcp::acceptor collector(io_, tcp::endpoint(kLoopback, 0));
  Syslog log(io_.get_executor(),
             {kLoopback, collector.local_endpoint().port(), Syslog::Transport::tcp});
  log.Send(kTime, "one");
  Start(log);
  tcp::socket there(io_);
  bool accepted = false;
  collector.async_accept(there, [&](auto) { accepted = true; });
  Until([&] { return accepted; });
  log.Send(kTime, "two");
  std::string text;
  Until([&] {
    text += Come(there);
    return text.ends_with("two");
  });
  const size_t blank = text.find(' ');
  const size_t length = std::stoul(text.substr(0, blank));
  const std::string first = text.substr(blank + 1, length);
  EXPECT_TRUE(first.starts_with(kHead)) << first;
  EXPECT_TRUE(first.ends_with(" audit - one")) << first;
  EXPECT_EQ(text.substr(blank + 1 + length, text.find(' ')), text.substr(0, blank));
  End(log);
  EXPECT_EQ(log.lost(), 0U);
}

// Nobody listens: nothing waits, the queue has an end, and what came in time is sent later.
TEST_F(SyslogTest, TcpQueueIsBoundedAndSurvivesAnOutage) {
  tcp::endpoint where;
  {
    tcp::acceptor collector(io_, tcp::endpoint(kLoopback, 0));
    where = collector.local_endpoint();
  }
  Syslog log(io_.get_executor(), {kLoopback, where.port(), Syslog::Transport::tcp});
  Start(log);
  for (size_t i = 0; i < Syslog::kMostQueued + 5; ++i) {
    log.Send(kTime, "number " + std::to_string(i));
    io_.poll();
  }
  EXPECT_EQ(log.lost(), 5U);
  tcp::acceptor collector(io_, where);
  tcp::socket there(io_);
  bool accepted = false;
  collector.async_accept(there, [&](auto) { accepted = true; });
  Until([&] { return accepted; });
  std::string text;
  Until([&] {
    text += Come(there);
    return text.ends_with("number " + std::to_string(Syslog::kMostQueued - 1));
  });
  EXPECT_NE(text.find("number 0"), std::string::npos);

  // The collector is restarted: what is sent afterwards arrives on the next connection.
  there.close();
  accepted = false;
  collector.async_accept(there, [&](auto) { accepted = true; });
  log.Send(kTime, "after");
  Until([&] { return accepted; });
  text.clear();
  Until([&] {
    text += Come(there);
    return text.ends_with(" audit - after");
  });
  EXPECT_EQ(log.lost(), 5U);
  End(log);
}

}  // namespace
}  // namespace portcullis
