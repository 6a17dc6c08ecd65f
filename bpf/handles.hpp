// What the parts of the loader share: descriptors, libbpf's words, and the maps of an attached
// port.
#pragma once

#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bpf/loader.hpp"
#include "bpf/shared.h"

namespace portcullis {

/// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// While it lives, libbpf's warnings are kept for the error message instead of going to stderr.
class LibbpfMessages {
 public:
  LibbpfMessages() : before_(libbpf_set_print(&Keep)) { Kept().clear(); }
  ~LibbpfMessages() { libbpf_set_print(before_); }
  LibbpfMessages(const LibbpfMessages&) = delete;
  LibbpfMessages& operator=(const LibbpfMessages&) = delete;
  /// The first warning: what follows are its consequences.
  [[nodiscard]] static std::string First() { return Kept().substr(0, Kept().find('\n')); }

 private:
  static std::string& Kept() {
    static thread_local std::string text;
    return text;
  }
  __attribute__((format(printf, 2, 0))) static int Keep(libbpf_print_level level,
                                                        const char* format, va_list arguments) {
    if (level != LIBBPF_WARN) return 0;
    char line[512];
    const int written = vsnprintf(line, sizeof(line), format, arguments);
    Kept() += line;
    return written;
  }
  libbpf_print_fn_t before_;
};

/// Prefixes in a kernel's table, and the SHA-256 of what was put in.
struct PrefixTable {
  std::array<uint8_t, 32> digest;
  Descriptor map;
};

/// The tables of a generation. Null: nothing is in it, and there is no table.
struct PrefixTables {
  std::shared_ptr<const PrefixTable> nets, sources;
};

/// A map's memory, shared with the kernel.
class SharedMap {
 public:
  SharedMap() = default;
  SharedMap(void* memory, size_t bytes) : memory_(memory), bytes_(bytes) {}
  ~SharedMap() {
    if (memory_ != nullptr) munmap(memory_, bytes_);
  }
  SharedMap(SharedMap&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), bytes_(other.bytes_) {}
  SharedMap& operator=(SharedMap&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  [[nodiscard]] std::span<uint64_t> words() const {
    return {static_cast<uint64_t*>(memory_), bytes_ / sizeof(uint64_t)};
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

struct FreeRing {
  void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

/// The program and the maps of shared.h, by their names there.
struct XdpPort::Handles {
  std::string mode;
  Descriptor program, xsks_map, current, settings, protected_nets, sources, own_addresses,
      first_addresses, suspects, counters, watching, drops;
  SharedMap spis;
  std::optional<uint32_t> prepared;  // the slot that Commit() will put in force
  // What this process knows to be in each slot.
  std::array<std::optional<PrefixTables>, PORTCULLIS_SLOTS> slots;
  bool idle = false;  // no packet reads the slot that is not in force
  // Who watches drops has these.
  std::unique_ptr<ring_buffer, FreeRing> ring;
  std::vector<XdpDrop> taken;
  size_t wanted = 0;
};

}  // namespace portcullis
