// What was revoked. An entry lasts until the thing itself has expired: forgotten earlier, it would
// be admitted again.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <compare>
#include <optional>
#include <string>

#include "control/model/types.hpp"

namespace portcullis::model {

/// A thing that can be revoked. Names are compared byte by byte: whoever asks writes them as
/// whoever revoked did.
///
///     kind         issuer                          id
///     peer                                         the peer's name in policy
///     certificate  the issuer's name (RFC 4514)    the serial number, hex, upper case
///     token        the issuer's URL (`iss`)        `jti`
///     key          the issuer's URL                `kid`
///     issuer                                       the issuer's URL
///     policy                                       the policy's name
struct Revocable {
  enum class Kind : uint8_t { peer, certificate, token, key, issuer, policy };
  Kind kind = Kind::peer;
  std::string issuer;  // of a certificate, token or key; else empty
  std::string id;

  auto operator<=>(const Revocable&) const = default;
};
/// As they stand in the store and in REST.
inline constexpr Choices<Revocable::Kind, 6> kRevocables = {
    {{"peer", Revocable::Kind::peer},
     {"certificate", Revocable::Kind::certificate},
     {"token", Revocable::Kind::token},
     {"key", Revocable::Kind::key},
     {"issuer", Revocable::Kind::issuer},
     {"policy", Revocable::Kind::policy}}};
constexpr bool HasIssuer(Revocable::Kind kind) {
  using enum Revocable::Kind;
  return kind == certificate || kind == token || kind == key;
}

inline std::string Text(const Revocable& what) {
  return fmt::format("{} '{}'{}", TextOf(kRevocables, what.kind), what.id,
                     what.issuer.empty() ? "" : " of " + what.issuer);
}

struct Denial {
  using Time = std::chrono::system_clock::time_point;

  Revocable what;
  std::string reason;
  std::string who;            // the operator, or what decided it
  Time since;                 // seconds
  std::optional<Time> until;  // when the thing itself expires; none: never
};

}  // namespace portcullis::model
