// How the guard fares, for control: once it has found control, and again every few seconds. What
// will run out is told in full, whenever that is: who is to be warned when is control's affair.
#include <algorithm>

#include "control/coroutines.hpp"
#include "control/guard/guard.hpp"

namespace portcullis::guard {

namespace asio = boost::asio;
using identity::Expiry;
using std::chrono::system_clock;

namespace {

constexpr std::chrono::milliseconds kTick{200};
constexpr std::chrono::seconds kReportEvery{2};
// A message to control has at most 64 KiB (admission.proto).
constexpr size_t kMostEndings = 100;
constexpr size_t kMostFollowed = 40;
constexpr size_t kMostText = 256;

uint64_t Seconds(system_clock::time_point time) {
  return static_cast<uint64_t>(std::max<int64_t>(0, system_clock::to_time_t(time)));
}

void Append(std::vector<Expiry>& all, const std::vector<Expiry>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

// The next ones, each once: several listeners may show one certificate.
void Put(std::vector<Expiry> endings, admission::Status& status) {
  std::ranges::sort(endings, {}, [](const Expiry& e) { return std::pair(e.when, e.what); });
  const auto same = [](const Expiry& a, const Expiry& b) { return a.what == b.what; };
  endings.erase(std::unique(endings.begin(), endings.end(), same), endings.end());
  if (endings.size() > kMostEndings) endings.resize(kMostEndings);
  for (const Expiry& e : endings) {
    admission::Expiring& ending = *status.add_expiring();
    ending.set_what(e.what.substr(0, kMostText));
    ending.set_since(Seconds(e.since));
    ending.set_when(Seconds(e.when));
  }
}

template <class List>
void Put(const std::vector<admission::Followed>& followed, List& list) {
  for (size_t i = 0; i < std::min(followed.size(), kMostFollowed); ++i) *list.Add() = followed[i];
}

admission::Followed State(const std::string& what, const std::string& error,
                          std::optional<system_clock::time_point> succeeded) {
  admission::Followed state;
  state.set_what(what.substr(0, kMostText));
  state.set_error(error.substr(0, kMostText));
  if (succeeded) state.set_succeeded(Seconds(*succeeded));
  return state;
}

}  // namespace

Background::News Background::Tell() const {
  News news;
  for (const auto& list : shown_) {
    const identity::CrlStatus status = list->status();
    news.lists.push_back(State(status.location, status.error, status.succeeded));
  }
  const auto now = identity::Moment::Now();
  for (const auto& followed : issuers_) {
    std::string error;
    {
      const std::lock_guard lock(followed.error->mutex);
      error = followed.error->text;
    }
    const std::string& name = followed.config.claims.issuer;
    const auto fetched = followed.issuer->fetched();
    // Its age is known by a clock that nobody sets; people want the time of day.
    const auto at = [&](auto steady) {
      return now.wall + std::chrono::duration_cast<system_clock::duration>(steady - now.steady);
    };
    news.issuers.push_back(
        State(name, error, fetched ? std::optional(at(*fetched)) : std::nullopt));
    if (!fetched) continue;
    const Expiry ending{"keys of " + name, at(*fetched + followed.config.keep_for), at(*fetched)};
    news.endings.push_back(ending);
  }
  return news;
}

admission::Status Guard::Report() const {
  admission::Status status;
  status.set_started(Seconds(started_));
  for (size_t i = 0; i < identity::kReasons.size(); ++i) {
    admission::Count& count = *status.add_refusals();
    count.set_name(std::string(identity::kReasons[i].name));
    count.set_value(refusals_.counters().Of(static_cast<identity::Reason>(i)));
  }
  std::vector<Expiry> endings;
  for (const Listener& listener : listeners_) {
    admission::Listener& state = *status.add_listeners();
    const bool psk = listener.tls().mode() == Mode::psk;
    state.set_port(listener.port());
    state.set_mode(psk ? admission::PSK : admission::CERTIFICATE);
    state.set_accepted(listener.counted().accepted);
    state.set_authenticated(listener.counted().authenticated);
    state.set_half_open(static_cast<uint32_t>(listener.half_open()));
    state.set_open(static_cast<uint32_t>(listener.open()));
    Append(endings, listener.tls().endings());
  }
  const auto ever = system_clock::time_point::max();
  if (authorities_) Append(endings, authorities_->ExpiringBy(ever));
  Append(endings, revocations_.ExpiringBy(ever));
  const Background::News news = background_.Tell();
  Append(endings, news.endings);
  Put(std::move(endings), status);
  Put(news.lists, *status.mutable_lists());
  Put(news.issuers, *status.mutable_issuers());
  return status;
}

asio::awaitable<void> Guard::KeepReporting() {
  auto due = std::chrono::steady_clock::time_point::min();
  while (!stopping_) {
    if (!control_.ready()) {
      due = std::chrono::steady_clock::time_point::min();  // whoever comes knows nothing yet
    } else if (std::chrono::steady_clock::now() >= due) {
      admission::Request request;
      *request.mutable_status() = Report();
      if (control_.Tell(std::move(request))) due = std::chrono::steady_clock::now() + kReportEvery;
    }
    until_report_.expires_after(kTick);
    co_await until_report_.async_wait(kAwait);
  }
}

}  // namespace portcullis::guard
