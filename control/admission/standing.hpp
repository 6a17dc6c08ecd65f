// What decisions about sessions, requests and calls have in common; for grant.cpp,
// grant_requests.cpp and grant_calls.cpp.
#pragma once

#include <chrono>
#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "control/admission/grant.hpp"

namespace portcullis::admission {

inline constexpr std::chrono::seconds kShortestGrant{1};

inline tl::unexpected<identity::Refusal> Decline(identity::Reason reason, std::string detail) {
  return tl::unexpected(identity::Refusal{reason, std::move(detail)});
}

/// What policy has to say of a peer on an interface.
struct Standing {
  const model::Interface* interface = nullptr;
  std::vector<const model::Policy*> policies;  // at least one
};

/// The peer is neither disabled nor revoked; its role, the interface and the token's scope match.
tl::expected<Standing, identity::Refusal> StandingOf(const PolicyView& view, const Denials& denied,
                                                     const model::Peer& peer, const Applicant& who);
/// The same without a token: whatever it may be allowed there by any.
tl::expected<Standing, identity::Refusal> RoleStandingOf(const PolicyView& view,
                                                         const Denials& denied,
                                                         const model::Peer& peer,
                                                         const std::string& on);
/// The token is the peer's own.
tl::expected<void, identity::Refusal> CheckToken(const model::Peer& peer, const Applicant& who);
tl::expected<void, identity::Refusal> CheckDenied(const Denials& denied,
                                                  const std::vector<model::Revocable>& proofs);
/// Leaves only the policies that give operations, of which there must be one.
tl::expected<void, identity::Refusal> KeepOperations(Standing& standing, const model::Peer& peer);
/// Sorted.
std::vector<std::string> OperationsOf(const Standing& standing);
/// Those that concern this peer on this interface.
std::vector<model::RequestBlock> BlocksOf(const PolicyView& view, const std::string& interface,
                                          const std::string& peer);
/// It is not blocked, and all of its operations are given: on which terms, whoever asks.
tl::expected<OperationTerms, identity::Refusal> TermsOf(const PolicyView& view,
                                                        const Standing& standing,
                                                        const Operation& operation);
/// May be negative.
std::chrono::seconds LifeOf(const model::Policy& policy, const Applicant& who,
                            std::chrono::system_clock::time_point now);
identity::Refusal NoTimeLeft(const model::Peer& peer);

}  // namespace portcullis::admission
