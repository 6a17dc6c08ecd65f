#include "control/identity/crl_follower.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "control/identity/test_pki.hpp"

namespace portcullis::identity {
namespace {

using namespace test;
using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace fs = std::filesystem;
using tcp = asio::ip::tcp;
using boost::system::error_code;

std::string Ok(const std::string& body) {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
}

void Say(tcp::socket& socket, const std::string& text) {
  error_code ignored;
  asio::write(socket, asio::buffer(text), ignored);
}

// Until the other side has had enough.
void SayNothing(tcp::socket& socket) {
  error_code gone;
  std::array<char, 64> ignored{};
  while (!gone) socket.read_some(asio::buffer(ignored), gone);
}

void Dribble(tcp::socket& socket) {
  Say(socket, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
  error_code gone;
  while (!gone) {
    asio::write(socket, asio::buffer("x", 1), gone);
    std::this_thread::sleep_for(5ms);
  }
}

// Answers each connection with the next of what it was told, the last one for ever.
class HttpServer {
 public:
  using Answer = std::function<void(tcp::socket&)>;

  explicit HttpServer(std::vector<Answer> answers)
      : answers_(std::move(answers)), thread_([this] { Serve(); }) {}
  ~HttpServer() {
    stopping_ = true;
    error_code ignored;
    tcp::socket(io_).connect(acceptor_.local_endpoint(), ignored);  // wakes accept()
    thread_.join();
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] CrlLocation Location() const {
    return *CrlLocation::Parse(
        fmt::format("http://127.0.0.1:{}/ca.crl?v=1", acceptor_.local_endpoint().port()));
  }
  [[nodiscard]] std::string request() {
    const std::lock_guard lock(mutex_);
    return request_;
  }

 private:
  void Serve() {
    for (size_t next = 0;; next = std::min(next + 1, answers_.size() - 1)) {
      tcp::socket socket(io_);
      acceptor_.accept(socket);
      if (stopping_) return;
      asio::streambuf buffer;
      error_code ignored;
      const size_t length = asio::read_until(socket, buffer, "\r\n\r\n", ignored);
      {
        const std::lock_guard lock(mutex_);
        request_.assign(static_cast<const char*>(buffer.data().data()), length);
      }
      answers_[next](socket);
    }
  }

  std::vector<Answer> answers_;
  asio::io_context io_;
  tcp::acceptor acceptor_{io_, {asio::ip::address_v4::loopback(), 0}};
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::string request_;  // the last one; guarded by mutex_
  std::thread thread_;
};

class CrlFollowerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-follow-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    Write("root.pem", Pem(root_.certificate.get()));
    authorities_ = *Authorities::Load({{{directory_ / "root.pem"}}, {}});
  }
  void TearDown() override { fs::remove_all(directory_); }

  void Write(const char* name, const std::string& content) const {
    std::ofstream(directory_ / name, std::ios::binary) << content;
  }
  std::string List(const std::string& number) const {
    return Der(IssueCrl({.number = number}, root_).get());
  }
  std::unique_ptr<CrlFollower> Follow(const CrlLocation& location, FetchLimits limits = {}) {
    return std::make_unique<CrlFollower>(io_.get_executor(),
                                         CrlFollowerSettings{location, limits, 1ms, 1ms},
                                         authorities_, revocations_);
  }
  // Empty when it went well.
  std::string Refresh(CrlFollower& follower) {
    auto refreshed = asio::co_spawn(io_, follower.Refresh(), asio::use_future);
    io_.restart();
    io_.run();
    const auto result = refreshed.get();
    const std::string text = result ? "" : result.error().Text();
    EXPECT_EQ(follower.status().error, text);
    return text;
  }
  std::string InForce() const {
    const auto lists = revocations_.lists();
    return lists.empty() ? "" : lists.front()->number();
  }

