// The outer address and UDP port of a peer. One writer (the worker that owns its SAs); the main
// thread reads it for people, who can live with one reading that mixes two endpoints.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/ip.hpp"

namespace portcullis {

class Endpoint {
 public:
  void Set(const Address& address, uint16_t port) noexcept {
    high_.store(address.Half(0), std::memory_order_relaxed);
    low_.store(address.Half(1), std::memory_order_relaxed);
    port_.store(port, std::memory_order_relaxed);
  }
  [[nodiscard]] Address address() const noexcept {
    const uint64_t half[2] = {high_.load(std::memory_order_relaxed),
                              low_.load(std::memory_order_relaxed)};
    return Address::V6(half);
  }
  /// 0: bare ESP.
  [[nodiscard]] uint16_t port() const noexcept { return port_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool Is(const Address& address, uint16_t port) const noexcept {
    return this->port() == port && high_.load(std::memory_order_relaxed) == address.Half(0) &&
           low_.load(std::memory_order_relaxed) == address.Half(1);
  }

 private:
  std::atomic<uint64_t> high_ = 0;
  std::atomic<uint64_t> low_ = 0;
  std::atomic<uint16_t> port_ = 0;
};

}  // namespace portcullis
