// The other direction: what the trusted side may send to peers. Nobody shows a token for it
// (TS 33.501 13.4.1: notifications need none): who may be called is whoever policy gives the
// operation, at an address that policy says is his.
#include <fmt/format.h>

#include <algorithm>

#include "control/admission/standing.hpp"
#include "control/model/callback.hpp"

namespace portcullis::admission {

using identity::Reason;

namespace {

struct Called {
  PolicyView::Callee callee;
  Standing standing;  // policies that give operations
};

tl::expected<Called, identity::Refusal> CalledOf(const PolicyView& view, const Denials& denied,
                                                 const std::string& interface,
                                                 std::string_view url) {
  if (const auto fault = model::CallbackFault(url)) {
    return Decline(Reason::callback_denied, "not an address to be called: " + *fault);
  }
  const auto callee = view.CalledAt(url);
  if (callee.peer == nullptr) {
    return Decline(Reason::callback_denied, fmt::format("{} is below no peer's callbacks", url));
  }
  auto standing = RoleStandingOf(view, denied, *callee.peer, interface);
  if (!standing) return tl::unexpected(standing.error());
  if (auto some = KeepOperations(*standing, *callee.peer); !some) {
    return tl::unexpected(some.error());
  }
  return Called{callee, *std::move(standing)};
}

}  // namespace

tl::expected<CallGrant, identity::Refusal> DecideCall(const PolicyView& view, const Denials& denied,
                                                      const std::string& interface,
                                                      std::string_view url) {
  const auto called = CalledOf(view, denied, interface, url);
  if (!called) return tl::unexpected(called.error());
  const model::Peer& peer = *called->callee.peer;
  CallGrant grant{.peer = &peer,
                  .prefix = std::string(called->callee.prefix),
                  .operations = OperationsOf(called->standing),
                  .life = std::chrono::seconds::max()};
  for (const model::Policy* p : called->standing.policies) {
    grant.life = std::min(grant.life, std::chrono::seconds(p->grant_seconds));
  }
  for (const model::Interface& one : view.document().interfaces) {
    const auto& ours = one.side == model::Side::local ? one.prefixes : one.clients;
    grant.servers.insert(grant.servers.end(), ours.begin(), ours.end());
  }
  return grant;
}

tl::expected<OperationTerms, identity::Refusal> DecideCalling(const PolicyView& view,
                                                              const Denials& denied,
                                                              const Operation& operation,
                                                              std::string_view url) {
  const auto called = CalledOf(view, denied, operation.interface, url);
  if (!called) return tl::unexpected(called.error());
  const model::Peer& peer = *called->callee.peer;
  if (peer.name != operation.peer || peer.tenant != operation.tenant) {
    return Decline(Reason::callback_denied,
                   fmt::format("{} is peer '{}''s, not '{}''s", url, peer.name, operation.peer));
  }
  auto terms = TermsOf(view, called->standing, operation);
  if (terms && terms->approval) {
    return Decline(Reason::policy_denied,
                   "policy asks for approval of this, and what servers send is not held for one");
  }
  return terms;
}

tl::expected<void, identity::Refusal> DecideRecognised(const PolicyView& view,
                                                       const Denials& denied, const Applicant& who,
                                                       std::string_view peer) {
  if (auto free = CheckDenied(denied, who.proofs); !free) return tl::unexpected(free.error());
  const auto found = view.Find(who);
  if (!found) return tl::unexpected(found.error());
  if ((*found)->name == peer) return {};
  return Decline(Reason::peer_unknown,
                 fmt::format("peer '{}' answers where '{}' was called", (*found)->name, peer));
}

}  // namespace portcullis::admission
