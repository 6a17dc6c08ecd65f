#include "control/identity/revocations.hpp"

#include <algorithm>

namespace portcullis::identity {
namespace {

// How far a CA's clock may be ahead of ours.
constexpr std::chrono::minutes kSkew{5};

std::string Name(const ChainLink& link) {
  return fmt::format("certificate '{}' (serial {})", link.subject, link.id.serial);
}

tl::unexpected<Refusal> Refused(Reason reason, const ChainLink& link, const std::string& why) {
  return tl::unexpected(Refusal{reason, Name(link) + " " + why});
}

}  // namespace

Revocations::Revocations(std::chrono::seconds grace) : grace_(grace) {}

std::shared_ptr<const Revocations::State> Revocations::Now() const {
  const std::lock_guard lock(current_);
  return state_;
}

template <class Change>
void Revocations::Alter(const Change& change) {
  const auto next = std::make_shared<State>(*Now());
  if (change(*next)) ++next->epoch;
  const std::lock_guard lock(current_);
  state_ = next;
}

Result<void> Revocations::Install(std::shared_ptr<const RevocationList> list, Time now) {
  const auto refuse = [&](ErrorKind kind, std::string message, std::string expected,
                          std::string found) {
    return tl::unexpected(Error{kind, std::move(message), "revocation list of " + list->issuer(),
                                std::move(expected), std::move(found)});
  };
  if (list->this_update() > now + kSkew) {
    return refuse(ErrorKind::kInvalid, "it is not in force yet",
                  "thisUpdate at " + TimeText(now) + " or earlier", TimeText(list->this_update()));
  }
  const std::lock_guard lock(changing_);
  const auto state = Now();
  if (const auto old = state->lists.find(list->authority()); old != state->lists.end()) {
    const RevocationList& former = *old->second;
    if (list->digest() == former.digest()) return {};
    if (list->IsOlderThan(former)) {
      return refuse(ErrorKind::kConflict, "it is older than the list in force",
                    "number " + former.number() + " or higher", list->number());
    }
    if (!former.IsOlderThan(*list)) {
      return refuse(ErrorKind::kConflict, "it differs from the list in force but not in number",
                    "a number above " + former.number(), list->number());
    }
  }
  Alter([&](State& next) {
    next.lists[list->authority()] = std::move(list);
    return true;
  });
  return {};
}

void Revocations::Deny(const std::map<CertificateId, Time>& entries) {
  const std::lock_guard lock(changing_);
  Alter([&](State& next) {
    bool more = false;
    for (const auto& [id, until] : entries) {
      const auto [entry, added] = next.denied.emplace(id, until);
      entry->second = std::max(entry->second, until);
      more = more || added;
    }
    return more;
  });
}

bool Revocations::Allow(const CertificateId& id) {
  const std::lock_guard lock(changing_);
  if (!Now()->denied.contains(id)) return false;
  Alter([&](State& next) {
    next.denied.erase(id);
    return false;
  });
  return true;
}

void Revocations::DropExpired(Time now) {
  const std::lock_guard lock(changing_);
  Alter([&](State& next) {
    std::erase_if(next.denied, [&](const auto& entry) { return entry.second < now; });
    return false;
  });
}

tl::expected<void, Refusal> Revocations::Check(std::span<const ChainLink> chain, bool list_required,
                                               Time now) const {
  const auto state = Now();
  // What is revoked is told before what is stale: an old list still knows whom it revoked.
  for (const ChainLink& link : chain) {
    if (state->denied.contains(link.id)) {
      return Refused(Reason::cert_revoked, link, "was denied by an operator");
    }
    const auto list = state->lists.find(link.authority);
    if (list != state->lists.end() && list->second->Lists(link.id.serial)) {
      return Refused(
          Reason::cert_revoked, link,
          fmt::format("is on list {} of '{}'", list->second->number(), list->second->issuer()));
    }
  }
  if (!list_required) return {};
  for (const ChainLink& link : chain) {
    const auto list = state->lists.find(link.authority);
    if (list == state->lists.end()) {
      return Refused(Reason::crl_stale, link, "has an issuer of whom there is no revocation list");
    }
    if (now > list->second->next_update() + grace_) {
      return Refused(Reason::crl_stale, link,
                     fmt::format("has an issuer whose revocation list ended at {}",
                                 TimeText(list->second->next_update())));
    }
  }
  return {};
}

uint64_t Revocations::epoch() const {
  return Now()->epoch;
}

std::vector<std::shared_ptr<const RevocationList>> Revocations::lists() const {
  std::vector<std::shared_ptr<const RevocationList>> all;
  for (const auto& [authority, list] : Now()->lists) all.push_back(list);
  return all;
}

std::map<CertificateId, Time> Revocations::denied() const {
  return Now()->denied;
}

std::vector<Expiry> Revocations::ExpiringBy(Time time) const {
  std::vector<Expiry> all;
  for (const auto& list : lists()) {
    if (list->next_update() <= time) {
      all.push_back({fmt::format("revocation list {} of '{}'", list->number(), list->issuer()),
                     list->next_update(), list->this_update()});
    }
  }
  return all;
}

}  // namespace portcullis::identity
