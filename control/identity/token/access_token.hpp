// What an access token says once it is believed, and the rules that its claims must meet, whether
// they came in a JWT (RFC 9068) or in the answer to an introspection (RFC 7662).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "control/identity/refusal.hpp"
#include "control/identity/token/deny_list.hpp"
#include "control/identity/token/encoding.hpp"
#include "control/identity/token/moment.hpp"

namespace portcullis::identity {

/// The keys that a token belongs to (`cnf`), at least one: where it names both, both must be shown.
struct Binding {
  std::optional<Sha256> certificate;  // of the client's, over its DER (RFC 8705 3.1)
  std::optional<Sha256> proof_key;    // of the client's proofs, after RFC 7638 (RFC 9449 6.1)

  bool operator==(const Binding&) const = default;
};

struct AccessToken {
  std::string issuer;
  std::string subject;
  std::string client_id;
  std::string jti;
  std::string kid;  // empty: an opaque token
  std::set<std::string> scopes;
  std::string audience;  // the interface's, whatever others the token names beside
  std::chrono::system_clock::time_point expiry;  // without leeway
  Binding binding;
  std::string acr;  // empty: not stated
  std::optional<std::chrono::system_clock::time_point> auth_time;
};

struct ClaimRules {
  std::string issuer;  // byte by byte what `iss` must be
  /// Interface (or administration) -> its audience. One each, none shared, so that a token for one
  /// interface opens no other.
  std::map<std::string, std::string, std::less<>> audiences;
  std::vector<std::string> required_claims;  // beside those that are always required
  std::chrono::seconds leeway{30};           // 0 to 30 s (TS 33.122 C.2.2)
};

enum class TokenForm : uint8_t { jwt, introspected };

/// Checks all but the signature and what `denied` says of the issuer and the key. `name` stands for
/// the token in refusals, and for its jti when an introspected one has none.
tl::expected<AccessToken, Refusal> ReadClaims(const nlohmann::json& claims, TokenForm form,
                                              const ClaimRules& rules, std::string_view interface,
                                              const std::string& name, const DenyList& denied,
                                              const Moment& now);

/// Time, audience and deny list again, for a token that was checked before.
tl::expected<void, Refusal> CheckAgain(const AccessToken& token, const ClaimRules& rules,
                                       std::string_view interface, const DenyList& denied,
                                       const Moment& now);

/// token_binding_fail unless its client has shown every key that the token is bound to: by the
/// certificate with this DER encoding (empty: none), and by a proof that VerifyProof() admitted.
tl::expected<void, Refusal> CheckBinding(const AccessToken& token, std::span<const uint8_t> der,
                                         bool proved = false);

}  // namespace portcullis::identity
