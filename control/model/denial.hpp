// What was revoked. An entry lasts until the thing itself has expired: forgotten earlier, it would
// be admitted again.
#pragma once

#include <chrono>
#include <compare>
#include <optional>
#include <string>

namespace portcullis::model {

/// A thing that can be revoked. Names are compared byte by byte: whoever asks writes them as
/// whoever revoked did.
///
///     kind         issuer                          id
///     peer                                         the peer's name in policy
///     certificate  the issuer's name (RFC 4514)    the serial number, hex, lower case
///     token        the issuer's URL (`iss`)        `jti`
///     key          the issuer's URL                `kid`
///     issuer                                       the issuer's URL
struct Revocable {
  enum class Kind { peer, certificate, token, key, issuer };
  Kind kind = Kind::peer;
  std::string issuer;  // empty for a peer and an issuer
  std::string id;

  auto operator<=>(const Revocable&) const = default;
};

struct Denial {
  using Time = std::chrono::system_clock::time_point;

  Revocable what;
  std::string reason;
  std::string who;            // the operator, or what decided it
  Time since;                 // seconds
  std::optional<Time> until;  // when the thing itself expires; none: never
};

}  // namespace portcullis::model
