// The audit log: who wanted what, and what became of it. Records are appended, never changed; see
// record.hpp for their form and verify.hpp for how a change is found.
//
// A file of lines rather than a table of the store, because such a file survives more: an append is
// one write() at the end followed by fdatasync(), so kill -9 or a power cut can only leave an
// incomplete last line, of a record that nobody was told about; no later write ever touches an
// earlier page; there is no second file (SQLite's -wal holds the newest records) that a copy
// forgets; and it can be read, copied and verified while it is written. Any thread: who appends or
// reads waits for whoever does; who only asks how it stands waits for nobody.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/registry/audit/key.hpp"
#include "control/registry/audit/record.hpp"

namespace portcullis {

class AuditLog {
 public:
  struct Settings {
    std::string file;
    std::string key;                 // made, with the log, when neither exists
    uint64_t checkpoint_every = 64;  // records; 1 signs each
  };

  /// Verifies the whole file first. A log that is not intact, is signed with another key or is
  /// already open is refused and left as it is. An incomplete last line is cut away.
  static Result<AuditLog> Open(Settings settings);
  AuditLog(AuditLog&& other) noexcept;
  AuditLog& operator=(AuditLog&&) = delete;
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;
  ~AuditLog();

  /// On the disk when it returns: the record's number. kUnavailable when it cannot be written:
  /// what was to be recorded must then not be done.
  Result<uint64_t> Append(const audit::Entry& entry);
  /// The same for several that belong to no change that waits for them: one write and one
  /// fdatasync() for all, so that ten thousand of them cost as much as ten. The last one's number;
  /// on an error none of them is there.
  Result<uint64_t> Append(std::span<const audit::Entry> entries);

  /// One that covers every record; makes one unless the last record is such.
  Result<audit::Checkpoint> Checkpoint();

  /// Up to `most` records from number `from` (1 is the first), each with its `hash`.
  [[nodiscard]] Result<std::vector<nlohmann::json>> Read(uint64_t from, size_t most) const;

  [[nodiscard]] uint64_t count() const { return count_; }
  /// False: nothing can be appended any more until the log is opened again.
  [[nodiscard]] bool Healthy() const { return !broken_; }
  [[nodiscard]] audit::PublicKey Key() const { return key_.Public(); }

  /// Calls `sink` with each line after it was written, without its newline: what a remote log
  /// collects can be verified, too. In the order of the log, by whichever thread wrote it.
  using Sink = std::function<void(const audit::Stamp& when, const std::string& line)>;
  void Forward(Sink sink) { sink_ = std::move(sink); }

 private:
  AuditLog(Settings settings, int fd, audit::SigningKey key);
  Result<void> Check();
  Result<uint64_t> Write(std::span<const audit::Entry> entries, const audit::Stamp& when);
  Result<void> Sign();

  Settings settings_;
  int fd_;
  audit::SigningKey key_;
  std::string boot_id_;
  std::vector<uint64_t> offsets_;  // where each record begins
  uint64_t size_ = 0;              // of the file
  audit::Hash head_ = audit::kBeforeTheFirst;
  std::optional<audit::Checkpoint> last_;
  uint64_t covered_ = 0;  // records before the last checkpoint, itself included
  uint64_t cut_ = 0;      // bytes of an incomplete last line that were cut away
  std::atomic<bool> broken_ = false;
  std::atomic<uint64_t> count_ = 0;                                             // offsets_.size()
  mutable std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();  // of all the rest
  Sink sink_;
};

}  // namespace portcullis
