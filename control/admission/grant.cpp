#include "control/admission/grant.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "control/admission/standing.hpp"
#include "control/model/compile.hpp"

namespace portcullis::admission {

using identity::Reason;
using model::Authentication;
using model::SecondPlace;

namespace {

tl::unexpected<identity::Refusal> Refuse(Reason reason, std::string detail) {
  return tl::unexpected(identity::Refusal{reason, std::move(detail)});
}

}  // namespace

tl::expected<void, identity::Refusal> CheckToken(const model::Peer& peer, const Applicant& who) {
  if (!peer.token || peer.token->issuer != who.issuer || peer.token->client_id != who.client_id) {
    return Refuse(Reason::token_client_fail,
                  fmt::format("peer '{}' has {}; the token is of client '{}' of {}", peer.name,
                              peer.token ? fmt::format("client '{}' of {}", peer.token->client_id,
                                                       peer.token->issuer)
                                         : "no token of its own",
                              who.client_id, who.issuer));
  }
  // Where there is a certificate, policy names no proof's key: the guard has seen the token's
  // proved.
  const bool named = who.by == Authentication::psk || !peer.token->key_thumbprint.empty();
  if (named && peer.token->key_thumbprint != who.proof_key_thumbprint) {
    return Refuse(
        Reason::token_binding_fail,
        fmt::format("peer '{}': the token is bound to another key than policy names", peer.name));
  }
  return {};
}

tl::expected<void, identity::Refusal> CheckDenied(const Denials& denied,
                                                  const std::vector<model::Revocable>& proofs) {
  for (const auto& what : proofs) {
    if (denied.Has(what)) {
      return Refuse(ReasonFor(what.kind), fmt::format("{} is revoked", Text(what)));
    }
  }
  return {};
}

std::chrono::seconds LifeOf(const model::Policy& policy, const Applicant& who,
                            std::chrono::system_clock::time_point now) {
  const auto left = std::min(who.token_expiry, who.certificate_expiry) - now;
  return std::min(std::chrono::seconds(policy.grant_seconds),
                  std::chrono::floor<std::chrono::seconds>(left));
}

identity::Refusal NoTimeLeft(const model::Peer& peer) {
  return {Reason::token_expired, fmt::format("peer '{}': no time is left", peer.name)};
}

tl::expected<void, identity::Refusal> ClockAdmits(TimeVerdict clock, bool known) {
  if (clock == TimeVerdict::ok) return {};
  if (clock == TimeVerdict::stepped_forward_in_grace && known) return {};
  return Refuse(Reason::clock_wrong, Info(clock).text);
}

Reason ReasonFor(model::Revocable::Kind kind) {
  using enum model::Revocable::Kind;
  switch (kind) {
    case certificate:
      return Reason::cert_revoked;
    case token:
    case key:
    case issuer:
      return Reason::token_revoked;
    case policy:
      return Reason::policy_denied;
    case peer:
      break;
  }
  return Reason::peer_revoked;
}

PolicyView::PolicyView(const model::Document& document) : document_(&document) {
  for (const model::Peer& peer : document.peers) {
    by_name_.emplace(peer.name, &peer);
    if (peer.authentication == Authentication::certificate) {
      by_identity_.emplace(peer.identity, &peer);
    }
    for (const std::string& prefix : peer.callbacks) by_callback_.emplace(prefix, &peer);
  }
}

tl::expected<const model::Peer*, identity::Refusal> PolicyView::Find(const Applicant& who) const {
  if (who.by == Authentication::psk) {
    const model::Peer* named = Named(who.psk_peer);
    if (named != nullptr && named->authentication == Authentication::psk) return named;
    return Refuse(Reason::peer_unknown,
                  fmt::format("no peer '{}' with a pre-shared key", who.psk_peer));
  }
  const model::Peer* found = nullptr;
  for (const std::string& name : who.names) {
    const auto [first, last] = by_identity_.equal_range(name);
    for (auto at = first; at != last; ++at) {
      if (found != nullptr && found != at->second) {
        return Refuse(Reason::peer_unknown, fmt::format("the certificate names both '{}' and '{}'",
                                                        found->name, at->second->name));
      }
      found = at->second;
    }
  }
  if (found != nullptr) return found;
  return Refuse(Reason::peer_unknown,
                fmt::format("no peer has the identity {}", fmt::join(who.names, ", ")));
}

PolicyView::Callee PolicyView::CalledAt(std::string_view url) const {
  // From the whole address upwards, a segment less each time.
  std::string prefix(url);
  if (!prefix.ends_with('/')) prefix += '/';
  for (;;) {
    if (const auto at = by_callback_.find(prefix); at != by_callback_.end()) {
      return {at->second, at->first};
    }
    const auto slash = prefix.find_last_of('/', prefix.size() - 2);
    if (prefix.size() < 2 || slash == std::string::npos) return {};
    prefix.resize(slash + 1);
  }
}

tl::expected<const model::Peer*, identity::Refusal> PolicyView::PeerOf(const Applicant& who) const {
  auto peer = Find(who);
  if (!peer) return peer;
  if (auto checked = CheckToken(**peer, who); !checked) return tl::unexpected(checked.error());
  return peer;
}

tl::expected<Standing, identity::Refusal> RoleStandingOf(const PolicyView& view,
                                                         const Denials& denied,
                                                         const model::Peer& peer,
                                                         const std::string& on) {
  using Kind = model::Revocable::Kind;
  const model::Document& policy = view.document();
  const model::Revocable itself{Kind::peer, "", peer.name};
  if (!peer.enabled || denied.Has(itself)) {
    return Refuse(Reason::peer_revoked,
                  fmt::format("peer '{}' is {}", peer.name, peer.enabled ? "revoked" : "disabled"));
  }
  const auto interface = std::ranges::find(policy.interfaces, on, &model::Interface::name);
  if (interface == policy.interfaces.end()) {
    return Refuse(Reason::policy_denied, fmt::format("no interface '{}'", on));
  }
  Standing standing{&*interface, {}};
  for (const model::Policy& p : policy.policies) {
    const model::Revocable rule{Kind::policy, "", p.name};
    if (p.role != peer.role || p.interface != on || denied.Has(rule)) continue;
    standing.policies.push_back(&p);
  }
  if (!standing.policies.empty()) return standing;
  return Refuse(Reason::policy_denied, fmt::format("peer '{}' has role '{}', which may not use {}",
                                                   peer.name, peer.role, on));
}

tl::expected<Standing, identity::Refusal> StandingOf(const PolicyView& view, const Denials& denied,
                                                     const model::Peer& peer,
                                                     const Applicant& who) {
  auto standing = RoleStandingOf(view, denied, peer, who.interface);
  if (!standing) return standing;
  std::erase_if(standing->policies, [&](const model::Policy* p) {
    return p->scope.empty() || !who.scopes.contains(p->scope);
  });
  if (standing->policies.empty()) {
    return Refuse(Reason::token_scope_fail,
                  fmt::format("peer '{}' on {}: the token's scope is '{}'", peer.name,
                              who.interface, fmt::join(who.scopes, " ")));
  }
  return standing;
}

tl::expected<Grant, identity::Refusal> Decide(const PolicyView& view, const Denials& denied,
                                              const Applicant& who,
                                              std::chrono::system_clock::time_point now) {
  using Kind = model::Revocable::Kind;
  if (auto free = CheckDenied(denied, who.proofs); !free) return tl::unexpected(free.error());
  const auto found = view.PeerOf(who);
  if (!found) return tl::unexpected(found.error());
  const model::Peer& peer = **found;
  const auto standing = StandingOf(view, denied, peer, who);
  if (!standing) return tl::unexpected(standing.error());
  const model::Interface& interface = *standing->interface;
  Grant grant{.peer = peer.name,
              .interface = who.interface,
              .life = std::chrono::seconds::max(),
              .rests_on = who.proofs};
  grant.rests_on.push_back({Kind::peer, "", peer.name});
  for (const model::Policy* p : standing->policies) {
    for (auto& selector : model::SelectorsBeforeRegistration(interface, peer, *p)) {
      grant.selectors.push_back(std::move(selector));
    }
    if (!p->registration_ports.empty()) {
      for (auto& selector : model::SelectorsOf(interface, peer, *p)) {
        grant.registered_selectors.push_back(std::move(selector));
      }
    }
    grant.life = std::min(grant.life, LifeOf(*p, who, now));
    grant.rests_on.push_back({Kind::policy, "", p->name});
    if (p->second_place == SecondPlace::refuse || grant.second_place == SecondPlace::replace) {
      grant.second_place = p->second_place;
    }
  }
  if (grant.selectors.empty()) {
    return Refuse(Reason::policy_denied,
                  fmt::format("{} carries no packets of peer '{}': it asks for TLS, or shares no "
                              "address with the peer",
                              who.interface, peer.name));
  }
  if (grant.life < kShortestGrant) return tl::unexpected(NoTimeLeft(peer));
  return grant;
}

}  // namespace portcullis::admission
