// A file that belongs to one process at a time: opened without following links, private to its
// owner, locked by flock. The kernel drops the lock however the process ends.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace portcullis {

class ExclusiveFile {
 public:
  /// Creates it with mode 0600 when it is not there. kUnavailable: held by another process, whose
  /// number is expected as a native uint32_t at `holder_offset` in the file.
  static Result<ExclusiveFile> Open(const std::string& path, off_t holder_offset);

  ExclusiveFile(ExclusiveFile&& other) noexcept;
  ExclusiveFile& operator=(ExclusiveFile&& other) noexcept;
  ~ExclusiveFile();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Bytes in the file now.
  [[nodiscard]] Result<size_t> Size() const;
  /// What sizes must be a multiple of: a page, or a huge page on hugetlbfs.
  [[nodiscard]] size_t page() const { return page_; }

  [[nodiscard]] Result<void> Resize(size_t bytes) const;
  /// Makes sure that the range has memory behind it: a store there would otherwise end in SIGBUS
  /// when the file system is full.
  [[nodiscard]] Result<void> Reserve(size_t offset, size_t bytes) const;

 private:
  ExclusiveFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  size_t page_ = 0;
  std::string path_;
};

/// The file's bytes in memory, shared with it, and locked where the limits permit.
class Mapping {
 public:
  static Result<Mapping> Map(const ExclusiveFile& file, size_t bytes);

  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool locked() const { return locked_; }

 private:
  Mapping(std::byte* data, size_t size, bool locked) : data_(data), size_(size), locked_(locked) {}
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool locked_ = false;
};

}  // namespace portcullis
