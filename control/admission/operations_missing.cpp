// Operations whose outcome nobody tells: what an earlier process left open, what a guard that hung
// up began, and how they end all the same.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "control/admission/operations.hpp"
#include "control/coroutines.hpp"

namespace portcullis::admission {

namespace asio = boost::asio;
using nlohmann::json;

namespace {
constexpr size_t kMostTold = 10;  // one by one, as events
}  // namespace

Result<void> Operations::Restore() {
  if (auto counted = one_time_.Restore(); !counted) return counted;
  const uint64_t count = audit_.count();
  const auto records = audit_.Read(count < kSearched ? 1 : count - kSearched + 1, kSearched);
  if (!records) return tl::unexpected(records.error());
  std::map<uint64_t, const json*> begun;
  for (const json& record : *records) {
    if (record.value("action", "") != kAction) continue;
    const std::string outcome = record.value("outcome", "");
    if (outcome == audit::kBegun) {
      begun.emplace(record["number"].get<uint64_t>(), &record);
    } else if (const json& detail = record["detail"]; detail.contains("begun")) {
      begun.erase(detail["begun"].get<uint64_t>());
    }
  }
  std::vector<const Open*> missing;
  for (const auto& [number, record] : begun) {
    const json& detail = (*record)["detail"];
    Open operation{.entry = {.who = record->value("who", ""),
                             .action = kAction,
                             .subject = record->value("subject", ""),
                             .detail = detail},
                   .tenant = detail.value("tenant", ""),
                   .interface = detail.value("interface", ""),
                   .kind = detail.value("kind", ""),
                   .resource = detail.value("resource", ""),
                   .operations = detail.value("operations", std::vector<std::string>()),
                   .change = true,
                   .begun = number,
                   .until = Clock::now() + times_.missing};
    const std::string id = operation.entry.subject;
    missing.push_back(&open_.insert_or_assign(id, std::move(operation)).first->second);
  }
  TellMissing(missing, "was begun before control ended, and has no outcome yet");
  return {};
}

void Operations::TellMissing(const std::vector<const Open*>& operations, const char* what) {
  size_t told = 0;
  for (const Open* operation : operations) {
    if (++told > kMostTold) break;
    gate_.events().Tell("operation",
                        fmt::format("operation {} ({}) {}", operation->entry.subject,
                                    fmt::join(operation->operations, ", "), what),
                        {}, operation->entry.who);
  }
  if (operations.size() <= kMostTold) return;
  gate_.events().Tell("operation",
                      fmt::format("the same of {} more", operations.size() - kMostTold));
}

void Operations::GuardGone(uint64_t guard) {
  size_t left = 0;
  const auto until = Clock::now() + times_.missing;
  for (auto& [id, operation] : open_) {
    if (operation.guard != guard) continue;
    operation.guard = kNoGuard;
    operation.until = std::min(operation.until, until);
    ++left;
  }
  if (left == 0) return;
  gate_.events().Tell(
      "operation",
      fmt::format("{} operations of the guard that hung up have no outcome yet", left));
}

void Operations::EndMissing(Clock::time_point now) {
  std::vector<const Open*> missing;
  for (const auto& [id, operation] : open_) {
    const bool being_written = operation.change && operation.begun == 0;
    if (now >= operation.until && !being_written) missing.push_back(&operation);
  }
  TellMissing(missing, "has failed, as far as anybody knows: nobody told its outcome");
  for (const Open* operation : missing) {
    audit::Entry entry = operation->entry;
    entry.outcome = audit::kFailed;
    entry.detail["outcome"] = "unknown";
    if (operation->begun != 0) entry.detail["begun"] = operation->begun;
    Count(operation->interface, operation->operations, audit::kFailed);
    const std::string id = entry.subject;
    journal_.Record(std::move(entry));
    open_.erase(id);
  }
}

asio::awaitable<void> Operations::Run() {
  while (!stopping_) {
    pause_.expires_after(times_.tick);
    co_await pause_.async_wait(kAwait);
    if (stopping_) co_return;
    EndMissing(Clock::now());
    quotas_.Prune(Clock::now());
    one_time_.Prune(gate_.clock(), std::chrono::system_clock::now());
  }
}

void Operations::Stop() {
  stopping_ = true;
  pause_.cancel();
}

}  // namespace portcullis::admission
