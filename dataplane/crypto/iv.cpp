#include "dataplane/crypto/iv.hpp"

#include <cstring>

#include "dataplane/crypto/key_layout.hpp"

namespace portcullis {

void WriteCbcIv(const KeySchedule& key, Sequence sequence, uint8_t* iv) noexcept {
  const be64 number(Value(sequence));
  // One block of CFB over zeros is the block cipher itself. Any CPU with AES-NI runs this variant.
  constexpr uint8_t kZeros[kCipherBlock] = {};
  uint8_t block[kCipherBlock] = {};
  std::memcpy(block + kCipherBlock - sizeof(number), &number, sizeof(number));
  aes_cfb_128_one_sse(iv, kZeros, block, As<CbcSchedule>(key).iv, kCipherBlock);
}

}  // namespace portcullis
