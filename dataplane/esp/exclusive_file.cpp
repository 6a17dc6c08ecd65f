#include "dataplane/esp/exclusive_file.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

namespace portcullis {
namespace {

tl::unexpected<Error> Errno(ErrorKind kind, const std::string& path, const std::string& what) {
  return tl::unexpected(
      Error{kind, fmt::format("{}: {}", what, std::strerror(errno)), path, {}, {}});
}

std::string NameOfProcess(uint32_t pid) {
  std::ifstream comm(fmt::format("/proc/{}/comm", pid));
  std::string name;
  return std::getline(comm, name) ? fmt::format("process {} ({})", pid, name)
                                  : fmt::format("process {}", pid);
}

/// In a directory that others may write to, the file could be a trap laid out for us.
Result<void> CheckOwnership(const ExclusiveFile& file, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) return Invalid(file.path(), "is no regular file");
  if (status.st_uid != geteuid()) {
    return Invalid(file.path(), "belongs to another user; remove it or choose another path",
                   fmt::format("user {}", geteuid()), fmt::format("user {}", status.st_uid));
  }
  constexpr unsigned kOthers = 077;
  if ((status.st_mode & kOthers) != 0) {
    return Invalid(file.path(), "is open to other users; remove it or run chmod 600", "mode 0600",
                   fmt::format("mode {:04o}", status.st_mode & 07777U));
  }
  if (status.st_nlink != 1) {
    return Invalid(file.path(), "was removed or has several names (hard links); try again",
                   "1 name", fmt::format("{} names", status.st_nlink));
  }
  return {};
}

}  // namespace

Result<ExclusiveFile> ExclusiveFile::Open(const std::string& path, off_t holder_offset) {
  constexpr mode_t kPrivate = 0600;
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kPrivate);
  if (fd < 0) {
    if (errno == ELOOP) return Invalid(path, "is a symbolic link, which is not followed here");
    return Errno(ErrorKind::kUnavailable, path, "the state file cannot be opened");
  }
  ExclusiveFile file(fd, path);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return Errno(ErrorKind::kUnavailable, path, "the state file cannot be locked");
    }
    uint32_t pid = 0;
    const bool known = pread(fd, &pid, sizeof(pid), holder_offset) == sizeof(pid) && pid != 0;
    return tl::unexpected(Error{
        ErrorKind::kUnavailable,
        fmt::format("the state file is in use by {}; two processes must not share it, so stop that "
                    "one or give this one a state_file of its own",
                    known ? NameOfProcess(pid) : "another process"),
        path,
        {},
        {}});
  }
  struct stat status {};
  struct statfs system {};
  if (fstat(fd, &status) != 0 || fstatfs(fd, &system) != 0) {
    return Errno(ErrorKind::kUnavailable, path, "the state file cannot be examined");
  }
  if (auto checked = CheckOwnership(file, status); !checked) {
    return tl::unexpected(checked.error());
  }
  file.page_ = system.f_type == HUGETLBFS_MAGIC ? static_cast<size_t>(system.f_bsize)
                                                : static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return file;
}

ExclusiveFile::ExclusiveFile(ExclusiveFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), page_(other.page_), path_(std::move(other.path_)) {}

ExclusiveFile& ExclusiveFile::operator=(ExclusiveFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(page_, other.page_);
  std::swap(path_, other.path_);
  return *this;
}

ExclusiveFile::~ExclusiveFile() {
  if (fd_ >= 0) close(fd_);
}

Result<size_t> ExclusiveFile::Size() const {
  struct stat status {};
  if (fstat(fd_, &status) != 0) {
    return Errno(ErrorKind::kUnavailable, path_, "the state file cannot be examined");
  }
  return static_cast<size_t>(status.st_size);
}

Result<void> ExclusiveFile::Resize(size_t bytes) const {
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
    return Errno(ErrorKind::kExhausted, path_,
                 fmt::format("the state file cannot be made {} bytes long", bytes));
  }
  return {};
}

Result<void> ExclusiveFile::Reserve(size_t offset, size_t bytes) const {
  // posix_fallocate returns the error instead of setting errno.
  errno = posix_fallocate(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  if (errno != 0) {
    return Errno(ErrorKind::kExhausted, path_,
                 fmt::format("no memory for {} bytes of the state file; enlarge the file system it "
                             "lies on or lower sas.capacity",
                             bytes));
  }
  return {};
}

Result<Mapping> Mapping::Map(const ExclusiveFile& file, size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
  if (data == MAP_FAILED) {
    return Errno(ErrorKind::kExhausted, file.path(),
                 fmt::format("{} bytes of the state file cannot be mapped", bytes));
  }
  // On fault: the arena is sparse and need not be there before an SA uses it.
  const bool locked = mlock2(data, bytes, MLOCK_ONFAULT) == 0;
  return Mapping(static_cast<std::byte*>(data), bytes, locked);
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(other.size_), locked_(other.locked_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(locked_, other.locked_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace portcullis
