// What peer and gate say to each other about a session (docs/session-interface.md), and between
// that and the messages to control. Nothing here decides anything.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "control/admission/admission.pb.h"
#include "control/guard/session/keys.hpp"
#include "control/identity/refusal.hpp"

namespace portcullis::guard {

/// The body of POST /session/v1/sessions.
struct SessionRequest {
  std::string interface;
  std::string session;  // empty: a new one
  bool initial_contact = false;
  Spi spi{};                          // where the peer receives
  std::vector<Algorithm> algorithms;  // best first
  std::array<uint8_t, kNonceBytes> nonce{};
  bool udp_encap = false;
  std::optional<Address> outer_peer;  // absent: as the connection's
  std::optional<Address> outer_gate;
};

/// kInvalid with the field's JSON pointer. Members that nobody knows are refused, and so are those
/// that appear twice.
Result<SessionRequest> ParseSessionRequest(std::string_view body);

/// The body of the 201 that answers it.
std::string AnswerText(const KeyContext& agreed, uint32_t replay_window,
                       std::chrono::seconds expires_in);

/// All that a peer is told about a refusal: its class.
struct ProblemClass {
  const char* slug;
  const char* title;
  unsigned status;
};
inline constexpr ProblemClass kMalformed{"malformed", "The request is malformed", 400};
inline constexpr ProblemClass kInvalidToken{"invalid_token", "The access token does not do", 401};
inline constexpr ProblemClass kInsufficientScope{"insufficient_scope",
                                                 "The token's scope does not do", 403};
inline constexpr ProblemClass kDenied{"denied", "Not permitted", 403};
inline constexpr ProblemClass kNotFound{"not_found", "It does not exist", 404};
inline constexpr ProblemClass kMethodNotAllowed{"method_not_allowed", "Method not allowed", 405};
inline constexpr ProblemClass kConflict{"conflict", "It contradicts what is there", 409};
inline constexpr ProblemClass kTooMany{"quota_exceeded", "Too many of these for now", 429};
inline constexpr ProblemClass kApprovalNeeded{"approval_needed",
                                              "Another person must approve it first", 403};
inline constexpr ProblemClass kBadGateway{"server_unavailable", "The server cannot be reached",
                                          502};
inline constexpr ProblemClass kTooLarge{"too_large", "The request is too large", 413};
inline constexpr ProblemClass kUnavailable{"unavailable", "Not available now", 503};

const ProblemClass& ClassOf(identity::Reason reason);

/// RFC 9457. `reference` is what operators find the refusal by. `error`, which may be null, is
/// about the request's form only. `held`: the request that waits for another person, if one does.
std::string ProblemText(const ProblemClass& kind, const std::string& reference, const Error* error,
                        const std::string& held = {});

admission::Algorithm ToMessage(Algorithm algorithm);
/// What control says a session is, put into `context`: session id, generation, the gate's SPI,
/// algorithm, ESN, selectors. kInternal when it is not what was asked for or makes no sense.
Result<void> Take(const admission::Admitted& admitted, const SessionRequest& asked,
                  KeyContext& context);

}  // namespace portcullis::guard
