// One client of a TLS server, on a socket that does not block: many of them share a thread, and the
// thread's core is not what is measured.
#pragma once

#include <cstdint>
#include <string>

#include "control/identity/tls_profile.hpp"

namespace portcullis::bench {

/// Mutual TLS 1.3, without resumption. That the server is the server is not checked: its costs are
/// not measured here. Throws std::runtime_error.
identity::SslContextPtr NewClientContext(const std::string& certificate, const std::string& key);

class Client {
 public:
  /// Begins to connect to `port` of 127.0.0.1. Throws std::runtime_error.
  Client(SSL_CTX* context, uint16_t port);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  enum class State : uint8_t { opening, idle, asking, closing, closed };
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] int fd() const { return fd_; }
  /// Of the last answer.
  [[nodiscard]] unsigned status() const { return status_; }

  /// Sends it; for one that is idle. It is idle again when the answer has come.
  void Ask(const std::string& request);
  /// Says goodbye; it is closed when the server has said so too.
  void Close();
  /// As far as it gets without waiting: true when it became idle or closed by that.
  bool Go();

 private:
  bool Opened();
  bool Sent();
  bool Answered();
  bool Ended();
  /// Nothing to do but wait; false: the connection is of no use any more.
  bool Waits(int result);

  int fd_ = -1;
  identity::SslHandle ssl_;
  State state_ = State::opening;
  std::string out_;
  size_t sent_ = 0;
  std::string in_;
  unsigned status_ = 0;
};

}  // namespace portcullis::bench
