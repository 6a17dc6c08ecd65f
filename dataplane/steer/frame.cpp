// Length-prefixed messages; see frame.hpp.
#include "dataplane/steer/frame.hpp"

#include <algorithm>
#include <cstring>

namespace portcullis::steer {

Result<FrameBytes> ToFrame(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  if (size > kMaxFrameBytes) {
    return tl::unexpected(Error{ErrorKind::kExhausted, "the steering message is too large", "",
                                fmt::format("at most {} bytes", kMaxFrameBytes),
                                fmt::format("{} bytes", size)});
  }
  FrameBytes frame(kLengthBytes + size);
  for (size_t i = 0; i < kLengthBytes; ++i) {
    frame[i] = static_cast<uint8_t>(size >> (8 * (kLengthBytes - 1 - i)));
  }
  message.SerializeWithCachedSizesToArray(frame.data() + kLengthBytes);
  return frame;
}

std::span<uint8_t> FrameReader::Room(size_t bytes) {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() < end_ + bytes) buffer_.resize(std::max(end_ + bytes, 2 * buffer_.size()));
  return std::span(buffer_).subspan(end_);
}

Result<bool> FrameReader::Next(google::protobuf::MessageLite& message) {
  if (end_ - begin_ < kLengthBytes) return false;
  size_t size = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) size = size << 8U | buffer_[begin_ + i];
  if (size > kMaxFrameBytes) {
    return Invalid("frame length", "the stream does not carry steering messages",
                   fmt::format("at most {} bytes", kMaxFrameBytes), fmt::format("{} bytes", size));
  }
  if (end_ - begin_ - kLengthBytes < size) return false;
  const std::span frame = std::span(buffer_).subspan(begin_ + kLengthBytes, size);
  const bool parsed = message.ParseFromArray(frame.data(), static_cast<int>(size));
  Wipe(frame);
  begin_ += kLengthBytes + size;
  if (begin_ == end_) {
    begin_ = end_ = 0;
    // One large message must not keep its memory for the connection's life.
    constexpr size_t kKept = 1U << 20U;
    if (buffer_.size() > kKept) FrameBytes().swap(buffer_);
  }
  if (!parsed) {
    return Invalid("frame", "the frame holds no steering message", "protobuf of steer.proto",
                   fmt::format("{} bytes that do not parse", size));
  }
  return true;
}

}  // namespace portcullis::steer
