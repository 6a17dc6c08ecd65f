// From a TLS connection to the keys of two security associations, without a key on the wire
// (design: Keys; TS 33.501 13.2.4.4.1 is the precedent). The gate and the peer both run this code
// on their own end of the connection:
//
//   master = TLS exporter(label, SHA-256(context), 64)          RFC 8446 7.5, RFC 5705
//   SA key = HKDF-Expand(master, direction || SPI, length)      RFC 5869 2.3, with SHA-256
//
// TLS 1.3's exporter does not cover the client's certificate, so everything that both sides must
// agree about stands in the context: another opinion about any of it gives other keys, and no
// packet passes. docs/session-keys.md has the encoding byte by byte, and vectors.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/packet/bytes.hpp"

namespace portcullis::guard {

/// How both ends of a session proved who they are. The two never mix on one listener.
enum class Mode : uint8_t { certificate = 1, psk = 2 };

/// RFC 5705 4 and its registry: labels that are not registered begin with EXPERIMENTAL.
inline constexpr std::string_view kExporterLabel = "EXPERIMENTAL-portcullis-esp-1";
inline constexpr size_t kMasterBytes = 64;
inline constexpr size_t kNonceBytes = 32;

/// Packets that the session may carry. Named by side, so that both ends write down the same.
struct SessionSelector {
  struct Ports {
    uint16_t first = 0;
    uint16_t last = UINT16_MAX;
  };
  std::optional<Prefix> behind_gate;  // absent: any
  std::optional<Prefix> behind_peer;
  uint8_t protocol = 0;  // IANA number; 0: any
  Ports gate_ports;
  Ports peer_ports;
};

/// What both ends of a session must agree about. The order of selectors counts: it is that of the
/// gate's answer.
struct KeyContext {
  uint16_t tls_version = 0;  // as on the wire: 0x0304, 0x0303
  Mode mode = Mode::certificate;
  std::string gate_identity;
  std::string peer_identity;
  std::string interface;
  std::string session_id;
  uint64_t generation = 0;
  Spi to_gate{};  // chosen by the gate, which receives on it (RFC 4301 4.1)
  Spi to_peer{};
  Algorithm algorithm = Algorithm::aes_128_gcm_16;
  bool esn = true;
  std::vector<SessionSelector> selectors;
  std::array<uint8_t, kNonceBytes> gate_nonce{};  // fresh and random, each for its side
  std::array<uint8_t, kNonceBytes> peer_nonce{};
};

/// Each field is preceded by its length: no two contexts have the same encoding.
std::vector<uint8_t> Encode(const KeyContext& context);

/// The secret of one generation of SAs. Let it go as soon as both keys are expanded.
class MasterKey {
 public:
  /// For a master that came out of an exporter; kMasterBytes long.
  explicit MasterKey(Secret bytes) : bytes_(std::move(bytes)) {}

  /// Works once for a connection, whatever comes of it: a second export could only give the same
  /// secret again, and AES-GCM would use its nonces twice. Then, before the handshake's end, in
  /// TLS 1.2 without extended master secret (RFC 7627), or when the context names another TLS
  /// version than the connection has: kConflict.
  static Result<MasterKey> Export(SSL* connection, const KeyContext& context);

  /// The key of one SA, Info(algorithm).key_bytes long, the salt included. `direction` is the
  /// gate's: inbound is from the peer to the gate, on both ends.
  [[nodiscard]] Result<Secret> Expand(Direction direction, Spi spi, Algorithm algorithm) const;

 private:
  Secret bytes_;
};

}  // namespace portcullis::guard
