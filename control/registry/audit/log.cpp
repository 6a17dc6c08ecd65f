#include "control/registry/audit/log.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "control/events/events.hpp"
#include "control/registry/audit/verify.hpp"

namespace portcullis {
using audit::Entry;
using audit::Stamp;
using nlohmann::json;

namespace {

tl::unexpected<Error> Unusable(const std::string& path, const std::string& why,
                               std::string expected = {}, std::string found = {}) {
  return Invalid(path, "the audit log cannot be used: " + why, std::move(expected),
                 std::move(found));
}

tl::unexpected<Error> NotWritten(const std::string& path, const std::string& why) {
  return tl::unexpected(
      Error{ErrorKind::kUnavailable, "the audit log cannot be written: " + why, path, {}, {}});
}

// A new name is durable only with its folder.
bool SyncFolder(const std::string& path) {
  const auto folder = std::filesystem::absolute(path).parent_path();
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  return synced;
}

}  // namespace

AuditLog::AuditLog(Settings settings, int fd, audit::SigningKey key)
    : settings_(std::move(settings)), fd_(fd), key_(std::move(key)), boot_id_(audit::BootId()) {}

AuditLog::AuditLog(AuditLog&& other) noexcept
    : settings_(std::move(other.settings_)),
      fd_(std::exchange(other.fd_, -1)),
      key_(std::move(other.key_)),
      boot_id_(std::move(other.boot_id_)),
      offsets_(std::move(other.offsets_)),
      size_(other.size_),
      head_(other.head_),
      last_(std::move(other.last_)),
      covered_(other.covered_),
      cut_(other.cut_),
      broken_(other.broken_.load()),
      count_(other.count_.load()),
      mutex_(std::move(other.mutex_)),
      sink_(std::move(other.sink_)) {}

AuditLog::~AuditLog() {
  if (fd_ < 0) return;
  sink_ = nullptr;  // who listened may be gone
  // Unsigned records could be written anew while nobody runs.
  static_cast<void>(Checkpoint());
  close(fd_);
}

Result<AuditLog> AuditLog::Open(Settings settings) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const bool fresh =
      !fs::exists(settings.file, ignored) || fs::file_size(settings.file, ignored) == 0;
  // A log without its key is not given another one: whoever deletes the key would be rid of it.
  auto key = fresh && !fs::exists(settings.key, ignored) ? audit::SigningKey::Create(settings.key)
                                                         : audit::SigningKey::Load(settings.key);
  if (!key) return tl::unexpected(key.error());

  const int fd = open(settings.file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
                      S_IRUSR | S_IWUSR);
  if (fd < 0) return Unusable(settings.file, std::strerror(errno), "a file to write to");
  AuditLog log(std::move(settings), fd, std::move(*key));
  if (auto sound = log.Check(); !sound) {
    log.broken_ = true;  // nothing is to be added to it, not even at the end of its life
    return tl::unexpected(sound.error());
  }
  const Entry opened{"control",   "open",
                     "audit log", audit::kDone,
                     "",          {{"unsigned", log.count() - log.covered_}, {"cut", log.cut_}}};
  if (auto written = log.Append(opened); !written) return tl::unexpected(written.error());
  return log;
}

Result<void> AuditLog::Check() {
  const std::string& path = settings_.file;
  struct stat info {};
  if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) return Unusable(path, "not a regular file");
  // Two writers would break the chain.
  if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    return Unusable(path, "another process writes it", "one process at a time");
  }
  if (fchmod(fd_, S_IRUSR | S_IWUSR) != 0) return Unusable(path, "its mode cannot be set to 0600");
  const auto report = audit::Verify(path, {key_.Public(), {}},
                                    [&](uint64_t offset) { offsets_.push_back(offset); });
  if (!report) return tl::unexpected(report.error());
  if (report->wrong) {
    return Unusable(path,
                    fmt::format("record {} is wrong: {}. Keep the file as evidence and move it "
                                "away; a new log begins without one",
                                report->wrong->number, report->wrong->text),
                    "the log as it was written");
  }
  size_ = report->bytes;
  head_ = report->head;
  covered_ = report->checkpoints == 0 ? 0 : report->covered + 1;
  if (cut_ = report->incomplete_bytes; cut_ > 0) {
    if (ftruncate(fd_, static_cast<off_t>(size_)) != 0 || fsync(fd_) != 0) {
      return Unusable(path, "its incomplete last line cannot be cut away", "",
                      std::strerror(errno));
    }
  }
  count_ = offsets_.size();
  if (count() == 0 && !SyncFolder(path)) return Unusable(path, "its folder cannot be synced");
  return {};
}

