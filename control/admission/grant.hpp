// The right of an authenticated peer: what its token and the policy both give, never more than
// either (design: Terms). A pure function, asked when somebody applies and again when the keys are
// there, so that whatever changed in between counts.
#pragma once

#include <chrono>
#include <set>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "control/identity/refusal.hpp"
#include "control/model/types.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::admission {

/// Who applies, and for what; everything here was verified by the guard.
struct Applicant {
  model::Authentication by = model::Authentication::certificate;
  std::vector<std::string> names;  // certificate: its alternative names
  std::string psk_peer;            // psk: the peer that the key belongs to
  std::string issuer;              // of the token
  std::string client_id;
  std::string proof_key_thumbprint;  // psk: of the key that the token is bound to
  std::set<std::string> scopes;
  std::chrono::system_clock::time_point token_expiry;
  std::chrono::system_clock::time_point certificate_expiry =
      std::chrono::system_clock::time_point::max();
  std::string interface;
};

struct Grant {
  std::string peer;
  std::string interface;
  std::vector<steer::Selector> selectors;  // never empty
  std::chrono::seconds life{};             // at least 1 s
};

/// `revoked`: the peers that an operator has revoked.
tl::expected<Grant, identity::Refusal> Decide(const model::Document& policy,
                                              const std::set<std::string>& revoked,
                                              const Applicant& applicant,
                                              std::chrono::system_clock::time_point now);

/// The peer alone: who is it, whatever it may do? For a peer that ends its session.
tl::expected<const model::Peer*, identity::Refusal> PeerOf(const model::Document& policy,
                                                           const Applicant& applicant);

}  // namespace portcullis::admission
