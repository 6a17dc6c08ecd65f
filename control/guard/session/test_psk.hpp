// What peers with pre-shared keys do, for tests: the handshake by their key, and proofs of
// possession.
#pragma once

#include <openssl/rand.h>

#include "control/guard/session/test_service.hpp"

namespace portcullis::guard {

/// For SSL_CTX_set_psk_use_session_callback(): the key of kPskIdentity.
inline int UseKey(SSL* ssl, const EVP_MD* /*md*/, const unsigned char** id, size_t* id_size,
                  SSL_SESSION** session) {
  constexpr std::array<uint8_t, 2> kAes128GcmSha256{0x13, 0x01};
  std::array<uint8_t, 32> key{};
  key.back() = 7;
  *session = SSL_SESSION_new();
  SSL_SESSION_set1_master_key(*session, key.data(), key.size());
  SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, kAes128GcmSha256.data()));
  SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
  *id = reinterpret_cast<const unsigned char*>(kPskIdentity);
  *id_size = std::strlen(kPskIdentity);
  return 1;
}

inline std::string NewJti() {
  std::array<uint8_t, 16> random{};
  RAND_bytes(random.data(), random.size());
  return identity::EncodeBase64Url(random);
}

inline std::string Proof(const pki::TestKey& key, const json& claims) {
  const json header = {{"typ", "dpop+jwt"}, {"alg", "ES256"}, {"jwk", key.Jwk()}};
  return key.Jws(identity::Algorithm::es256, header.dump(), claims.dump());
}

}  // namespace portcullis::guard
