#include "control/identity/crl_follower.hpp"
#include "control/coroutines.hpp"

#include <utility>

namespace portcullis::identity {

namespace asio = boost::asio;
using std::chrono::system_clock;

CrlFollower::CrlFollower(const asio::any_io_executor& executor, CrlFollowerSettings settings,
                         std::shared_ptr<const Authorities> authorities, Revocations& revocations)
    : settings_(std::move(settings)),
      authorities_(std::move(authorities)),
      revocations_(revocations),
      pause_(executor),
      status_{.location = settings_.location.text()} {}

asio::awaitable<void> CrlFollower::Run() {
  std::chrono::milliseconds wait{0};  // the first time at once
  const asio::any_io_executor executor = pause_.get_executor();
  while (!stopping_) {
    pause_.expires_after(wait);
    co_await pause_.async_wait(kAwait);
    if (stopping_) co_return;
    // Not a conditional expression: GCC 12 destroys what co_await gives in one of them twice.
    Result<std::string> bytes;
    if (settings_.location.is_http()) {
      bytes = co_await FetchHttp(executor, settings_.location, settings_.limits);
    } else {
      bytes = ReadFile(settings_.location, settings_.limits);
    }
    const auto list = Install(bytes);
    Note(list);
    wait = list ? settings_.interval : settings_.retry;
  }
}

Result<std::shared_ptr<const RevocationList>> CrlFollower::Install(
    const Result<std::string>& bytes) {
  if (!bytes) return tl::unexpected(bytes.error());
  auto digest = HexSha256(*bytes);
  if (digest == fetched_) return status().list;
  auto list = RevocationList::Read(*bytes, *authorities_, settings_.location.text());
  if (!list) return list;
  if (const auto installed = revocations_.Install(*list, system_clock::now()); !installed) {
    return tl::unexpected(installed.error());
  }
  fetched_ = std::move(digest);
  return list;
}

void CrlFollower::Note(const Result<std::shared_ptr<const RevocationList>>& list) {
  const std::lock_guard lock(mutex_);
  ++status_.attempts;
  status_.error = list ? "" : list.error().Text();
  if (!list) return;
  status_.succeeded = system_clock::now();
  status_.list = *list;
}

void CrlFollower::Stop() {
  stopping_ = true;
  pause_.cancel();
}

void CrlFollower::RefreshNow() {
  pause_.cancel();
}

CrlStatus CrlFollower::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace portcullis::identity
