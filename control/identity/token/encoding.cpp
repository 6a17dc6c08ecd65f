#include "control/identity/token/encoding.hpp"

#include <fmt/ranges.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>

namespace portcullis::identity {

namespace {
// OpenSSL knows the other alphabet (RFC 4648 4): two characters differ, and padding is required.
constexpr size_t kQuantum = 4;

bool IsAdmitted(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}
}  // namespace

std::optional<std::string> DecodeBase64Url(std::string_view text) {
  if (!std::all_of(text.begin(), text.end(), IsAdmitted)) return {};
  std::string padded(text);
  std::replace(padded.begin(), padded.end(), '-', '+');
  std::replace(padded.begin(), padded.end(), '_', '/');
  const size_t padding = (kQuantum - padded.size() % kQuantum) % kQuantum;
  padded.append(padding, '=');
  std::string decoded(padded.size() / kQuantum * 3, '\0');
  if (EVP_DecodeBlock(reinterpret_cast<uint8_t*>(decoded.data()), Bytes(padded).data(),
                      static_cast<int>(padded.size())) < 0) {
    return {};
  }
  decoded.resize(text.size() * 3 / kQuantum);
  // OpenSSL lets stray low bits and a single last character pass; the way back tells.
  if (EncodeBase64Url(Bytes(decoded)) != text) return {};
  return decoded;
}

std::string EncodeBase64Url(std::span<const uint8_t> bytes) {
  const size_t quanta = (bytes.size() + 2) / 3;
  std::string encoded(quanta * kQuantum + 1, '\0');  // OpenSSL ends it with a zero
  EVP_EncodeBlock(reinterpret_cast<uint8_t*>(encoded.data()), bytes.data(),
                  static_cast<int>(bytes.size()));
  encoded.resize((bytes.size() * kQuantum + 2) / 3);
  std::replace(encoded.begin(), encoded.end(), '+', '-');
  std::replace(encoded.begin(), encoded.end(), '/', '_');
  return encoded;
}

Sha256 DigestOf(std::string_view bytes) {
  Sha256 digest{};
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

std::optional<Sha256> DecodeSha256(std::string_view text) {
  constexpr size_t kEncoded = 43;  // 32 bytes; checked first, so that nothing long is decoded
  if (text.size() != kEncoded) return {};
  const auto decoded = DecodeBase64Url(text);
  Sha256 digest{};
  if (!decoded || decoded->size() != digest.size()) return {};
  std::copy(decoded->begin(), decoded->end(), digest.begin());
  return digest;
}

bool EqualInConstantTime(const Sha256& a, const Sha256& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string TokenName(std::string_view token) {
  constexpr size_t kShown = 8;
  const Sha256 digest = DigestOf(token);
  return fmt::format("{:02x}", fmt::join(std::span(digest).first(kShown), ""));
}

}  // namespace portcullis::identity
