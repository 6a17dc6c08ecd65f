#include "control/admission/own_key.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace portcullis::admission {

using identity::Reason;

tl::expected<void, identity::Refusal> KeyIsOwn(Gate& gate, const std::string& peer,
                                               const Applicant& who,
                                               std::chrono::system_clock::time_point now) {
  const auto refuse = [](Reason reason, std::string detail) {
    return tl::unexpected(identity::Refusal{reason, std::move(detail)});
  };
  const bool psk = who.by == model::Authentication::psk;
  const std::string& key = psk ? who.proof_key_thumbprint : who.identity.spki_sha256();
  if (key.empty()) return {};
  std::string identity = psk ? who.psk_peer : fmt::format("{}", fmt::join(who.names, ", "));
  const auto first = gate.SeeKey({key, peer, std::move(identity), now});
  if (!first) return refuse(Reason::gate_unavailable, first.error().Text());
  if (first->peer == peer) return {};
  return refuse(Reason::spki_reuse,
                fmt::format("peer '{}' comes with key {}, which is that of peer '{}' ({}) since {}",
                            peer, key, first->peer, first->identity, TimeText(first->since)));
}

}  // namespace portcullis::admission
