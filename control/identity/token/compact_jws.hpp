// A signed JSON object in the one serialisation that is admitted: compact (RFC 7515 7.1), strictly
// canonical, no member twice. Who wants to trust its content asks PublicKey::Verifies() first.
// `jku`, `jwk`, `x5u` and `x5c` have no place in this file: nothing here follows or believes them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace portcullis::identity {

// NOLINTNEXTLINE(bugprone-exception-escape): json asserts where it moves, and does not throw
struct CompactJws {
  nlohmann::json header;           // an object with the texts `alg` and `typ`, and without `crit`
  nlohmann::json payload;          // an object
  std::string_view signing_input;  // within the text that was parsed
  std::string signature;

  /// A text of the header; empty when it is absent or something else.
  [[nodiscard]] std::string_view Header(const char* member) const;
};

/// Is it meant for one? Three parts, the first of which is a JSON object: whoever says so is judged
/// by the rules for a JWS, and by no others.
bool ClaimsToBeJws(std::string_view text);

/// `text` must outlive the result, and have `longest` bytes at most. Errors say where, never what
/// the text was.
Result<CompactJws> ParseCompact(std::string_view text, size_t longest);

}  // namespace portcullis::identity
