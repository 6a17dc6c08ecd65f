// Which peers are registered with the protected server of an interface, on that server's word. What
// opens only then (profiles' `registration`, policies' `registration_ports`) is open as long.
#include <algorithm>

#include "control/core/gate.hpp"
#include "control/model/difference.hpp"

namespace portcullis {

Result<void> Gate::SetRegistered(const std::string& interface, const std::string& peer,
                                 bool registered) {
  if (registered == IsRegistered(interface, peer)) return {};
  if (registered) {
    const auto known = std::ranges::find(document_.peers, peer, &model::Peer::name);
    // It may have been shut out while its registration was on the way.
    if (known == document_.peers.end() || !known->enabled ||
        denials_.Has({model::Revocable::Kind::peer, "", peer})) {
      return Fail(ErrorKind::kForbidden, "the peer may not be here any more");
    }
    const auto now = std::chrono::system_clock::now();
    if (auto r = store_.AddRegistration(interface, peer, now); !r) return r;
    registrations_.emplace(std::pair(interface, peer), now);
  } else {
    // First it is in force: a store that cannot be written shuts nobody in.
    registrations_.erase({interface, peer});
    if (auto r = store_.RemoveRegistration(interface, peer); !r) return r;
  }
  events_.Tell("registration",
               fmt::format("peer '{}' on {}: {}", peer, interface,
                           registered ? "registered" : "no longer registered"),
               {}, peer);
  return {};
}

Result<Gate::Change> Gate::EndRegistration(const std::string& interface, const std::string& peer,
                                           const Wish& wish) {
  if (!IsRegistered(interface, peer)) {
    return Fail(ErrorKind::kNotFound, "no such peer is registered there");
  }
  Change change{
      model::OneDifference("removed", "registration", peer), {}, generation_, InSync(), {}};
  if (wish.dry_run) return change;
  if (auto ended = SetRegistered(interface, peer, false); !ended) {
    return tl::unexpected(ended.error());
  }
  return change;
}

// Of peers that are not there any more, or shut out.
void Gate::DropRegistrations() {
  std::vector<std::pair<std::string, std::string>> over;
  for (const auto& [who, since] : registrations_) {
    const auto& [interface, peer] = who;
    const auto known = std::ranges::find(document_.peers, peer, &model::Peer::name);
    const bool there = known != document_.peers.end() && known->enabled &&
                       !denials_.Has({model::Revocable::Kind::peer, "", peer}) &&
                       std::ranges::find(document_.interfaces, interface,
                                         &model::Interface::name) != document_.interfaces.end();
    if (!there) over.push_back(who);
  }
  for (const auto& [interface, peer] : over) {
    const auto ended = SetRegistered(interface, peer, false);
    if (!ended) events_.Tell("alarm", "a registration that ended: " + ended.error().Text());
  }
}

}  // namespace portcullis
