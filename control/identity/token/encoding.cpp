#include "control/identity/token/encoding.hpp"

#include <cjose/base64.h>
#include <fmt/ranges.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace portcullis::identity {

namespace {
struct Free {
  void operator()(void* memory) const { std::free(memory); }  // cjose allocates with malloc()
};
}  // namespace

std::optional<std::string> DecodeBase64Url(std::string_view text) {
  if (text.empty()) return std::string();
  uint8_t* raw = nullptr;
  size_t size = 0;
  if (!cjose_base64url_decode(text.data(), text.size(), &raw, &size, nullptr)) return {};
  const std::unique_ptr<uint8_t, Free> owned(raw);
  std::string decoded(reinterpret_cast<const char*>(raw), size);
  // cjose takes padding and stray low bits as well; the way back tells.
  if (EncodeBase64Url(Bytes(decoded)) != text) return {};
  return decoded;
}

std::string EncodeBase64Url(std::span<const uint8_t> bytes) {
  char* raw = nullptr;
  size_t size = 0;
  if (bytes.empty() || !cjose_base64url_encode(bytes.data(), bytes.size(), &raw, &size, nullptr)) {
    return {};
  }
  const std::unique_ptr<char, Free> owned(raw);
  return {raw, size};
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
