// What lies inside a KeySchedule, per algorithm. Only the engine and WriteIv look at it.
#pragma once

#include <intel-ipsec-mb.h>

#include <cstddef>
#include <cstdint>

#include "dataplane/crypto/engine.hpp"

namespace portcullis {

inline constexpr size_t kSaltBytes = 4;
inline constexpr size_t kCipherBlock = 16;

/// The salt shares the last cache line with hash keys that every packet needs anyway.
struct GcmSchedule {
  gcm_key_data keys;
  uint8_t salt[kSaltBytes];
};
static_assert(offsetof(GcmSchedule, salt) == 1008 && sizeof(GcmSchedule) <= sizeof(KeySchedule));

struct ChachaSchedule {
  uint8_t key[32];
  uint8_t salt[kSaltBytes];
};

struct alignas(16) CbcSchedule {
  uint8_t encrypt[15 * kCipherBlock];  // round keys, as many as AES-256 has
  uint8_t decrypt[15 * kCipherBlock];
  uint8_t inner_hash[32];  // SHA-256 states after key ^ ipad and key ^ opad (RFC 2104)
  uint8_t outer_hash[32];
  uint8_t iv[11 * kCipherBlock];  // AES-128 round keys that make IVs and nothing else
};
static_assert(sizeof(CbcSchedule) <= sizeof(KeySchedule));

template <class Layout>
const Layout& As(const KeySchedule& key) {
  return *reinterpret_cast<const Layout*>(key.data.data());
}
template <class Layout>
Layout& As(KeySchedule& key) {
  return *reinterpret_cast<Layout*>(key.data.data());
}

}  // namespace portcullis
