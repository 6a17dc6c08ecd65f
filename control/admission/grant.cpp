#include "control/admission/grant.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "control/model/compile.hpp"

namespace portcullis::admission {
namespace {

using identity::Reason;
using identity::Refusal;
using model::Authentication;

tl::unexpected<Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(Refusal{reason, std::move(detail)});
}

bool Is(const model::Peer& peer, const Applicant& who) {
  if (peer.authentication != who.by) return false;
  if (who.by == Authentication::psk) return peer.name == who.psk_peer;
  return std::ranges::find(who.names, peer.identity) != who.names.end();
}

tl::expected<void, Refusal> CheckToken(const model::Peer& peer, const Applicant& who) {
  if (!peer.token || peer.token->issuer != who.issuer || peer.token->client_id != who.client_id) {
    return Refuse(Reason::token_client_fail,
                  fmt::format("peer '{}' has {}; the token is of client '{}' of {}", peer.name,
                              peer.token ? fmt::format("client '{}' of {}", peer.token->client_id,
                                                       peer.token->issuer)
                                         : "no token of its own",
                              who.client_id, who.issuer));
  }
  if (peer.token->key_thumbprint != who.proof_key_thumbprint) {
    return Refuse(
        Reason::token_binding_fail,
        fmt::format("peer '{}': the token is bound to another key than policy names", peer.name));
  }
  return {};
}

// One TLS identity, one peer: a certificate that speaks for two is nobody's.
tl::expected<const model::Peer*, Refusal> Find(const model::Document& policy,
                                               const Applicant& who) {
  const model::Peer* found = nullptr;
  for (const model::Peer& peer : policy.peers) {
    if (!Is(peer, who)) continue;
    if (found != nullptr) {
      return Refuse(Reason::peer_unknown, fmt::format("the certificate names both '{}' and '{}'",
                                                      found->name, peer.name));
    }
    found = &peer;
  }
  if (found == nullptr) {
    return Refuse(Reason::peer_unknown,
                  who.by == Authentication::psk
                      ? fmt::format("no peer '{}' with a pre-shared key", who.psk_peer)
                      : fmt::format("no peer has the identity {}", fmt::join(who.names, ", ")));
  }
  return found;
}

std::chrono::seconds LifeOf(const model::Policy& policy, const Applicant& who,
                            std::chrono::system_clock::time_point now) {
  const auto left = std::min(who.token_expiry, who.certificate_expiry) - now;
  return std::min(std::chrono::seconds(policy.grant_seconds),
                  std::chrono::floor<std::chrono::seconds>(left));
}

}  // namespace

tl::expected<const model::Peer*, Refusal> PeerOf(const model::Document& policy,
                                                 const Applicant& who) {
  auto peer = Find(policy, who);
  if (!peer) return peer;
  if (auto checked = CheckToken(**peer, who); !checked) return tl::unexpected(checked.error());
  return peer;
}

tl::expected<Grant, Refusal> Decide(const model::Document& policy,
                                    const std::set<std::string>& revoked, const Applicant& who,
                                    std::chrono::system_clock::time_point now) {
  const auto found = PeerOf(policy, who);
  if (!found) return tl::unexpected(found.error());
  const model::Peer& peer = **found;
  if (!peer.enabled || revoked.contains(peer.name)) {
    return Refuse(Reason::peer_revoked,
                  fmt::format("peer '{}' is {}", peer.name, peer.enabled ? "revoked" : "disabled"));
  }
  const auto interface =
      std::ranges::find(policy.interfaces, who.interface, &model::Interface::name);
  if (interface == policy.interfaces.end()) {
    return Refuse(Reason::policy_denied, fmt::format("no interface '{}'", who.interface));
  }
  Grant grant{peer.name, who.interface, {}, std::chrono::seconds::max()};
  bool any_policy = false;
  bool any_scope = false;
  for (const model::Policy& p : policy.policies) {
    if (p.role != peer.role || p.interface != who.interface) continue;
    any_policy = true;
    if (p.scope.empty() || !who.scopes.contains(p.scope)) continue;
    any_scope = true;
    for (auto& selector : model::SelectorsOf(*interface, peer, p)) {
      grant.selectors.push_back(std::move(selector));
    }
    grant.life = std::min(grant.life, LifeOf(p, who, now));
  }
  if (!any_policy) {
    return Refuse(Reason::policy_denied,
                  fmt::format("peer '{}' has role '{}', which may not use {}", peer.name, peer.role,
                              who.interface));
  }
  if (!any_scope) {
    return Refuse(Reason::token_scope_fail,
                  fmt::format("peer '{}' on {}: the token's scope is '{}'", peer.name,
                              who.interface, fmt::join(who.scopes, " ")));
  }
  if (grant.selectors.empty()) {
    return Refuse(Reason::policy_denied,
                  fmt::format("{} carries no packets of peer '{}': it asks for TLS, or shares no "
                              "address with the peer",
                              who.interface, peer.name));
  }
  if (grant.life < std::chrono::seconds(1)) {
    return Refuse(Reason::token_expired, fmt::format("peer '{}': no time is left", peer.name));
  }
  return grant;
}

}  // namespace portcullis::admission
