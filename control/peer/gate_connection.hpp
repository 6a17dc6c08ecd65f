// One connection to the gate's guard: TCP, TLS, then a few HTTP/1.1 requests (at most 8, see
// docs/session-interface.md). Everything is bounded in time and size.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "control/http/stream.hpp"
#include "control/identity/token/url.hpp"
#include "control/peer/tls_client.hpp"

namespace portcullis::peer {

/// Where the gate is.
struct GateAddress {
  std::string url;  // "https://host:port", without a path: what proofs of possession name
  identity::WebAddress parts;      // of `url`
  std::optional<Address> address;  // absent: the host is looked up
};

struct Question {
  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

struct Reply {
  unsigned status = 0;
  std::string body;
  std::string nonce;                    // DPoP-Nonce; empty: none
  std::chrono::seconds retry_after{0};  // Retry-After
};

class GateConnection {
 public:
  /// Connects and authenticates. kUnavailable: it cannot be reached; kForbidden: it is not the
  /// gate, or does not take this peer. `executor` has one thread. All of a connection ends after
  /// `time`.
  static boost::asio::awaitable<Result<std::unique_ptr<GateConnection>>> Open(
      boost::asio::any_io_executor executor, GateAddress gate, std::shared_ptr<const TlsClient> tls,
      std::chrono::milliseconds time);

  /// kUnavailable: no whole answer.
  boost::asio::awaitable<Result<Reply>> Ask(Question question);

  [[nodiscard]] const ProvenGate& gate() const { return gate_; }
  [[nodiscard]] SSL* ssl() { return stream_.native_handle(); }
  [[nodiscard]] Address local() const { return local_; }
  [[nodiscard]] Address remote() const { return remote_; }

 private:
  GateConnection(web::TcpStream tcp, identity::SslHandle tls, std::string authority)
      : stream_(std::move(tcp), tls.release()), authority_(std::move(authority)) {}
  boost::asio::awaitable<Result<void>> Authenticate();
  [[nodiscard]] tl::unexpected<Error> Broken(const char* during,
                                             const boost::system::error_code& error);

  web::TlsStream stream_;
  std::string authority_;
  ProvenGate gate_;
  Address local_;
  Address remote_;
  web::Buffer buffer_;
};

}  // namespace portcullis::peer
