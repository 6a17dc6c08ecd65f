// Who chooses the IV is who knows the sequence number: the sender's pipeline writes it into the
// packet before Seal.
#pragma once

#include <cstring>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/packet/bytes.hpp"

namespace portcullis {

/// Writes Info(algorithm).iv_bytes bytes to `iv`.
/// AEAD: the sequence number, unique per key by construction (RFC 4106 3.1, RFC 7634 2).
/// CBC: unpredictable, the sequence number encrypted under a key derived for this alone (RFC 3602
/// 2.1, NIST SP 800-38A appendix C, first method).
/// Never twice for one sequence number of one key.
inline void WriteIv(Algorithm algorithm, const KeySchedule& key, Sequence sequence,
                    uint8_t* iv) noexcept;
void WriteCbcIv(const KeySchedule& key, Sequence sequence, uint8_t* iv) noexcept;

void WriteIv(Algorithm algorithm, const KeySchedule& key, Sequence sequence, uint8_t* iv) noexcept {
  if (!Info(algorithm).aead) return WriteCbcIv(key, sequence, iv);
  const be64 number(Value(sequence));
  std::memcpy(iv, &number, sizeof(number));
}

}  // namespace portcullis