Result<uint64_t> AuditLog::Append(const Entry& entry) {
  return Append(std::span(&entry, 1));
}

Result<uint64_t> AuditLog::Append(std::span<const Entry> entries) {
  const std::lock_guard lock(*mutex_);
  const Stamp now = Stamp::Now();
  auto number = Write(entries, now);
  // That a checkpoint is missing is no reason to refuse what was recorded; if the log is broken,
  // the next record will say so.
  if (number && count() - covered_ >= settings_.checkpoint_every) static_cast<void>(Sign());
  return number;
}

Result<uint64_t> AuditLog::Write(std::span<const Entry> entries, const Stamp& when) {
  const std::string& path = settings_.file;
  if (broken_) return NotWritten(path, "an earlier write failed; see the log of that time");
  std::string lines;
  std::vector<uint64_t> begins;
  audit::Hash head = head_;
  for (const Entry& entry : entries) {
    const std::string text = audit::RecordText(count() + begins.size() + 1, when, entry);
    head = audit::Chain(head, text);
    const std::string line = audit::LineOf(head, text);
    if (line.size() >= audit::kLongestLine) return NotWritten(path, "the record is too long");
    begins.push_back(size_ + lines.size());
    lines += line;
  }

  const auto written = write(fd_, lines.data(), lines.size());
  if (written != static_cast<ssize_t>(lines.size())) {
    const int error = written < 0 ? errno : ENOSPC;
    // What stands of it goes again, or the next record would follow half a line.
    if (ftruncate(fd_, static_cast<off_t>(size_)) != 0) broken_ = true;
    return NotWritten(path, std::strerror(error));
  }
  if (fdatasync(fd_) != 0) {
    // Whether it is on the disk nobody knows, and a second fdatasync() may claim so without it.
    broken_ = true;
    return NotWritten(path, std::strerror(errno));
  }
  const uint64_t before = size_;
  offsets_.insert(offsets_.end(), begins.begin(), begins.end());
  count_ = offsets_.size();
  size_ += lines.size();
  head_ = head;
  for (size_t i = 0; sink_ && i < begins.size(); ++i) {
    const uint64_t end = i + 1 < begins.size() ? begins[i + 1] : size_;
    sink_(when, lines.substr(begins[i] - before, end - begins[i] - 1));
  }
  return count();
}

Result<void> AuditLog::Sign() {
  const Stamp now = Stamp::Now();
  audit::Checkpoint checkpoint{count(),
                               head_,
                               "",
                               boot_id_,
                               static_cast<uint64_t>(now.boot.count()),
                               key_.Public().Fingerprint(),
                               ""};
  checkpoint.time = TimeText(now.wall);
  auto signature = key_.Sign(checkpoint.SignedText());
  if (!signature) return tl::unexpected(signature.error());
  checkpoint.signature = std::move(*signature);
  const Entry entry{"control", audit::kCheckpointAction, "audit log", audit::kDone,
                    "",        ToJson(checkpoint)};
  const auto written = Write(std::span(&entry, 1), now);
  if (!written) return tl::unexpected(written.error());
  covered_ = *written;
  last_ = std::move(checkpoint);
  return {};
}

Result<audit::Checkpoint> AuditLog::Checkpoint() {
  const std::lock_guard lock(*mutex_);
  if (!last_ || covered_ != count()) {
    if (auto made = Sign(); !made) return tl::unexpected(made.error());
  }
  return *last_;
}

Result<std::vector<json>> AuditLog::Read(uint64_t from, size_t most) const {
  const std::lock_guard lock(*mutex_);
  std::vector<json> records;
  if (from < 1 || from > count() || most == 0) return records;
  std::ifstream file(settings_.file, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offsets_[from - 1]));
  std::string text;
  for (uint64_t number = from; number <= count() && records.size() < most; ++number) {
    const bool got = static_cast<bool>(std::getline(file, text));
    const auto line = got ? audit::ParseLine(text) : std::nullopt;
    json record = line ? json::parse(line->json, nullptr, /*allow_exceptions=*/false) : json();
    if (!record.is_object()) {
      return Fail(ErrorKind::kInternal,
                  fmt::format("record {} of the audit log cannot be read: the file was changed "
                              "while it is in use",
                              number));
    }
    record["hash"] = audit::Hex(line->hash);
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace portcullis
