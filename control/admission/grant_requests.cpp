// The right to single requests: before any is made, and once more when one is about to be.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "control/admission/standing.hpp"
#include "control/model/requests.hpp"

namespace portcullis::admission {

using identity::Reason;

namespace {

tl::unexpected<identity::Refusal> Deny(Reason reason, std::string detail) {
  return tl::unexpected(identity::Refusal{reason, std::move(detail)});
}

bool Concerns(const model::RequestBlock& block, const std::string& interface,
              const std::string& peer) {
  return block.interface == interface && (block.peer.empty() || block.peer == peer);
}

// As StandingOf, with only the policies that give operations.
tl::expected<Standing, identity::Refusal> RequestStandingOf(const PolicyView& view,
                                                            const Denials& denied,
                                                            const model::Peer& peer,
                                                            const Applicant& who) {
  auto standing = StandingOf(view, denied, peer, who);
  if (!standing) return standing;
  if (!model::CarriesRequests(*standing->interface)) {
    return Deny(Reason::policy_denied,
                fmt::format("nobody judges single requests on {}", who.interface));
  }
  std::erase_if(standing->policies, [](const model::Policy* p) { return p->operations.empty(); });
  if (standing->policies.empty()) {
    return Deny(Reason::policy_denied, fmt::format("policy gives peer '{}' no operations on {}",
                                                   peer.name, who.interface));
  }
  return standing;
}

}  // namespace

tl::expected<RequestGrant, identity::Refusal> DecideRequests(
    const PolicyView& view, const Denials& denied, const Applicant& who,
    std::chrono::system_clock::time_point now) {
  if (auto free = CheckDenied(denied, who.proofs); !free) return tl::unexpected(free.error());
  const auto found = view.PeerOf(who);
  if (!found) return tl::unexpected(found.error());
  const model::Peer& peer = **found;
  const auto standing = RequestStandingOf(view, denied, peer, who);
  if (!standing) return tl::unexpected(standing.error());
  RequestGrant grant{.peer = peer.name,
                     .role = peer.role,
                     .tenant = peer.tenant,
                     .self = std::string(model::CallerIdOf(peer)),
                     .life = std::chrono::seconds::max()};
  for (const model::Policy* p : standing->policies) {
    grant.operations.insert(grant.operations.end(), p->operations.begin(), p->operations.end());
    grant.life = std::min(grant.life, LifeOf(*p, who, now));
  }
  std::ranges::sort(grant.operations);
  const auto twice = std::ranges::unique(grant.operations);
  grant.operations.erase(twice.begin(), twice.end());
  std::ranges::copy_if(
      view.document().blocks, std::back_inserter(grant.blocks),
      [&](const model::RequestBlock& b) { return Concerns(b, who.interface, peer.name); });
  if (grant.life < kShortestGrant) return tl::unexpected(NoTimeLeft(peer));
  return grant;
}

tl::expected<std::vector<const model::Quota*>, identity::Refusal> DecideOperation(
    const PolicyView& view, const Denials& denied, const Operation& operation, const Applicant& who,
    std::chrono::system_clock::time_point now) {
  if (auto free = CheckDenied(denied, who.proofs); !free) return tl::unexpected(free.error());
  const model::Peer* peer = view.Named(operation.peer);
  if (peer == nullptr) {
    return Deny(Reason::peer_unknown, fmt::format("there is no peer '{}'", operation.peer));
  }
  if (auto own = CheckToken(*peer, who); !own) return tl::unexpected(own.error());
  if (peer->tenant != operation.tenant) {
    return Deny(Reason::tenant_violation, fmt::format("peer '{}' is of tenant '{}', not '{}'",
                                                      peer->name, peer->tenant, operation.tenant));
  }
  const auto standing = RequestStandingOf(view, denied, *peer, who);
  if (!standing) return tl::unexpected(standing.error());
  for (const model::RequestBlock& block : view.document().blocks) {
    if (Concerns(block, who.interface, peer->name) &&
        model::Matches(block, operation.method, operation.path)) {
      return Deny(Reason::request_blocked, fmt::format("by '{}'", block.name));
    }
  }
  if (who.token_expiry - now < kShortestGrant) return tl::unexpected(NoTimeLeft(*peer));
  std::vector<const model::Quota*> quotas;
  for (const std::string& wanted : operation.operations) {
    bool given = false;
    for (const model::Policy* p : standing->policies) {
      if (!std::ranges::binary_search(p->operations, wanted)) continue;
      given = true;
      for (const model::Quota& quota : p->quotas) {
        if (quota.operation == wanted) quotas.push_back(&quota);
      }
    }
    if (!given) {
      return Deny(Reason::operation_denied,
                  fmt::format("peer '{}' has not '{}' on {}", peer->name, wanted, who.interface));
    }
  }
  return quotas;
}

}  // namespace portcullis::admission
