#include "control/guard/background.hpp"
#include "control/coroutines.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::CrlFollower;
using identity::Issuer;
using identity::IssuerConfig;
using identity::KeyFetcher;

namespace {

constexpr std::chrono::seconds kWatchEvery{5};

asio::awaitable<void> Run(std::shared_ptr<CrlFollower> follower) {
  co_await follower->Run();
}

bool Same(const IssuerConfig& a, const IssuerConfig& b) {
  return a.claims.issuer == b.claims.issuer && a.claims.audiences == b.claims.audiences &&
         a.algorithms == b.algorithms && a.keys == b.keys && a.keys_ca == b.keys_ca;
}

}  // namespace

Background::Background(identity::Revocations& revocations, TellVanished tell)
    : revocations_(revocations),
      tell_vanished_(std::move(tell)),
      work_(asio::make_work_guard(io_)) {
  asio::co_spawn(io_, Watch(), Rethrow);
  thread_ = std::thread([this] { io_.run(); });
}

Background::~Background() {  // NOLINT(bugprone-exception-escape): see the header
  asio::post(io_, [this] {
    stopping_ = true;
    pause_.cancel();
    for (const auto& list : lists_) list->Stop();
    for (const auto& issuer : issuers_) issuer.fetcher->Stop();
    work_.reset();
  });
  thread_.join();
}

Result<Background::Followed> Background::Follow(const IssuerConfig& config) {
  const auto known = std::find_if(issuers_.begin(), issuers_.end(), [&](const auto& followed) {
    return Same(followed.config, config);
  });
  if (known != issuers_.end()) return *known;
  auto issuer = std::make_shared<Issuer>(config);
  auto error = std::make_shared<LastError>();
  const auto tell = [this, name = config.claims.issuer,
                     error](const Result<KeyFetcher::News>& news) {
    {
      const std::lock_guard lock(error->mutex);
      error->text = news ? "" : news.error().Text();
    }
    if (!news) return spdlog::warn("{}", news.error().Text());
    for (const auto& note : news->notes) spdlog::warn("keys of {}: {}", name, note);
    for (const auto& kid : news->vanished) spdlog::warn("keys of {}: {} is gone", name, kid);
    if (!news->vanished.empty()) tell_vanished_(name, news->vanished);
  };
  auto fetcher = KeyFetcher::Create(io_.get_executor(), issuer, tell);
  if (!fetcher) return tl::unexpected(fetcher.error());
  return Followed{config, std::move(issuer), *std::move(fetcher), std::move(error)};
}

Result<std::vector<std::shared_ptr<const Issuer>>> Background::FollowIssuers(
    const std::vector<IssuerConfig>& configs) {
  std::vector<Followed> next;
  std::vector<std::shared_ptr<const Issuer>> issuers;
  for (const auto& config : configs) {
    auto followed = Follow(config);
    if (!followed) return tl::unexpected(followed.error());
    issuers.push_back(followed->issuer);
    next.push_back(*std::move(followed));
  }
  const auto follows = [](const std::vector<Followed>& all, const Followed& one) {
    return std::any_of(all.begin(), all.end(),
                       [&](const auto& other) { return other.fetcher == one.fetcher; });
  };
  for (const auto& one : next) {
    if (follows(issuers_, one)) {
      asio::post(io_, [fetcher = one.fetcher] { fetcher->FetchNow(); });
    } else {
      asio::co_spawn(io_, one.fetcher->Run(), Rethrow);
    }
  }
  for (const auto& one : issuers_) {
    if (!follows(next, one)) asio::post(io_, [fetcher = one.fetcher] { fetcher->Stop(); });
  }
  issuers_ = std::move(next);
  return issuers;
}

void Background::FollowLists(const std::vector<identity::CrlLocation>& locations,
                             const std::shared_ptr<const identity::Authorities>& authorities) {
  std::vector<std::shared_ptr<CrlFollower>> next;
  for (const auto& location : locations) {
    identity::CrlFollowerSettings settings{location, {}};
    next.push_back(std::make_shared<CrlFollower>(io_.get_executor(), std::move(settings),
                                                 authorities, revocations_));
  }
  shown_.assign(next.begin(), next.end());
  asio::post(io_, [this, next = std::move(next)] {
    for (const auto& old : lists_) old->Stop();
    lists_ = next;
    for (const auto& follower : lists_) asio::co_spawn(io_, Run(follower), Rethrow);
  });
}

// Followers say how they fare when they are asked; the log is told once per change.
asio::awaitable<void> Background::Watch() {
  while (!stopping_) {
    for (const auto& follower : lists_) {
      const identity::CrlStatus status = follower->status();
      std::string& told = told_[status.location];
      if (status.error == told) continue;
      if (status.error.empty()) {
        spdlog::info("revocation list {}: in force again", status.location);
      } else {
        spdlog::warn("revocation list {}: {}", status.location, status.error);
      }
      told = status.error;
    }
    pause_.expires_after(kWatchEvery);
    co_await pause_.async_wait(kAwait);
  }
}

}  // namespace portcullis::guard
