// What decisions about sessions and about requests have in common; for grant.cpp and
// grant_requests.cpp.
#pragma once

#include <chrono>
#include <tl/expected.hpp>
#include <vector>

#include "control/admission/grant.hpp"

namespace portcullis::admission {

inline constexpr std::chrono::seconds kShortestGrant{1};

/// What policy has to say of a peer on an interface, by one token.
struct Standing {
  const model::Interface* interface = nullptr;
  std::vector<const model::Policy*> policies;  // at least one
};

/// The peer is neither disabled nor revoked; its role, the interface and the token's scope match.
tl::expected<Standing, identity::Refusal> StandingOf(const PolicyView& view, const Denials& denied,
                                                     const model::Peer& peer, const Applicant& who);
/// The token is the peer's own.
tl::expected<void, identity::Refusal> CheckToken(const model::Peer& peer, const Applicant& who);
tl::expected<void, identity::Refusal> CheckDenied(const Denials& denied,
                                                  const std::vector<model::Revocable>& proofs);
/// May be negative.
std::chrono::seconds LifeOf(const model::Policy& policy, const Applicant& who,
                            std::chrono::system_clock::time_point now);
identity::Refusal NoTimeLeft(const model::Peer& peer);

}  // namespace portcullis::admission
