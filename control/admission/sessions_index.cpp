// Which sessions a peer has and which are only promised, without a walk past all of them: a peer
// that comes is to cost the same beside ten others and beside ten thousand.
#include "control/admission/sessions.hpp"

namespace portcullis::admission {

Sessions::Session& Sessions::Begin(const std::string& id, const std::string& peer,
                                   const std::string& interface) {
  of_peer_[peer].insert(id);
  return sessions_.try_emplace(id, Session{id, peer, interface, {}, {}}).first->second;
}

Sessions::Session Sessions::Take(const std::string& id) {
  Session session = std::move(sessions_.extract(id).mapped());
  const auto of_peer = of_peer_.find(session.peer);
  of_peer->second.erase(id);
  if (of_peer->second.empty()) of_peer_.erase(of_peer);
  return session;
}

std::vector<const Sessions::Session*> Sessions::Of(const std::string& peer,
                                                   const std::string& interface) const {
  std::vector<const Session*> found;
  const auto of_peer = of_peer_.find(peer);
  if (of_peer == of_peer_.end()) return found;
  for (const std::string& id : of_peer->second) {
    const Session& session = sessions_.at(id);
    if (session.interface == interface) found.push_back(&session);
  }
  return found;
}

std::set<uint32_t> Sessions::Reserved() {
  std::set<uint32_t> reserved;
  std::erase_if(under_way_, [&](const std::string& id) {
    const auto at = sessions_.find(id);
    if (at == sessions_.end() || !at->second.next) return true;
    reserved.insert(at->second.next->gate_spi);
    return false;
  });
  return reserved;
}

}  // namespace portcullis::admission
