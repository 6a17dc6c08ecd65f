// The right to single requests: before any is made, and once more when one is about to be.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "control/admission/standing.hpp"
#include "control/model/requests.hpp"

namespace portcullis::admission {

using identity::Reason;

tl::expected<void, identity::Refusal> KeepOperations(Standing& standing, const model::Peer& peer) {
  const std::string& interface = standing.interface->name;
  if (!model::CarriesRequests(*standing.interface)) {
    return Decline(Reason::policy_denied,
                   fmt::format("nobody judges single requests on {}", interface));
  }
  std::erase_if(standing.policies, [](const model::Policy* p) { return p->operations.empty(); });
  if (!standing.policies.empty()) return {};
  return Decline(Reason::policy_denied,
                 fmt::format("policy gives peer '{}' no operations on {}", peer.name, interface));
}

std::vector<std::string> OperationsOf(const Standing& standing) {
  std::vector<std::string> all;
  for (const model::Policy* p : standing.policies) {
    all.insert(all.end(), p->operations.begin(), p->operations.end());
  }
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<model::RequestBlock> BlocksOf(const PolicyView& view, const std::string& interface,
                                          const std::string& peer) {
  std::vector<model::RequestBlock> all;
  std::ranges::copy_if(
      view.document().blocks, std::back_inserter(all), [&](const model::RequestBlock& block) {
        return block.interface == interface && (block.peer.empty() || block.peer == peer);
      });
  return all;
}

tl::expected<OperationTerms, identity::Refusal> TermsOf(const PolicyView& view,
                                                        const Standing& standing,
                                                        const Operation& operation) {
  for (const auto& block : BlocksOf(view, operation.interface, operation.peer)) {
    if (model::Matches(block.method, block.path, operation.method, operation.path)) {
      return Decline(Reason::request_blocked, fmt::format("by '{}'", block.name));
    }
  }
  OperationTerms terms;
  for (const std::string& wanted : operation.operations) {
    bool given = false;
    for (const model::Policy* p : standing.policies) {
      if (!std::ranges::binary_search(p->operations, wanted)) continue;
      given = true;
      if (std::ranges::binary_search(p->approval, wanted)) {
        terms.approval = std::min(terms.approval.value_or(UINT32_MAX), p->approval_seconds);
      }
      for (const model::Quota& quota : p->quotas) {
        if (quota.operation == wanted) terms.quotas.push_back(&quota);
      }
    }
    if (!given) {
      return Decline(
          Reason::operation_denied,
          fmt::format("peer '{}' has not '{}' on {}", operation.peer, wanted, operation.interface));
    }
  }
  return terms;
}

tl::expected<RequestGrant, identity::Refusal> DecideRequests(
    const PolicyView& view, const Denials& denied, const Applicant& who,
    std::chrono::system_clock::time_point now) {
  if (auto free = CheckDenied(denied, who.proofs); !free) return tl::unexpected(free.error());
  const auto found = view.PeerOf(who);
  if (!found) return tl::unexpected(found.error());
  const model::Peer& peer = **found;
  auto standing = StandingOf(view, denied, peer, who);
  if (!standing) return tl::unexpected(standing.error());
  if (auto some = KeepOperations(*standing, peer); !some) return tl::unexpected(some.error());
  RequestGrant grant{.peer = peer.name,
                     .role = peer.role,
                     .tenant = peer.tenant,
                     .self = std::string(model::CallerIdOf(peer)),
                     .operations = OperationsOf(*standing),
                     .blocks = BlocksOf(view, who.interface, peer.name),
                     .callbacks = peer.callbacks,
                     .life = std::chrono::seconds::max()};
  for (const model::Policy* p : standing->policies) {
    grant.life = std::min(grant.life, LifeOf(*p, who, now));
    grant.approval.insert(grant.approval.end(), p->approval.begin(), p->approval.end());
    grant.one_time = grant.one_time || p->one_time;
  }
  for (auto* names : {&grant.operations, &grant.approval}) {
    std::ranges::sort(*names);
    names->erase(std::unique(names->begin(), names->end()), names->end());
  }
  if (grant.life < kShortestGrant) return tl::unexpected(NoTimeLeft(peer));
  return grant;
}

tl::expected<OperationTerms, identity::Refusal> DecideOperation(
    const PolicyView& view, const Denials& denied, const Operation& operation, const Applicant& who,
    std::chrono::system_clock::time_point now) {
  if (auto free = CheckDenied(denied, who.proofs); !free) return tl::unexpected(free.error());
  const model::Peer* peer = view.Named(operation.peer);
  if (peer == nullptr) {
    return Decline(Reason::peer_unknown, fmt::format("there is no peer '{}'", operation.peer));
  }
  if (auto own = CheckToken(*peer, who); !own) return tl::unexpected(own.error());
  if (peer->tenant != operation.tenant) {
    return Decline(Reason::tenant_violation,
                   fmt::format("peer '{}' is of tenant '{}', not '{}'", peer->name, peer->tenant,
                               operation.tenant));
  }
  auto standing = StandingOf(view, denied, *peer, who);
  if (!standing) return tl::unexpected(standing.error());
  if (auto some = KeepOperations(*standing, *peer); !some) return tl::unexpected(some.error());
  if (who.token_expiry - now < kShortestGrant) return tl::unexpected(NoTimeLeft(*peer));
  auto terms = TermsOf(view, *standing, operation);
  // Whichever of its policies says so, and whatever the token is used for first.
  if (terms) terms->one_time = std::ranges::any_of(standing->policies, &model::Policy::one_time);
  return terms;
}

}  // namespace portcullis::admission
