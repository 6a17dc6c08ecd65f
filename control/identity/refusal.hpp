// Why somebody was not let in. This list is the only one: the enum, the counters, the metric
// labels, the answers to operators and the table in the docs come from it. A peer is told less.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// X(name, text for people)
#define PORTCULLIS_REFUSALS(X)                                                                    \
  X(tls_version_denied, "a TLS version that the listener's profile does not admit")               \
  X(tls_cipher_denied, "no cipher suite or group in common that the profile admits")              \
  X(tls_early_data_denied, "the ClientHello asks for early data, which could be replayed")        \
  X(tls_failed, "the TLS handshake ended for another reason")                                     \
  X(handshake_timeout, "the handshake or the request did not come in time")                       \
  X(cert_missing, "the peer showed no certificate")                                               \
  X(cert_chain_fail, "no complete chain of valid certificates to a configured anchor")            \
  X(cert_profile_fail, "a certificate outside the profile of TS 33.310")                          \
  X(weak_alg_refused, "a signature, key or digest below the allowed strength")                    \
  X(cert_expired, "a certificate that is not valid now")                                          \
  X(cert_revoked, "a certificate on its issuer's revocation list")                                \
  X(crl_stale, "no revocation list of the issuer that is fresh enough")                           \
  X(psk_unknown, "the pre-shared key's identity is unknown, or the key is wrong")                 \
  X(peer_unknown, "the authenticated identity belongs to no peer in policy")                      \
  X(peer_revoked, "the peer was revoked or disabled by an operator")                              \
  X(spki_reuse, "the same public key was seen under another identity")                            \
  X(token_missing, "no access token in the request")                                              \
  X(token_malformed, "the access token is not a well-formed JWT of type at+jwt")                  \
  X(token_issuer_unknown, "the access token's issuer is not configured")                          \
  X(token_key_unknown, "the issuer's key set has no such key, or could not be had")               \
  X(token_sig_fail, "the access token's signature is wrong, or made with a forbidden algorithm")  \
  X(token_expired, "the access token is past its expiry")                                         \
  X(token_not_yet_valid, "the access token is not valid yet")                                     \
  X(token_aud_fail, "the access token is meant for another audience")                             \
  X(token_claims_fail, "a claim that RFC 9068 requires is missing or has the wrong form")         \
  X(token_scope_fail, "the access token's scope admits nothing here")                             \
  X(token_binding_fail, "the access token is bound to another key than the one that was shown")   \
  X(token_client_fail, "the access token was issued to another client than this peer's")          \
  X(token_revoked, "the access token, its key or its issuer was revoked")                         \
  X(token_replay, "a proof or token that was used before")                                        \
  X(token_used, "an access token that is good for one request, and has had it")                   \
  X(dpop_fail, "the proof of possession is missing or wrong")                                     \
  X(dpop_nonce_fail, "a proof of possession without a nonce that is open on its connection")      \
  X(request_malformed, "a request that the session interface does not know or cannot read")       \
  X(policy_denied, "policy gives this peer nothing on this interface")                            \
  X(request_unlisted, "a path or method that the interface's profile does not list")              \
  X(operation_denied, "policy and token do not give the peer this operation")                     \
  X(tenant_violation, "the resource is another tenant's, or nobody's, or the path names another") \
  X(not_registered, "the peer has not registered with the protected server")                      \
  X(callback_denied, "an address to be called that is none of the peer's in policy")              \
  X(request_blocked, "an operator has blocked such requests for now")                             \
  X(quota_exceeded, "the tenant has had what policy gives it of this operation for now")          \
  X(approval_needed, "another person must approve this request before it is made")                \
  X(not_decidable, "a gateway asks about what cannot be decided by a request's head alone")       \
  X(exchange_denied, "the authorisation server gives no token for the server in exchange")        \
  X(server_unavailable, "the protected server cannot be reached, or is not the one expected")     \
  X(session_missing, "the connection came through no session of the peer's (tls+esp)")            \
  X(session_conflict, "the peer has a session already, or this one is none of its own")           \
  X(clock_wrong, "the gate's clock went back or far ahead, and its word on expiry counts little") \
  X(gate_unavailable, "control or the dataplane cannot take the session now")

namespace portcullis::identity {

enum class Reason : uint8_t {
#define PORTCULLIS_X(name, text) name,
  PORTCULLIS_REFUSALS(PORTCULLIS_X)
#undef PORTCULLIS_X
};

struct ReasonInfo {
  std::string_view name;
  std::string_view text;
};

inline constexpr auto kReasons = std::to_array<ReasonInfo>({
#define PORTCULLIS_X(name, text) {#name, text},
    PORTCULLIS_REFUSALS(PORTCULLIS_X)
#undef PORTCULLIS_X
});

constexpr const ReasonInfo& Info(Reason reason) {
  return kReasons[static_cast<size_t>(reason)];
}

/// For operators: what was expected, what was found and where. Never key material nor a token.
struct Refusal {
  Reason reason;
  std::string detail;
  std::string held = {};  // the held request that waits for another person, if one does

  [[nodiscard]] std::string Text() const {
    std::string text(Info(reason).name);
    return detail.empty() ? text : text + ": " + detail;
  }
};

/// Refusals by reason; any thread.
class RefusalCounters {
 public:
  void Count(Reason reason) noexcept {
    counts_[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t Of(Reason reason) const noexcept {
    return counts_[static_cast<size_t>(reason)].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kReasons.size()> counts_{};
};

}  // namespace portcullis::identity
