#include "control/identity/token/key_fetcher.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <condition_variable>
#include <filesystem>
#include <fstream>

#include "control/identity/token/test_server.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::identity::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

// A fetcher that runs in a thread, as in service; its news are awaited one by one.
class Running {
 public:
  explicit Running(const IssuerConfig& config) : issuer_(std::make_shared<Issuer>(config)) {
    auto fetcher = KeyFetcher::Create(io_.get_executor(), issuer_, [this](const auto& news) {
      const std::lock_guard lock(mutex_);
      news_.push_back(news);
      changed_.notify_all();
    });
    if (!fetcher) throw std::runtime_error(fetcher.error().Text());
    fetcher_ = *fetcher;
    asio::co_spawn(io_, fetcher_->Run(), asio::detached);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~Running() {  // NOLINT(bugprone-exception-escape)
    asio::post(io_, [this] { fetcher_->Stop(); });
    thread_.join();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  Result<KeyFetcher::News> Next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 60s, [&] { return !news_.empty(); })) {
      return Fail(ErrorKind::kInternal, "no news came");
    }
    auto first = news_.front();
    news_.pop_front();
    return first;
  }
  Issuer& issuer() { return *issuer_; }
  bool Has(const char* kid) {
    const auto keys = issuer_->Keys(Moment::Now());
    return keys && keys->Find(kid) != nullptr;
  }

 private:
  asio::io_context io_;
  std::shared_ptr<Issuer> issuer_;
  std::shared_ptr<KeyFetcher> fetcher_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Result<KeyFetcher::News>> news_;
  std::thread thread_;
};

class KeyFetcherTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "portcullis-keys-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    MakeCertificate(directory_ / "server");
    MakeCertificate(directory_ / "other");
  }
  void TearDown() override { fs::remove_all(directory_); }

  // Fetches one after the other, without pauses that a test would notice.
  IssuerConfig Eager(const std::string& keys) {
    IssuerConfig config = Config();
    config.keys = keys;
    config.keys_ca = directory_ / "server.pem";
    config.refresh_every = 1ms;
    config.refresh_gap = 1ms;
    config.fetch_timeout = 5s;
    return config;
  }
  static std::string Set(const std::vector<json>& keys) { return json({{"keys", keys}}).dump(); }

  fs::path directory_;
  json a_ = With(TestKey::Ec().Jwk(), "a");
  json b_ = With(TestKey::Ec().Jwk(), "b");
};

