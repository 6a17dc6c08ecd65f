#include "control/identity/token/encoding.hpp"

#include <fmt/ranges.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>

namespace portcullis::identity {

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr uint8_t kNone = 0xff;

constexpr auto kValues = [] {
  std::array<uint8_t, 256> values{};
  values.fill(kNone);
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  }
  return values;
}();

}  // namespace

// By hand, since cjose and OpenSSL admit more spellings than one, and encoding again to see which
// it was takes a fifth of all that a token check costs beside its signature.
std::optional<std::string> DecodeBase64Url(std::string_view text) {
  constexpr unsigned kBitsPerCharacter = 6;
  constexpr unsigned kBitsPerByte = 8;
  std::string decoded(text.size() * kBitsPerCharacter / kBitsPerByte, '\0');
  size_t at = 0;
  uint32_t bits = 0;  // what is left over from the characters so far, in the low `count` bits
  unsigned count = 0;
  for (const char c : text) {
    const uint8_t value = kValues[static_cast<uint8_t>(c)];
    if (value == kNone) return {};
    bits = (bits << kBitsPerCharacter) | value;
    count += kBitsPerCharacter;
    if (count >= kBitsPerByte) {
      count -= kBitsPerByte;
      decoded[at++] = static_cast<char>(bits >> count);
      bits &= (1U << count) - 1;
    }
  }
  // Left over are no bits, or the 2 or 4 that fill up the last character; they must be zero.
  if (count == kBitsPerCharacter || bits != 0) return {};
  return decoded;
}

std::string EncodeBase64Url(std::span<const uint8_t> bytes) {
  constexpr size_t kQuantum = 4;                                     // characters for 3 bytes
  std::string encoded((bytes.size() + 2) / 3 * kQuantum + 1, '\0');  // OpenSSL ends it with a zero
  EVP_EncodeBlock(reinterpret_cast<uint8_t*>(encoded.data()), bytes.data(),
                  static_cast<int>(bytes.size()));
  encoded.resize((bytes.size() * kQuantum + 2) / 3);  // without padding
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

bool IsBearerToken(std::string_view text) {
  return !text.empty() && text.size() <= kLongestToken && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-._~+/=").find(c) != std::string_view::npos;
  });
}

std::string EncodeForForm(std::string_view text) {
  return boost::urls::encode(text, boost::urls::unreserved_chars);
}

std::string TokenName(std::string_view token) {
  constexpr size_t kShown = 8;
  const Sha256 digest = DigestOf(token);
  return fmt::format("{:02x}", fmt::join(std::span(digest).first(kShown), ""));
}

}  // namespace portcullis::identity