  fs::path directory_;
  Issued root_ = Issue(CaSpec("root"));
  std::shared_ptr<const Authorities> authorities_;
  Revocations revocations_{0s};
  asio::io_context io_;
};

void ExpectWords(const std::string& text, const std::string& words) {
  EXPECT_NE(text.find(words), std::string::npos) << text;
}

TEST_F(CrlFollowerTest, AFileIsReadAgainWhenItHasChanged) {
  const fs::path path = directory_ / "root.crl";
  const auto follower = Follow(*CrlLocation::Parse(path));
  ExpectWords(Refresh(*follower), path);
  EXPECT_FALSE(follower->status().succeeded);
  EXPECT_TRUE(follower->status().attempted);
  Write("root.crl", List("01"));
  EXPECT_EQ(Refresh(*follower), "");
  EXPECT_EQ(InForce(), "01");
  EXPECT_EQ(Refresh(*follower), "");
  Write("root.crl", List("02"));
  EXPECT_EQ(Refresh(*follower), "");
  EXPECT_EQ(InForce(), "02");
  EXPECT_EQ(follower->status().list->number(), "02");
  Write("root.crl", List("01"));
  ExpectWords(Refresh(*follower), "older");
  EXPECT_EQ(InForce(), "02");
}

TEST_F(CrlFollowerTest, AFileThatIsTooLargeOrNoneIsRefused) {
  Write("root.crl", List("01"));
  const auto location = *CrlLocation::Parse(directory_ / "root.crl");
  ExpectWords(Refresh(*Follow(location, {.bytes = 50})), "at most 50 bytes");
  ExpectWords(Refresh(*Follow(*CrlLocation::Parse(directory_))), "not a regular file");
  EXPECT_EQ(InForce(), "");
  EXPECT_EQ(Refresh(*Follow(location)), "");
}

TEST_F(CrlFollowerTest, FailuresLeaveTheLastGoodListInForce) {
  const std::string good = List("01");
  HttpServer server({
      [&](auto& socket) { Say(socket, Ok(good)); },
      [](auto& socket) { Say(socket, Ok("<html>nothing here</html>")); },
      [](auto& socket) { Say(socket, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"); },
      [](auto& socket) {
        Say(socket,
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
      },
      [](auto& socket) { Say(socket, "not HTTP at all\r\n\r\n"); },
      [&](auto& socket) { Say(socket, Ok(good).substr(0, 100)); },
      [&](auto& socket) { Say(socket, Ok(List("02"))); },
  });
  const auto follower = Follow(server.Location());
  EXPECT_EQ(Refresh(*follower), "");
  ExpectWords(Refresh(*follower), "no revocation list");
  const auto when = follower->status().succeeded;
  ExpectWords(Refresh(*follower), "status 404");
  ExpectWords(Refresh(*follower), "status 302");
  ExpectWords(Refresh(*follower), "reading the answer");
  ExpectWords(Refresh(*follower), "reading the answer");
  EXPECT_EQ(InForce(), "01");
  EXPECT_EQ(follower->status().succeeded, when);
  EXPECT_EQ(follower->status().list->number(), "01");
  EXPECT_EQ(Refresh(*follower), "");
  EXPECT_EQ(InForce(), "02");
}

TEST_F(CrlFollowerTest, AsksAsHttpWantsIt) {
  std::string good = List("01");
  auto server = std::make_unique<HttpServer>(
      std::vector<HttpServer::Answer>{[&](auto& socket) { Say(socket, Ok(good)); }});
  const auto location = server->Location();
  EXPECT_EQ(Refresh(*Follow(location)), "");
  ExpectWords(server->request(), "GET /ca.crl?v=1 HTTP/1.1\r\n");
  ExpectWords(server->request(), "Host: 127.0.0.1:" + location.port() + "\r\n");
  server.reset();
  ExpectWords(Refresh(*Follow(location)), "connecting");
}

TEST_F(CrlFollowerTest, ServersCannotHoldOrFloodIt) {
  const std::string good = List("01");
  const FetchLimits limits{.bytes = good.size(), .time = 300ms};
  HttpServer server({
      SayNothing,
      Dribble,
      [&](auto& socket) { Say(socket, Ok(good + "x")); },
      [&](auto& socket) {  // no length: it ends when the server closes
        Say(socket, "HTTP/1.1 200 OK\r\n\r\n" + std::string(1U << 20U, 'x'));
      },
      [&](auto& socket) { Say(socket, "HTTP/1.1 200 OK\r\nX: " + std::string(1U << 20U, 'x')); },
      [&](auto& socket) { Say(socket, Ok(good)); },
  });
  const auto follower = Follow(server.Location(), limits);
  const auto patient = Follow(server.Location(), {.bytes = limits.bytes});
  ExpectWords(Refresh(*follower), "within 300 ms");
  const auto wide = Follow(server.Location(), {.time = limits.time});
  ExpectWords(Refresh(*wide), "within 300 ms");
  ExpectWords(Refresh(*patient), "too large");
  ExpectWords(Refresh(*patient), "too large");
  ExpectWords(Refresh(*patient), "reading the answer");
  EXPECT_EQ(Refresh(*patient), "");
}

TEST_F(CrlFollowerTest, FollowsUntilItIsStopped) {
  const std::vector<std::string> lists = {List("01"), List("02"), List("03")};
  HttpServer server({
      [](auto& socket) { Say(socket, Ok("garbage")); },
      [&](auto& socket) { Say(socket, Ok(lists[0])); },
      [&](auto& socket) { Say(socket, Ok(lists[1])); },
      [](auto& socket) { Say(socket, Ok("garbage")); },
      [&](auto& socket) { Say(socket, Ok(lists[2])); },
  });
  const auto follower = Follow(server.Location());
  asio::co_spawn(io_, follower->Run(), asio::detached);
  while (InForce() != "03") ASSERT_NE(io_.run_one_for(60s), 0U) << follower->status().error;
  follower->Stop();
  io_.run();  // ends, since nothing is left to do
  EXPECT_EQ(follower->status().list->number(), "03");
}

TEST(CrlLocation, IsAPathOrPlainHttp) {
  const auto v6 = CrlLocation::Parse("http://[2001:db8::1]:8080/a/b.crl?x=1");
  ASSERT_TRUE(v6) << v6.error().Text();
  EXPECT_EQ(v6->host(), "2001:db8::1");
  EXPECT_EQ(v6->Authority(), "[2001:db8::1]:8080");
  EXPECT_EQ(v6->target(), "/a/b.crl?x=1");
  const auto bare = CrlLocation::Parse("http://crl.example");
  ASSERT_TRUE(bare) << bare.error().Text();
  EXPECT_EQ(bare->Authority(), "crl.example:80");
  EXPECT_EQ(bare->target(), "/");
  EXPECT_FALSE(CrlLocation::Parse("/var/lib/ca.crl")->is_http());
  for (const char* text : {"", "ca.crl", "https://crl.example/ca.crl", "ldap://crl.example/",
                           "http://", "http://user:password@crl.example/", "http://crl.example/a b",
                           "http://crl.example/\r\nX: y", "http://crl.example:99999/"}) {
    EXPECT_FALSE(CrlLocation::Parse(text)) << text;
  }
}

}  // namespace
}  // namespace portcullis::identity
