// The one interface to whatever computes ESP's cryptography. It works on a burst of packets that
// are already framed: the engine turns what stands in the buffer into what goes on the wire, or
// back, in place. One engine object per worker; nothing in it is shared between threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace portcullis {

enum class Algorithm : uint8_t {
  aes_128_gcm_16,                // RFC 4106
  aes_256_gcm_16,                // RFC 4106
  chacha20_poly1305,             // RFC 7634
  aes_128_cbc_hmac_sha_256_128,  // RFC 3602, RFC 4868
  aes_256_cbc_hmac_sha_256_128,  // RFC 3602, RFC 4868
};

struct AlgorithmInfo {
  std::string_view name;  // as in REST: "aes-128-gcm-16"
  uint8_t key_bytes;      // key material: cipher key || salt, or cipher key || integrity key
  uint8_t iv_bytes;       // explicit IV in the packet
  uint8_t icv_bytes;
  uint8_t pad_to;  // payload || padding || pad length || next header is a multiple of this; 2^n
  bool aead;
};

inline constexpr auto kAlgorithms = std::to_array<AlgorithmInfo>({
    {"aes-128-gcm-16", 20, 8, 16, 4, true},
    {"aes-256-gcm-16", 36, 8, 16, 4, true},
    {"chacha20-poly1305", 36, 8, 16, 4, true},
    {"aes-128-cbc-hmac-sha-256-128", 48, 16, 16, 16, false},
    {"aes-256-cbc-hmac-sha-256-128", 64, 16, 16, 16, false},
});

constexpr const AlgorithmInfo& Info(Algorithm a) {
  return kAlgorithms[static_cast<size_t>(a)];
}

/// An expanded key. Fits every algorithm; the stride keeps the lines that a packet touches at the
/// same offsets for every SA, so that they can be prefetched. Lives in locked memory.
struct alignas(64) KeySchedule {
  std::array<std::byte, 1024> data;
};

/// One packet. `esp` is the ESP header (SPI), contiguous to the end of the ICV.
/// Seal: header, IV, payload and trailer are in place in the clear; encrypts, writes the ICV.
/// Open: verifies, then decrypts in place. When `ok` is false the payload is undefined.
struct CryptoOp {
  const KeySchedule* key = nullptr;
  uint8_t* esp = nullptr;
  uint32_t length = 0;    // ESP header up to and including the ICV, bytes
  uint32_t esn_high = 0;  // upper half of the sequence number; authenticated when `esn`
  Algorithm algorithm = Algorithm::aes_128_gcm_16;
  bool esn = false;
  bool ok = false;  // result
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Expands `key` (Info(a).key_bytes long). Not for the packet path.
  virtual Result<void> Expand(Algorithm a, std::span<const uint8_t> key,
                              KeySchedule& out) const = 0;
  virtual void Seal(std::span<CryptoOp> ops) noexcept = 0;
  virtual void Open(std::span<CryptoOp> ops) noexcept = 0;
  /// For people: "ipsec_mb 1.3, AVX-512 + VAES".
  [[nodiscard]] virtual std::string Name() const = 0;
};

/// Intel IPsec-MB on the CPU: synchronous, in order.
Result<std::unique_ptr<Engine>> MakeIpsecMbEngine();

}  // namespace portcullis
