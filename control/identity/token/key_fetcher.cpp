#include "control/identity/token/key_fetcher.hpp"
#include "control/coroutines.hpp"

#include <boost/asio/post.hpp>
#include <fstream>
#include <utility>

namespace portcullis::identity {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {
constexpr size_t kMostBytes = 256U << 10U;  // a hundred RSA keys with their certificates

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (!file.eof() || text.size() > kMostBytes) {
    return Invalid(path, "cannot be used as a key set",
                   fmt::format("a readable file of at most {} bytes", kMostBytes));
  }
  return text;
}
}  // namespace

Result<std::shared_ptr<KeyFetcher>> KeyFetcher::Create(const asio::any_io_executor& executor,
                                                       const std::shared_ptr<Issuer>& issuer,
                                                       Tell tell) {
  const IssuerConfig& config = issuer->config();
  std::optional<HttpsClient> web;
  if (!config.keys.starts_with('/')) {
    auto client = HttpsClient::Create(config.keys, {config.keys_ca, {}, {}}, config.claims.issuer);
    if (!client) return tl::unexpected(client.error());
    web = std::move(*client);
  }
  std::shared_ptr<KeyFetcher> fetcher(
      new KeyFetcher(executor, issuer, std::move(tell), std::move(web)));
  issuer->OnWantKeys([weak = std::weak_ptr(fetcher)] {
    if (const auto alive = weak.lock()) alive->Want();
  });
  return fetcher;
}

KeyFetcher::KeyFetcher(const asio::any_io_executor& executor, std::shared_ptr<Issuer> issuer,
                       Tell tell, std::optional<HttpsClient> web)
    : executor_(executor),
      issuer_(std::move(issuer)),
      tell_(std::move(tell)),
      web_(std::move(web)),
      pause_(executor) {}

void KeyFetcher::Want() {
  if (wanted_.exchange(true)) return;  // somebody has asked already, and nothing came since
  asio::post(executor_, [self = shared_from_this()] { self->pause_.cancel(); });
}

void KeyFetcher::Stop() {
  stopping_ = true;
  pause_.cancel();
}

void KeyFetcher::FetchNow() {
  now_ = true;
  pause_.cancel();
}

asio::awaitable<void> KeyFetcher::Run() {
  const auto self = shared_from_this();
  const IssuerConfig& config = issuer_->config();
  while (!stopping_) {
    wanted_ = false;
    now_ = false;
    const Moment started = Moment::Now();
    const auto text = co_await Fetch();
    if (stopping_) co_return;
    const auto news = Take(text, started);
    tell_(news);
    const auto soonest = started.steady + config.refresh_gap;
    const auto due = news ? started.steady + config.refresh_every : soonest;
    while (!stopping_ && !now_ && Clock::now() < (wanted_ ? soonest : due)) {
      pause_.expires_at(wanted_ ? soonest : due);
      co_await pause_.async_wait(kAwait);  // cut short by Want() and Stop()
    }
  }
}

asio::awaitable<Result<std::string>> KeyFetcher::Fetch() {
  if (!web_) co_return ReadFile(issuer_->config().keys);
  HttpsClient::Question question{{}, kMostBytes, issuer_->config().fetch_timeout};
  co_return co_await web_->Ask(executor_, std::move(question));
}

Result<KeyFetcher::News> KeyFetcher::Take(const Result<std::string>& text, const Moment& started) {
  auto set = text.and_then(
      [&](const std::string& got) { return KeySet::Parse(got, issuer_->config().algorithms); });
  if (!set) {
    Error error = set.error();
    error.message = fmt::format("the key set of {} was not renewed: {}",
                                issuer_->config().claims.issuer, error.message);
    return tl::unexpected(std::move(error));
  }
  News news;
  news.notes = set->notes();
  news.vanished = issuer_->Replace(std::move(*set), started);
  return news;
}

}  // namespace portcullis::identity
