// Framing of the steering socket: each message is preceded by its length, 4 bytes, big endian, at
// most 16 MiB. Frames may hold keys, so every buffer here is wiped before its memory goes back to
// the heap, also when a vector grows.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace portcullis::steer {

inline constexpr size_t kMaxFrameBytes = 16U << 20U;
inline constexpr size_t kLengthBytes = 4;

/// std::allocator that wipes what it gives back.
template <class T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() = default;
  template <class U>
  WipingAllocator(const WipingAllocator<U>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(size_t n) { return std::allocator<T>().allocate(n); }
  void deallocate(T* p, size_t n) {
    Wipe(std::span(reinterpret_cast<uint8_t*>(p), n * sizeof(T)));
    std::allocator<T>().deallocate(p, n);
  }
  bool operator==(const WipingAllocator&) const = default;
};

using FrameBytes = std::vector<uint8_t, WipingAllocator<uint8_t>>;

/// The message as a frame, or kExhausted when it is larger than a frame may be.
Result<FrameBytes> ToFrame(const google::protobuf::MessageLite& message);

/// Collects bytes from a stream and takes messages out of them.
class FrameReader {
 public:
  /// Room for at least `bytes` more; say with Filled() how much of it was used.
  std::span<uint8_t> Room(size_t bytes);
  void Filled(size_t bytes) { end_ += bytes; }

  /// True: `message` is the next one. False: it is not complete yet. After an error the stream is
  /// of no further use, since nobody knows where the next frame starts.
  Result<bool> Next(google::protobuf::MessageLite& message);

 private:
  FrameBytes buffer_;
  size_t begin_ = 0;  // buffer_[begin_, end_) is unread
  size_t end_ = 0;
};

}  // namespace portcullis::steer
