// One TLS connection of a peer to the gate, blocking: the load comes from many threads.
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "control/identity/test_pki.hpp"
#include "control/identity/tls_profile.hpp"

namespace portcullis::bench {

struct GateAddress {
  std::string address;  // IPv4
  uint16_t port = 0;
};

struct Reply {
  unsigned status = 0;
  std::string body;
};

class Connection {
 public:
  /// Mutual TLS 1.3. That the gate is the gate is not checked: its costs are not measured here.
  static Result<Connection> Open(const GateAddress& gate, SSL_CTX* context,
                                 const identity::test::Issued& own);
  /// Says goodbye and waits for the gate's: only then is it known that the gate took the handshake.
  Result<void> Close();
  /// One request of HTTP/1.1, complete, and its answer.
  Result<Reply> Ask(const std::string& request);
  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }

 private:
  struct Socket {
    explicit Socket(int fd) : fd(fd) {}
    Socket(Socket&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
    Socket& operator=(Socket&&) = delete;
    ~Socket();
    int fd;
  };
  Connection(Socket socket, identity::SslHandle ssl)
      : socket_(std::move(socket)), ssl_(std::move(ssl)) {}

  Socket socket_;
  identity::SslHandle ssl_;
};

/// What all peers share; without a certificate of its own.
identity::SslContextPtr NewPeerContext();

}  // namespace portcullis::bench
