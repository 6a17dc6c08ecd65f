// What clients do to a server, on one thread.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/requests/client.hpp"

namespace portcullis::bench {

struct Load {
  uint16_t port = 0;
  std::string request;      // as it goes over the wire
  unsigned expected = 200;  // its answer's status; others are failures
  size_t connections = 16;
  double seconds = 3;     // of measuring, behind what opens the connections
  double per_second = 0;  // Paced(): requests
};

/// {"done", "failed", "seconds", "ms": {"p50", "p99", "max"}}
using Told = nlohmann::json;

/// Each connection asks again as soon as it has its answer.
Told KeepAlive(SSL_CTX* context, const Load& load);
/// Requests are due at fixed times, and their delays are counted from then: who is late is slow.
Told Paced(SSL_CTX* context, const Load& load);
/// Connections that open and close, so many at once.
Told Handshakes(SSL_CTX* context, const Load& load);

/// Connections that have asked once and then say nothing.
class Idlers {
 public:
  Told Open(SSL_CTX* context, const Load& load);
  Told Close();

 private:
  std::vector<std::unique_ptr<Client>> all_;
};

}  // namespace portcullis::bench
