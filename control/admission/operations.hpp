// Requests that the guard is about to make of protected servers, and what became of them: judged
// once more, counted against quotas, and recorded (accounting: TR 33.811 5.1.1, "escape from
// charge").
//
//   Operate    what changes something is begun in the audit log, on the disk, before it is made
//              (an Operate of a gateway is its own end: it is recorded as decided, and nothing
//              more)
//   Outcome    ends it there, with the number of its beginning; what only reads has this record
//              alone, written a little later. What was created belongs to the tenant from then on
//   FindOwner  to whom something belongs
//
// Many wait for the disk at once: what came while it was busy is written together. An operation
// whose outcome nobody told (the guard died, or control did) is told as an event when it begins to
// be missed, and recorded as failed when it has been for long; one that was begun before control
// died is found again in the log, so that a guard which lived on can still end it. Everything is
// bounded. One thread.
//
//   operations.cpp          what becomes of them
//   operations_missing.cpp  what becomes of those whose outcome nobody tells
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <unordered_map>

#include "control/admission/held.hpp"
#include "control/admission/journal.hpp"
#include "control/admission/one_time.hpp"
#include "control/admission/permits.hpp"
#include "control/admission/quotas.hpp"
#include "control/model/owner.hpp"

namespace portcullis::admission {

class Operations {
 public:
  using Done = boost::asio::awaitable<tl::expected<void, identity::Refusal>>;
  struct Times {
    std::chrono::milliseconds missing = std::chrono::minutes(10);  // without guard: it has failed
    std::chrono::milliseconds longest = std::chrono::hours(24);    // with one
    std::chrono::milliseconds tick = std::chrono::seconds(1);
  };
  static constexpr const char* kAction = "operation";  // in the audit log
  static constexpr size_t kMostOpen = 65'536;
  static constexpr uint64_t kSearched = 20'000;  // records of the log, at start

  /// All outlive this. `audit` is that of `journal`.
  Operations(const boost::asio::any_io_executor& executor, Gate& gate, Permits& permits,
             AuditLog& audit, Journal& journal)
      : Operations(executor, gate, permits, audit, journal, Times{}) {}
  Operations(const boost::asio::any_io_executor& executor, Gate& gate, Permits& permits,
             AuditLog& audit, Journal& journal, Times times);

  /// What an earlier process left open in the log. Once, before anything else.
  Result<void> Restore();

  /// `guard`: which connection it came by.
  Done Operate(admission::Operate request, uint64_t guard);
  Done Outcome(admission::Outcome request);
  /// Empty: nobody's.
  tl::expected<std::string, identity::Refusal> FindOwner(const admission::FindOwner& request);
  /// What it began has until Times::missing for its outcome.
  void GuardGone(uint64_t guard);

  /// Ends what is missed for too long, until Stop().
  boost::asio::awaitable<void> Run();
  void Stop();

  struct Counted {
    std::string interface;
    std::string operation;
    std::string outcome;  // "done", "failed", "decided", "quota_exceeded"
    auto operator<=>(const Counted&) const = default;
  };
  [[nodiscard]] const std::map<Counted, uint64_t>& counts() const { return counts_; }
  [[nodiscard]] size_t open() const { return open_.size(); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr uint64_t kNoGuard = 0;
  struct Open {
    audit::Entry entry;  // as it is recorded, without its outcome
    std::string tenant;
    std::string interface;
    std::string kind;
    std::string resource;
    std::vector<std::string> operations;
    bool change = false;
    uint64_t begun = 0;  // number of the record; 0: none
    uint64_t guard = kNoGuard;
    Clock::time_point until;  // failed, unless its outcome comes
  };
  /// Waits for the disk.
  struct Waiting {
    audit::Entry entry;
    bool recorded = true;  // false: only what it uses up is written down
    model::Used used;
    std::optional<model::OwnerChange> owner;
    boost::asio::steady_timer written;
    bool ended = false;
    Result<uint64_t> number{};     // of the record, if there is one
    Result<std::string> tenant{};  // whose the resource is afterwards
  };

  struct Judged {
    bool one_time = false;
    std::optional<model::HeldRequest> approved;
  };
  tl::expected<Judged, identity::Refusal> Judge(const admission::Operate& request);
  void Register(const std::string& interface, const std::string& peer, Registration registration);
  boost::asio::awaitable<void> Write(Waiting& waiting);
  boost::asio::awaitable<void> WriteAll();
  boost::asio::awaitable<void> WriteBatch();
  void UseUp(const std::deque<Waiting*>& batch);
  Result<void> ChangeOwners(const std::deque<Waiting*>& batch);
  template <class Names>
  void Count(const std::string& interface, const Names& names, const std::string& outcome) {
    for (const std::string& name : names) ++counts_[{interface, name, outcome}];
  }
  void EndMissing(Clock::time_point now);
  /// Events about these, not more than a few.
  void TellMissing(const std::vector<const Open*>& operations, const char* what);

  boost::asio::any_io_executor executor_;
  Gate& gate_;
  Permits& permits_;
  AuditLog& audit_;
  Journal& journal_;
  const Times times_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
  std::unordered_map<std::string, Open> open_;  // by the reference that the guard chose
  Quotas quotas_;
  OneTimeTokens one_time_;
  HeldRequests held_;
  std::deque<Waiting*> waiting_;
  bool writing_ = false;
  Clock::time_point rested_{};  // when the disk may be asked again
  std::map<Counted, uint64_t> counts_;
};

}  // namespace portcullis::admission
