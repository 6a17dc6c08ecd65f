#include "control/identity/crl_follower.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace portcullis::identity {

namespace asio = boost::asio;
using std::chrono::system_clock;

CrlFollower::CrlFollower(asio::any_io_executor executor, CrlFollowerSettings settings,
                         std::shared_ptr<const Authorities> authorities, Revocations& revocations)
    : settings_(std::move(settings)),
      authorities_(std::move(authorities)),
      revocations_(revocations),
      pause_(std::move(executor)),
      status_{.location = settings_.location.text()} {}

asio::awaitable<Result<std::shared_ptr<const RevocationList>>> CrlFollower::FetchAndInstall() {
  const auto bytes = co_await Fetch(settings_.location, settings_.limits);
  if (!bytes) co_return tl::unexpected(bytes.error());
  auto digest = HexSha256(*bytes);
  if (digest == fetched_) co_return status().list;
  const auto list = RevocationList::Read(*bytes, *authorities_, settings_.location.text());
  if (!list) co_return tl::unexpected(list.error());
  if (const auto installed = revocations_.Install(*list, system_clock::now()); !installed) {
    co_return tl::unexpected(installed.error());
  }
  fetched_ = std::move(digest);
  co_return *list;
}

asio::awaitable<Result<void>> CrlFollower::Refresh() {
  const auto list = co_await FetchAndInstall();
  const std::lock_guard lock(mutex_);
  status_.attempted = system_clock::now();
  if (!list) {
    status_.error = list.error().Text();
    co_return tl::unexpected(list.error());
  }
  status_.error.clear();
  status_.succeeded = status_.attempted;
  status_.list = *list;
  co_return Result<void>();
}

asio::awaitable<void> CrlFollower::Run() {
  while (!stopping_) {
    const auto refreshed = co_await Refresh();
    if (stopping_) co_return;
    pause_.expires_after(refreshed ? settings_.interval : settings_.retry);
    co_await pause_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

void CrlFollower::Stop() {
  stopping_ = true;
  pause_.cancel();
}

CrlStatus CrlFollower::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace portcullis::identity