TEST_F(KeyFetcherTest, FailuresKeepTheLastGoodSetAndRotationTellsWhatVanished) {
  TestServer server;
  const std::string good = Set({a_, b_});
  server.Then(TestServer::Http("503 Service Unavailable", ""));
  server.Then(TestServer::Good(good));
  server.Then(TestServer::Http("500 Internal Server Error", good));
  server.Then(TestServer::Http("302 Found", "", "Location: " + server.Url() + "\r\n"));
  server.Then(TestServer::Good("<html>"));
  server.Then(TestServer::Good(Set({a_, a_})));
  server.Then("garbage\r\n\r\n");
  server.Then("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
  server.Then(TestServer::Good(std::string(300'000, ' ') + good));
  server.Then({});  // silence
  server.Then(TestServer::Good(Set({b_, With(TestKey::Ec().Jwk(), "c", {{"use", "enc"}})})));

  Running fetcher(Eager(server.Url()));
  EXPECT_FALSE(fetcher.Next());
  const auto first = fetcher.Next();
  ASSERT_TRUE(first) << first.error().Text();
  EXPECT_TRUE(first->vanished.empty());
  for (int i = 0; i < 8; ++i) {
    const auto failed = fetcher.Next();
    EXPECT_FALSE(failed) << i;
    EXPECT_TRUE(fetcher.Has("a")) << i;
  }
  const auto rotated = fetcher.Next();
  ASSERT_TRUE(rotated) << rotated.error().Text();
  EXPECT_EQ(rotated->vanished, std::vector<std::string>{"a"});
  EXPECT_EQ(rotated->notes.size(), 1U);
  EXPECT_FALSE(fetcher.Has("a"));
  EXPECT_TRUE(fetcher.Has("b"));
}

TEST_F(KeyFetcherTest, NobodyThere) {
  std::string url;
  {
    const TestServer gone;
    url = gone.Url();
  }
  Running fetcher(Eager(url));
  EXPECT_FALSE(fetcher.Next());
  EXPECT_FALSE(fetcher.Next());
  EXPECT_FALSE(fetcher.Has("a"));
}

TEST_F(KeyFetcherTest, UnknownKeysBringOneFetchForward) {
  TestServer server;
  server.Then(TestServer::Good(Set({a_})));
  server.Then(TestServer::Good(Set({a_, b_})));
  IssuerConfig config = Eager(server.Url());
  config.refresh_every = 1h;
  config.keep_for = 1h;
  config.refresh_gap = 300ms;
  const auto begin = std::chrono::steady_clock::now();
  Running fetcher(config);
  ASSERT_TRUE(fetcher.Next());
  for (int i = 0; i < 1000; ++i) fetcher.issuer().WantKeys();
  ASSERT_TRUE(fetcher.Next());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 300ms);
  EXPECT_TRUE(fetcher.Has("b"));
  EXPECT_EQ(server.Requests().size(), 2U);
}

TEST_F(KeyFetcherTest, WantedKeysDoNotComeBeforeTheGap) {
  TestServer server;
  server.Then(TestServer::Good(Set({a_})));
  IssuerConfig config = Eager(server.Url());
  config.refresh_every = config.refresh_gap = config.keep_for = 1h;
  {
    Running fetcher(config);
    ASSERT_TRUE(fetcher.Next());
    for (int i = 0; i < 1000; ++i) fetcher.issuer().WantKeys();
  }
  EXPECT_EQ(server.Requests().size(), 1U);
  EXPECT_TRUE(server.Requests()[0].starts_with("GET /path HTTP/1.1\r\n"));
}

TEST_F(KeyFetcherTest, HttpsNeedsTheConfiguredAuthorityAndTheName) {
  TestServer server(directory_ / "server");
  server.Then(TestServer::Good(Set({a_})));
  IssuerConfig config = Eager(server.Url());
  {
    Running fetcher(config);
    const auto news = fetcher.Next();
    EXPECT_TRUE(news) << news.error().Text();
  }
  config.keys = server.Url("localhost");  // the certificate is for 127.0.0.1
  EXPECT_FALSE(Running(config).Next());
  config.keys = server.Url();
  config.keys_ca = directory_ / "other.pem";
  EXPECT_FALSE(Running(config).Next());
  config.keys_ca = directory_ / "missing.pem";
  EXPECT_FALSE(KeyFetcher::Create(asio::system_executor(), std::make_shared<Issuer>(config), {}));
}

TEST_F(KeyFetcherTest, FromAFile) {
  const fs::path path = directory_ / "keys.json";
  const auto write = [&](const std::string& text) {
    std::ofstream(path.string() + ".new") << text;
    fs::rename(path.string() + ".new", path);
  };
  const auto until = [](Running& fetcher, auto wanted) {
    for (int i = 0; i < 100'000; ++i) {
      if (wanted(fetcher.Next())) return true;
    }
    return false;
  };
  Running fetcher(Eager(path));
  EXPECT_FALSE(fetcher.Next());
  write(Set({a_}));
  EXPECT_TRUE(until(fetcher, [](const auto& news) { return news.has_value(); }));
  EXPECT_TRUE(fetcher.Has("a"));
  write(std::string(300'000, ' '));
  EXPECT_TRUE(until(fetcher, [](const auto& news) { return !news; }));
  EXPECT_TRUE(fetcher.Has("a"));
  write(Set({b_}));
  EXPECT_TRUE(until(fetcher, [](const auto& news) {
    return news && news->vanished == std::vector<std::string>{"a"};
  }));
}

}  // namespace
}  // namespace portcullis::identity::test
