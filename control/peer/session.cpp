#include "control/peer/session.hpp"
#include "control/coroutines.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <utility>

namespace portcullis::peer {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr milliseconds kTick{200};
constexpr seconds kWatchEvery{1};
constexpr seconds kGrace{30};  // as the gate's, of an inbound association that was replaced
constexpr milliseconds kFirstPause{1'000};
constexpr milliseconds kLongestPause{60'000};
constexpr milliseconds kLeastPause{100};
constexpr seconds kUnconfirmed{1};
constexpr seconds kLongestPatience{3600};

seconds InSeconds(std::chrono::nanoseconds time) {
  return std::chrono::duration_cast<seconds>(time);
}

}  // namespace

BootTime BootNow() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

milliseconds PauseAfter(unsigned failures, milliseconds longest, double random) {
  constexpr unsigned kMostDoublings = 16;
  const auto most = std::min(kFirstPause * (1U << std::min(failures, kMostDoublings)), longest);
  return std::max(kLeastPause, std::chrono::duration_cast<milliseconds>(most * random));
}

milliseconds RenewAfter(seconds life, double random) {
  constexpr double kLatest = 2.0 / 3;
  constexpr double kSpread = 0.1;
  return std::chrono::duration_cast<milliseconds>(life * (kLatest - kSpread * random));
}

Session::Session(const asio::any_io_executor& executor, const Identity& self, Datapath& datapath,
                 const identity::Revocations& revocations, SessionSettings settings)
    : self_(self),
      datapath_(datapath),
      revocations_(revocations),
      settings_(std::move(settings)),
      enrolment_(executor, self, datapath, settings_),
      pause_(executor),
      patience_(self.config.liveness) {}

double Session::Random() {
  return std::uniform_real_distribution<double>(0, 1)(random_);
}

asio::awaitable<void> Session::Run() {
  while (!stopping_) {
    co_await Tick();
    if (stopping_) break;
    pause_.expires_after(kTick);
    co_await pause_.async_wait(kAwait);
  }
  co_await Finish();
  over_ = true;
}

void Session::Stop() {
  stopping_ = true;
  pause_.cancel();
}

// Without its datapath it has nothing to put keys into.
asio::awaitable<void> Session::Tick() {
  if (!datapath_.ready()) co_return;
  co_await RemoveLeaving();
  if (held_ && BootNow() >= next_watch_) co_await Watch();
  if (!stopping_ && datapath_.ready() && BootNow() >= next_attempt_) co_await TryIt();
}

asio::awaitable<void> Session::TryIt() {
  const BootTime began = BootNow();
  const uint64_t epoch = revocations_.epoch();  // before the gate is judged: see Revocations
  Wanted wanted;
  wanted.initial_contact = !held_ || forgotten_;
  if (!wanted.initial_contact) {
    wanted.session = held_->is.session;
    wanted.last_generation = held_->is.generation;
  }
  auto enrolled = co_await enrolment_.Open(wanted);
  if (enrolled) {
    Enrolled is = *std::move(enrolled);
    co_await Adopt(std::move(is), began, epoch);
  } else {
    NoteFailure(enrolled.error());
  }
}

asio::awaitable<void> Session::Adopt(Enrolled enrolled, BootTime began, uint64_t epoch) {
  const BootTime now = BootNow();
  const bool fresh = !held_ || held_->is.session != enrolled.session;
  if (held_) leaving_.push_back({held_->is.pair, now + kGrace});
  const milliseconds renew = RenewAfter(enrolled.life, Random());
  failures_ = 0;
  forgotten_ = false;
  // What the gate did not confirm it may take back after 30 s: another generation settles it.
  next_attempt_ = enrolled.confirmed ? began + renew : now + kUnconfirmed;
  next_watch_ = now + kWatchEvery;
  spdlog::info("session on {}: '{}' generation {} is in force for {} s, renewed in {} s",
               settings_.interface, enrolled.session, enrolled.generation, enrolled.life.count(),
               InSeconds(next_attempt_ - now).count());
  if (!enrolled.confirmed) {
    spdlog::warn("session on {}: the gate did not confirm it: {}", settings_.interface,
                 enrolled.why_not);
  }
  held_ = Held{std::move(enrolled), {}, epoch, {}, {}};
  held_->ends = began + held_->is.life;
  if (fresh) co_await SweepUp();
}

// What an earlier run of this agent left in the datapath.
asio::awaitable<void> Session::SweepUp() {
  const auto names = co_await datapath_.Names();
  if (!names) co_return;
  for (const auto& name : *names) {
    const bool known =
        (held_ && name == held_->is.pair) ||
        std::ranges::any_of(leaving_, [&](const auto& one) { return one.pair == name; });
    if (!known && name.starts_with(settings_.interface + "/")) {
      leaving_.push_back({name, BootNow() + kGrace});
    }
  }
}

asio::awaitable<void> Session::RemoveLeaving() {
  const BootTime now = BootNow();
  std::vector<std::string> due;
  for (const auto& one : leaving_) {
    if (one.at <= now) due.push_back(one.pair);
  }
  if (due.empty()) co_return;
  const auto removed = co_await datapath_.Remove(due);
  if (!removed) co_return;  // the next time
  std::erase_if(leaving_, [&](const auto& one) { return one.at <= now; });
}

asio::awaitable<void> Session::Watch() {
  next_watch_ = BootNow() + kWatchEvery;
  if (BootNow() >= held_->ends) {
    Drop("its time is up, and no renewal came about");
    co_return;
  }
  if (held_->is.gate.mode == guard::Mode::certificate && held_->epoch != revocations_.epoch()) {
    held_->epoch = revocations_.epoch();
    const auto still =
        revocations_.Check(held_->is.gate.certificate, std::chrono::system_clock::now());
    if (!still) {
      Drop("the gate's certificate counts no more: " + still.error().Text());
      co_return;
    }
  }
  const auto traffic = co_await datapath_.Read(held_->is.pair);
  if (traffic) {
    NoteTraffic(*traffic);
  } else if (traffic.error().kind == ErrorKind::kNotFound) {
    Drop(traffic.error().Text());
  }
}

// The pair goes with the next tick; the next attempt is one of a peer that holds nothing.
void Session::Drop(const std::string& why) {
  spdlog::warn("session on {}: '{}' is over: {}", settings_.interface, held_->is.session, why);
  leaving_.push_back({held_->is.pair, BootTime{}});
  held_.reset();
  next_attempt_ = std::min(next_attempt_, BootNow());
}

// A renewal is how the gate is asked whether it still knows of the session: harmless if it does.
// Each that brings nothing doubles the patience, as traffic may be meant to go one way.
void Session::NoteTraffic(const Traffic& now) {
  Held& held = *held_;
  const bool sends = now.sent > held.traffic.sent;
  if (now.received > held.traffic.received) {
    held.silent_since.reset();
    patience_ = self_.config.liveness;
  } else if (sends && !held.silent_since) {
    held.silent_since = BootNow();
  } else if (sends && patience_ > seconds(0) && BootNow() - *held.silent_since >= patience_) {
    spdlog::warn(
        "session on {}: nothing came from the gate for {} s though this peer sends; asking "
        "it for a renewal",
        settings_.interface, InSeconds(BootNow() - *held.silent_since).count());
    held.silent_since.reset();
    patience_ = std::min(patience_ * 2, kLongestPatience);
    next_attempt_ = std::min(next_attempt_, BootNow());
  }
  held.traffic = now;
}

void Session::NoteFailure(const Failure& failure) {
  const BootTime now = BootNow();
  if (failure.error.kind == ErrorKind::kConflict && held_ && !forgotten_) {
    forgotten_ = true;
    next_attempt_ = now;
    spdlog::warn("session on {}: the gate no longer knows '{}': a new one is opened. {}",
                 settings_.interface, held_->is.session, failure.error.Text());
    return;
  }
  // With a session that goes on, some attempts at least before its end.
  auto longest = kLongestPause;
  if (held_) {
    constexpr int kAttempts = 4;
    const auto left = std::chrono::duration_cast<milliseconds>(held_->ends - now);
    longest = std::clamp(left / kAttempts, kFirstPause, kLongestPause);
  }
  const milliseconds pause = std::max(PauseAfter(failures_, longest, Random()),
                                      std::min<milliseconds>(failure.retry_after, kLongestPause));
  ++failures_;
  next_attempt_ = now + pause;
  spdlog::error("session on {}: {} failed ({} in a row), next in {} ms: {}", settings_.interface,
                held_ ? "renewing" : "opening", failures_, pause.count(), failure.error.Text());
}

asio::awaitable<void> Session::Finish() {
  if (held_) {
    const auto ended = co_await enrolment_.End(held_->is.session);
    if (ended) {
      spdlog::info("session on {}: '{}' is ended", settings_.interface, held_->is.session);
    } else {
      spdlog::warn("session on {}: the gate could not be told of the end of '{}': {}",
                   settings_.interface, held_->is.session, ended.error().error.Text());
    }
    leaving_.push_back({held_->is.pair, BootTime{}});
    held_.reset();
  }
  for (auto& one : leaving_) one.at = BootTime{};
  if (datapath_.ready()) co_await RemoveLeaving();
}

}  // namespace portcullis::peer
