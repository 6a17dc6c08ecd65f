// Pre-shared keys as RFC 9257 wants them: each is shared by two parties only, in one role each, for
// one TLS version and one hash, random and of at least 128 bits. The same key in two places would
// let one party pose as the other or one protocol break the other, so it is refused when loaded.
//
// From outside, an identity that nobody has and a wrong key must look the same (RFC 9257 4.3): for
// an unknown identity the handshake goes on with `dummy()`, and fails where a wrong key fails.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace portcullis::identity {

enum class TlsVersion : uint16_t { v1_2 = 0x0303, v1_3 = 0x0304 };  // as on the wire
enum class PskHash : uint8_t { sha256, sha384 };
/// What the peer is in the handshake. The gate is the other.
enum class PeerRole : uint8_t { client, server };

/// The one purpose of a key.
struct PskUse {
  PeerRole peer = PeerRole::client;
  TlsVersion version = TlsVersion::v1_3;
  PskHash hash = PskHash::sha256;
  bool operator==(const PskUse&) const = default;
};

/// A key as an operator configures it.
struct PskSetting {
  std::string identity;  // 1..128 printable bytes; travels in the clear, so it should tell nothing
  std::string peer;      // the peer in policy that it belongs to
  PskUse use;
  std::string file;  // 32..128 hex digits, see ReadPrivateFile
};

struct PskKey {
  std::string identity;
  std::string peer;
  PskUse use;
  Secret key;
  std::string thumbprint;  // what policy pins: KeyFingerprint("psk", key)
};

/// Does not change once loaded; a roll-over loads another one.
class PskStore {
 public:
  /// Refuses identities and keys that are there twice, and more than two keys of one peer for one
  /// use: two are needed while it changes from one to the other. `where` is the list's place in the
  /// configuration.
  static Result<PskStore> Load(const std::vector<PskSetting>& settings, const std::string& where);

  /// Null: unknown, or meant for another use. Valid as long as the store.
  [[nodiscard]] const PskKey* Find(std::string_view identity, const PskUse& use) const;

  /// A random key that nobody has.
  [[nodiscard]] const Secret& dummy() const { return dummy_; }

 private:
  PskStore();
  std::map<std::string, PskKey, std::less<>> keys_;
  Secret dummy_;
};

}  // namespace portcullis::identity
