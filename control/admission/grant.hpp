// The right of an authenticated peer: what its token and the policy both give, never more than
// either (design: Terms). A pure function, asked when somebody applies and again when the keys are
// there, so that whatever changed in between counts.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
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
  std::vector<std::string> callbacks;       // where it may be called: prefixes
  std::chrono::seconds life{};              // at least 1 s
  bool one_time = false;                    // the token is good for one request
  std::vector<std::string> approval;        // operations that wait for a person; sorted
};

/// The right to call a peer at an address of its own.
struct CallGrant {
  const model::Peer* peer = nullptr;
  std::string prefix;                       // of the peer's, the longest that the address is below
  std::vector<std::string> operations;      // sorted, never empty
  std::vector<portcullis::Prefix> servers;  // what stands behind the gate
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

/// On what terms it may be made; valid as long as the policy.
struct OperationTerms {
  std::vector<const model::Quota*> quotas;  // that it counts for
  bool one_time = false;                    // its token is good for no other
  std::optional<uint32_t> approval;         // it waits for a person: so many seconds at most
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

  /// By its TLS identity alone.
  [[nodiscard]] tl::expected<const model::Peer*, identity::Refusal> Find(
      const Applicant& applicant) const;
  /// Whose address this is, and the longest of its prefixes. Null: nobody's.
  struct Callee {
    const model::Peer* peer = nullptr;
    std::string_view prefix;
  };
  [[nodiscard]] Callee CalledAt(std::string_view url) const;

 private:
  const model::Document* document_;
  std::unordered_map<std::string_view, const model::Peer*> by_name_;
  std::unordered_multimap<std::string_view, const model::Peer*> by_identity_;  // certificate
  std::unordered_map<std::string_view, const model::Peer*> by_callback_;
};

tl::expected<Grant, identity::Refusal> Decide(const PolicyView& policy, const Denials& denied,
                                              const Applicant& applicant,
                                              std::chrono::system_clock::time_point now);

tl::expected<RequestGrant, identity::Refusal> DecideRequests(
    const PolicyView& policy, const Denials& denied, const Applicant& applicant,
    std::chrono::system_clock::time_point now);

/// May this be made now, by the token of `applicant` (which has no identity; that is the peer's
/// name)?
tl::expected<OperationTerms, identity::Refusal> DecideOperation(
    const PolicyView& policy, const Denials& denied, const Operation& operation,
    const Applicant& applicant, std::chrono::system_clock::time_point now);

/// What may be sent to this address, which is canonical and without a query.
tl::expected<CallGrant, identity::Refusal> DecideCall(const PolicyView& policy,
                                                      const Denials& denied,
                                                      const std::string& interface,
                                                      std::string_view url);

/// What may be sent there now: as DecideOperation(), without a token. `operation.peer` is whom the
/// guard takes for the owner of the address.
tl::expected<OperationTerms, identity::Refusal> DecideCalling(const PolicyView& policy,
                                                              const Denials& denied,
                                                              const Operation& operation,
                                                              std::string_view url);

/// Is whoever has proved this identity that peer?
tl::expected<void, identity::Refusal> DecideRecognised(const PolicyView& policy,
                                                       const Denials& denied, const Applicant& who,
                                                       std::string_view peer);

}  // namespace portcullis::admission
