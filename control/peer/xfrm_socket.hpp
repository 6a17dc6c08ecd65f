// Requests to the kernel's IPsec, one at a time. The kernel answers before the request returns, so
// nothing here waits.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "control/peer/xfrm_message.hpp"

namespace portcullis::peer::xfrm {

/// What the kernel answered: errno, and its own words where it has some (NETLINK_EXT_ACK).
struct KernelError {
  int number = 0;
  std::string words;

  [[nodiscard]] std::string Text() const;
};

template <class T>
using Answer = tl::expected<T, KernelError>;

class Socket {
 public:
  /// kUnavailable: this kernel has no NETLINK_XFRM.
  static Result<Socket> Open();

  /// `each` sees every message of the answer, whose bytes are wiped afterwards.
  Answer<void> Ask(Message message,
                   const std::function<void(std::span<const uint8_t>)>& each = {}) const;

 private:
  explicit Socket(int fd);
  void Take(std::span<const uint8_t> rest,
            const std::function<void(std::span<const uint8_t>)>& each, KernelError& error,
            bool& over) const;

  Fd fd_;
  mutable uint32_t sequence_ = 0;
  mutable std::vector<uint8_t> buffer_;
};

}  // namespace portcullis::peer::xfrm
