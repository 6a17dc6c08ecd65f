// What the gate answers to a request for a session, held against what this peer asked for and is
// configured to carry (docs/session-interface.md). What goes beyond that is refused as a whole:
// nothing of it is installed.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/guard/session/keys.hpp"

namespace portcullis::peer {

struct Asked {
  std::string interface;
  std::string session;           // that is renewed; empty: a new one
  uint64_t last_generation = 0;  // of that session
  std::vector<Algorithm> algorithms;
  std::vector<guard::SessionSelector> selectors;  // at most
  Spi to_peer{};
  std::array<uint8_t, guard::kNonceBytes> nonce{};
  std::string gate_identity;
  std::string peer_identity;
};

struct Offer {
  /// All but mode and tls_version, which the connection knows.
  guard::KeyContext agreed;
  uint32_t replay_window = 0;
  std::chrono::seconds life{};
};

/// The 201's body. kInvalid: not of that form; kForbidden: not what was asked for, or more.
Result<Offer> ReadOffer(std::string_view body, const Asked& asked);

/// The request's body.
struct RequestOptions {
  bool initial_contact = false;
  bool udp_encap = false;
  std::string outer_peer;  // empty: as the connection's
  std::string outer_gate;
};
std::string RequestText(const Asked& asked, const RequestOptions& options);

/// "10.2.0.0/24 udp [5000, 5000] - 10.1.0.2/32 [0, 65535]", the gate's side first.
std::string Describe(const guard::SessionSelector& selector);

/// Whether all that `inner` admits, `outer` admits too.
bool Within(const guard::SessionSelector& inner, const guard::SessionSelector& outer);

}  // namespace portcullis::peer
