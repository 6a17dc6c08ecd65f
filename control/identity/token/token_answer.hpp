// What a token endpoint answers (RFC 6749 5).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace portcullis::identity {

struct TokenAnswer {
  std::string token;        // IsBearerToken()
  std::string issued_type;  // RFC 8693 2.2.1; empty: not said
  std::optional<std::chrono::seconds> expires_in;
};

/// `type`: how the token will be used, in any case. kUnavailable, without a word of the token: the
/// answer cannot be used. Whoever asked wipes `text` and the token.
Result<TokenAnswer> ReadTokenAnswer(std::string_view text, std::string_view type);

/// The `error` of a refusal (RFC 6749 5.2); empty: `text` says none.
std::string ReadTokenError(std::string_view text);

}  // namespace portcullis::identity
