// Whole pages that never reach a disk: locked, left out of core dumps, wiped before they go back.
// For memory that a library works in with keys; keys of our own are in Secret.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <memory>

namespace portcullis {

struct UnlockPages {
  size_t bytes = 0;
  void operator()(void* pages) const noexcept {
    explicit_bzero(pages, bytes);
    munmap(pages, bytes);
  }
};
using LockedPages = std::unique_ptr<void, UnlockPages>;

/// Zeroed; aligned to a page. Null, with errno set: no memory, or more than RLIMIT_MEMLOCK allows.
inline LockedPages AllocateLocked(size_t bytes) noexcept {
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  LockedPages owner(pages, UnlockPages{bytes});
  if (mlock(pages, bytes) != 0 || madvise(pages, bytes, MADV_DONTDUMP) != 0) return nullptr;
  return owner;
}

}  // namespace portcullis
