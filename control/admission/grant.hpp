// The right of an authenticated peer: what its token and the policy both give, never more than
// either (design: Terms). A pure function, asked when somebody applies and again when the keys are
// there, so that whatever changed in between counts.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "control/admission/applicant.hpp"
#include "control/core/denials.hpp"
#include "control/identity/refusal.hpp"
#include "control/model/time_guard.hpp"
#include "control/model/types.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::admission {

struct Grant {
  std::string peer;
  std::string interface;
  std::vector<steer::Selector> selectors;             // never empty
  std::vector<steer::Selector> registered_selectors;  // in addition, while the peer is registered
  std::chrono::seconds life{};                        // at least 1 s
  model::SecondPlace second_place = model::SecondPlace::replace;  // the strictest
  std::vector<model::Revocable> rests_on;  // the applicant's proofs, the peer, each policy of it
};

/// The right of a peer to requests that the guard judges one by one.
struct RequestGrant {
  std::string peer;
  std::string role;
  std::string tenant;
  std::string self;                         // what must stand for it in paths of its own
  std::vector<std::string> operations;      // sorted, never empty
  std::vector<model::RequestBlock> blocks;  // that concern it
  std::chrono::seconds life{};              // at least 1 s
};

/// A request that is about to be made.
struct Operation {
  std::string peer;
  std::string tenant;  // as the guard knows it
  std::string interface;
  std::vector<std::string> operations;
  std::string method;
  std::string path;
};

/// Expiry is judged by a clock that may be wrong (model/time_guard.hpp). `known`: who asks was
/// admitted before.
tl::expected<void, identity::Refusal> ClockAdmits(TimeVerdict clock, bool known);

/// By which reason somebody is refused whose right rests on what is revoked.
identity::Reason ReasonFor(model::Revocable::Kind revoked);

/// The policy, made ready for many questions. The document stays where and as it is meanwhile.
class PolicyView {
 public:
  explicit PolicyView(const model::Document& document);

  [[nodiscard]] const model::Document& document() const { return *document_; }
  /// The peer alone: who is it, whatever it may do? One TLS identity, one peer: a certificate that
  /// speaks for two is nobody's. Its token must be the peer's own.
  [[nodiscard]] tl::expected<const model::Peer*, identity::Refusal> PeerOf(
      const Applicant& applicant) const;
  /// Null: there is none.
  [[nodiscard]] const model::Peer* Named(std::string_view name) const {
    const auto at = by_name_.find(name);
    return at == by_name_.end() ? nullptr : at->second;
  }

 private:
  [[nodiscard]] tl::expected<const model::Peer*, identity::Refusal> Find(
      const Applicant& applicant) const;

  const model::Document* document_;
  std::unordered_map<std::string_view, const model::Peer*> by_name_;
  std::unordered_multimap<std::string_view, const model::Peer*> by_identity_;  // certificate
};

tl::expected<Grant, identity::Refusal> Decide(const PolicyView& policy, const Denials& denied,
                                              const Applicant& applicant,
                                              std::chrono::system_clock::time_point now);

tl::expected<RequestGrant, identity::Refusal> DecideRequests(
    const PolicyView& policy, const Denials& denied, const Applicant& applicant,
    std::chrono::system_clock::time_point now);

/// What may be made now, by the token of `applicant` (which has no identity; that is the peer's
/// name). The quotas that it counts for, valid as long as the policy.
tl::expected<std::vector<const model::Quota*>, identity::Refusal> DecideOperation(
    const PolicyView& policy, const Denials& denied, const Operation& operation,
    const Applicant& applicant, std::chrono::system_clock::time_point now);

}  // namespace portcullis::admission
