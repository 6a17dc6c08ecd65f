// What was decided about peers, for whoever wants to know: kept for `why`, told as events, and
// written to the audit log. Peers cause these records and not operators, and they come by the
// thousand when many renew at once, so they are written together, a few times a second; and what
// comes again and again is counted (audit/repeats.hpp), in the log as in the events. One thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <span>
#include <vector>

#include "control/admission/decisions.hpp"
#include "control/events/events.hpp"
#include "control/registry/audit/log.hpp"
#include "control/registry/audit/repeats.hpp"

namespace portcullis::admission {

class Journal {
 public:
  // One by one, in each minute; of the rest, their number.
  static constexpr unsigned kRefusals = 5;            // of one reason
  static constexpr unsigned kSessionRecords = 60;     // of one peer
  static constexpr unsigned kOperatorsRefusals = 20;  // of one operator

  /// `events` and `audit` outlive this.
  Journal(const boost::asio::any_io_executor& executor, Events& events, AuditLog& audit)
      : events_(events), audit_(audit), pause_(executor) {}

  /// A refusal is told as an event; what happens to a session, its teller tells. The id of one
  /// that is not a reference, or is known already, becomes another one.
  const Decision& Note(Decision decision);

  /// What an operator was refused before anything was begun: written at once, or counted among
  /// those `of` him. An error: the log cannot be written.
  Result<void> NoteRefusal(const audit::Entry& entry, const std::string& of);

  /// One that is recorded by itself, whatever comes beside it: written with the others. To be
  /// asked first: is there room, and can the log be written?
  void Record(audit::Entry entry);
  [[nodiscard]] bool Takes() const;

  /// On the disk when it returns, as AuditLog::Append(); in a thread of its own, so that who need
  /// not wait for the disk goes on meanwhile. `entries` stay as they are.
  boost::asio::awaitable<Result<uint64_t>> Append(std::span<const audit::Entry> entries);

  /// Writes what waits, until Stop(), which writes the rest; to be called again after what still
  /// ran.
  boost::asio::awaitable<void> Run();
  void Stop();

  [[nodiscard]] const Decisions& decisions() const { return decisions_; }

 private:
  using Clock = audit::Repeats::Clock;
  std::vector<audit::Entry> Next();
  void Took(std::vector<audit::Entry> entries, const Result<uint64_t>& written);
  void WriteCounts(Clock::time_point now);

  Events& events_;
  AuditLog& audit_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
  Decisions decisions_;
  audit::Repeats refusals_{kRefusals};
  audit::Repeats sessions_{kSessionRecords};
  audit::Repeats operators_{kOperatorsRefusals};
  std::deque<audit::Entry> waiting_;
  size_t under_way_ = 0;  // no longer in waiting_, and not written yet
  uint64_t lost_ = 0;
  bool failing_ = false;
  boost::asio::thread_pool disk_{1};  // last: it ends first
};

}  // namespace portcullis::admission
