// Who takes part in the measurements of sessions: a CA, the gate, an authorization server and many
// peers, all made on the spot. Keys and certificates of all but the peers are files for the guard.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/identity/test_pki.hpp"
#include "control/identity/token/test_support.hpp"

namespace portcullis::bench {

inline constexpr const char* kGateName = "gate.example";
inline constexpr const char* kInterface = "nsmf";
inline constexpr const char* kAudience = "https://gate.example/nsmf";
inline constexpr const char* kIssuer = "https://as.example";
inline constexpr const char* kScope = "nsi";
inline constexpr const char* kKeyId = "es256-1";

/// What a peer knows of its session.
struct Held {
  std::string id;  // empty: none
  uint64_t generation = 0;
};

struct Peer {
  std::string name;  // in policy; its identity is name + ".example"
  identity::test::Issued credential;
  Held held;
};

class World {
 public:
  /// Writes ca.pem, gate.pem, gate.key, as.jwks and peers.crl, with so many entries, into `folder`.
  World(const std::string& folder, size_t peers, size_t revoked);

  std::vector<Peer> peers;
  /// A sound access token (RFC 9068) of the peer, bound to its certificate, each another one.
  [[nodiscard]] std::string Token(size_t peer) const;
  [[nodiscard]] const identity::test::TestKey& token_key() const { return token_key_; }

 private:
  identity::test::Issued ca_;
  identity::test::TestKey token_key_;
};

}  // namespace portcullis::bench
