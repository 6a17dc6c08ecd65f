// What the tests of this folder share.
#pragma once

#include <cctype>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/crypto/engine.hpp"

namespace portcullis {

using Bytes = std::vector<uint8_t>;

/// Hex digits, with spaces where they help; anything odd throws.
inline Bytes FromHex(std::string_view text) {
  Bytes out;
  std::string digits;
  for (const char c : text) {
    if (c == ' ') continue;
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) throw std::invalid_argument("not hex");
    digits += c;
    if (digits.size() < 2) continue;
    out.push_back(static_cast<uint8_t>(std::stoul(digits, nullptr, 16)));
    digits.clear();
  }
  if (!digits.empty()) throw std::invalid_argument("odd number of hex digits");
  return out;
}

inline Bytes RandomBytes(size_t count, std::mt19937_64& random) {
  Bytes out(count);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
  return out;
}

inline CryptoOp OpFor(Algorithm algorithm, const KeySchedule& key, Bytes& packet, bool esn,
                      uint32_t esn_high) {
  CryptoOp op;
  op.key = &key;
  op.esp = packet.data();
  op.length = static_cast<uint32_t>(packet.size());
  op.esn_high = esn_high;
  op.algorithm = algorithm;
  op.esn = esn;
  return op;
}

inline bool SealOne(Engine& engine, CryptoOp op) {
  engine.Seal({&op, 1});
  return op.ok;
}
inline bool OpenOne(Engine& engine, CryptoOp op) {
  engine.Open({&op, 1});
  return op.ok;
}

}  // namespace portcullis
