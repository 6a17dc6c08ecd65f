// The two encodings that all of JOSE is made of, base64url and SHA-256, in the one strict form that
// is admitted here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace portcullis::identity {

using Sha256 = std::array<uint8_t, 32>;

inline constexpr size_t kLongestToken = 8192;  // bytes

inline std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// RFC 7515 2: the URL-safe alphabet without padding. Nothing unless `text` is exactly what
/// encoding the result gives: with a second spelling of one token, a list of used or revoked ones
/// is worth little.
std::optional<std::string> DecodeBase64Url(std::string_view text);
std::string EncodeBase64Url(std::span<const uint8_t> bytes);

Sha256 DigestOf(std::string_view bytes);
/// A SHA-256 value in base64url, as in `x5t#S256`, `jkt` and `ath`.
std::optional<Sha256> DecodeSha256(std::string_view text);
bool EqualInConstantTime(const Sha256& a, const Sha256& b);

/// What a token in a header is made of (RFC 6750 2.1): anything else could end the header.
bool IsBearerToken(std::string_view text);
/// As in a form (RFC 6749 B), a space as %20.
std::string EncodeForForm(std::string_view text);

/// What logs and answers call a token: 16 hex digits of its SHA-256.
std::string TokenName(std::string_view token);

}  // namespace portcullis::identity
