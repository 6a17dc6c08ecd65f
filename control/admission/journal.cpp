#include "control/admission/journal.hpp"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <iterator>
#include <nlohmann/json.hpp>

#include "control/admission/reference.hpp"
#include "control/coroutines.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using audit::Entry;
using What = Decision::What;

namespace {

constexpr std::chrono::milliseconds kWriteEvery{250};
constexpr std::chrono::milliseconds kWriteSoon{10};  // when more waits than is written at once
constexpr size_t kMostAtOnce = 2000;                 // a few ten milliseconds of the thread's time
constexpr size_t kMostWaiting = 50'000;

std::string Whose(const Decision& d) {
  if (!d.who.empty() && d.who != "peer") return d.who;
  for (const auto* name : {&d.peer, &d.identity, &d.source}) {
    if (!name->empty()) return *name;
  }
  return "unknown";
}

Entry EntryOf(const Decision& d) {
  Entry entry;
  entry.who = Whose(d);
  entry.action = d.what == What::refused ? "refuse" : "session";
  entry.subject = d.id;
  entry.outcome = d.what == What::refused ? audit::kRefused : audit::kDone;
  entry.detail = ToJson(d);
  entry.detail.erase("id");
  return entry;
}

}  // namespace

const Decision& Journal::Note(Decision decision) {
  const auto now = Clock::now();
  const bool refused = decision.what == What::refused;
  if (refused && (!IsReference(decision.id) || decisions_.Knows(decision.id))) {
    decision.id = NewReference();
  }
  const Decision& kept = decisions_.Add(std::move(decision));
  if (kept.what == What::admitted) return kept;  // nothing is in force yet
  auto& repeats = refused ? refusals_ : sessions_;
  if (!repeats.Singly(refused ? kept.reason : kept.peer, now)) return kept;
  if (refused) {
    events_.Tell("refused", fmt::format("{}: {} ({})", kept.reason, kept.detail, kept.id), {},
                 kept.peer);
  }
  Record(EntryOf(kept));
  return kept;
}

Result<void> Journal::NoteRefusal(const Entry& entry, const std::string& of) {
  if (!operators_.Singly(of, Clock::now())) return {};
  if (const auto number = audit_.Append(entry); !number) return tl::unexpected(number.error());
  return {};
}

void Journal::Record(Entry entry) {
  if (waiting_.size() + under_way_ < kMostWaiting) {
    waiting_.push_back(std::move(entry));
  } else {
    ++lost_;
  }
}

bool Journal::Takes() const {
  return !failing_ && audit_.Healthy() && waiting_.size() + under_way_ < kMostWaiting / 2;
}

void Journal::WriteCounts(Clock::time_point now) {
  const auto write = [&](audit::Repeats& repeats, auto entry) {
    for (const auto& count : repeats.Over(now)) {
      Entry made = entry(count.kind);
      made.detail["more"] = count.more;
      made.detail["seconds"] = std::chrono::seconds(audit::Repeats::kWindow).count();
      if (&repeats == &refusals_) {
        events_.Tell("refused", fmt::format("{}: {} more within a minute", count.kind, count.more));
      }
      waiting_.push_back(std::move(made));
    }
  };
  write(refusals_, [](const std::string& reason) {
    return Entry{"control", "refuse", "peers", audit::kRefused, "", {{"reason", reason}}};
  });
  write(sessions_, [](const std::string& peer) {
    return Entry{peer, "session", "sessions", audit::kDone, "", nlohmann::json::object()};
  });
  write(operators_, [](const std::string& name) {
    return Entry{name, "refuse", "requests", audit::kRefused, "", nlohmann::json::object()};
  });
}

// What is to be written now; the caller says Took() of it.
std::vector<Entry> Journal::Next() {
  if (lost_ > 0 && waiting_.size() < kMostWaiting) {
    waiting_.push_back({"control", "lost", "records", audit::kFailed, "", {{"records", lost_}}});
    lost_ = 0;
  }
  // While the log cannot be written, one of them serves to find out when it can again.
  const size_t most = std::min(waiting_.size(), failing_ ? size_t{1} : kMostAtOnce);
  const auto end = waiting_.begin() + static_cast<ptrdiff_t>(most);
  std::vector<Entry> together(std::make_move_iterator(waiting_.begin()),
                              std::make_move_iterator(end));
  waiting_.erase(waiting_.begin(), end);
  under_way_ += together.size();
  return together;
}

void Journal::Took(std::vector<Entry> entries, const Result<uint64_t>& written) {
  under_way_ -= entries.size();
  if (!written) {
    waiting_.insert(waiting_.begin(), std::make_move_iterator(entries.begin()),
                    std::make_move_iterator(entries.end()));
    // Once, and not four times a second.
    if (!failing_) events_.Tell("audit_failed", written.error().Text());
  }
  failing_ = !written;
}

asio::awaitable<Result<uint64_t>> Journal::Append(std::span<const Entry> entries) {
  auto there = [](AuditLog& log, std::span<const Entry> what) -> asio::awaitable<Result<uint64_t>> {
    co_return log.Append(what);
  };
  auto work = there(audit_, entries);
  auto number = co_await asio::co_spawn(disk_.get_executor(), std::move(work), asio::use_awaitable);
  co_return number;
}

asio::awaitable<void> Journal::Run() {
  while (!stopping_) {
    const bool behind = !failing_ && waiting_.size() >= kMostAtOnce;
    pause_.expires_after(behind ? kWriteSoon : kWriteEvery);
    co_await pause_.async_wait(kAwait);
    WriteCounts(Clock::now());
    std::vector<Entry> entries = Next();
    if (entries.empty()) continue;
    const auto written = co_await Append(entries);
    Took(std::move(entries), written);
  }
}

void Journal::Stop() {
  stopping_ = true;
  pause_.cancel();
  WriteCounts(Clock::time_point::max());
  while (!waiting_.empty()) {
    std::vector<Entry> entries = Next();
    const auto written = audit_.Append(entries);
    Took(std::move(entries), written);
    if (failing_) return;
  }
}

}  // namespace portcullis::admission
