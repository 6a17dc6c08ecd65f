// Connections to the guard that come through a session's SAs (protection tls+esp): each is the
// session's peer's, and lasts no longer than the session. The dataplane holds packets to the SA's
// selectors; here it is told whose SA carries an address.
#include <fmt/format.h>

#include <algorithm>

#include "control/admission/sessions.hpp"
#include "dataplane/steer/messages.hpp"

namespace portcullis::admission {

using identity::Reason;

namespace {

// Connections from there to the guard, and not only the other way.
bool Admits(const steer::Selector& selector, const Address& source,
            const model::GuardPlace& guard) {
  const auto remote = steer::FromMessage(selector.remote(), "remote");
  const auto local = steer::FromMessage(selector.local(), "local");
  const steer::Ports& ports = selector.local_ports();
  return remote && remote->Contains(source) && local && local->Contains(guard.address) &&
         selector.protocol() == static_cast<uint32_t>(model::Protocol::tcp) &&
         selector.has_local_ports() && ports.first() <= guard.port && guard.port <= ports.last();
}

}  // namespace

tl::expected<std::chrono::seconds, identity::Refusal> Sessions::Carries(
    const std::string& peer, const model::Interface& interface, const Address& source) {
  const auto refuse = [&](Reason reason, const char* what) {
    return tl::unexpected(identity::Refusal{
        reason,
        fmt::format("peer '{}' at {} on {}: {}", peer, source.Text(), interface.name, what)});
  };
  Adopt();
  if (!adopted_) return refuse(Reason::gate_unavailable, "sessions are known with the dataplane");
  if (!interface.guard) return refuse(Reason::policy_denied, "policy names no guard");
  for (const Session* session : Of(peer, interface.name)) {
    if (!session->current) continue;
    const Generation& g = *session->current;
    const bool admits = std::ranges::any_of(
        g.selectors, [&](const steer::Selector& s) { return Admits(s, source, *interface.guard); });
    const auto left = std::chrono::floor<std::chrono::seconds>(g.ends - Clock::now());
    // An operator may have removed the SA itself.
    const bool alive = gate_.sas().contains(session->SaName(g.number, steer::INBOUND));
    if (admits && alive && left.count() > 0) return left;
  }
  return refuse(Reason::session_missing, "no session of its own carries this address");
}

void Sessions::NoteEnded(const std::vector<Session>& ended) {
  const auto& interfaces = gate_.document().interfaces;
  const bool carried = std::ranges::any_of(ended, [&](const Session& session) {
    const auto at = std::ranges::find(interfaces, session.interface, &model::Interface::name);
    return at != interfaces.end() && at->protection == model::Protection::tls_esp;
  });
  if (!carried) return;
  ++ended_;
  if (wake_) wake_();
}

}  // namespace portcullis::admission
