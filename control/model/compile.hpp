// From the policy document to what the dataplane gets: per peer the rules that its role gives it,
// what XDP protects, what is bypassed. RFC 4301 terms: local is this gate's side, remote the
// peer's.
#pragma once

#include <vector>

#include "control/model/types.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::model {

/// Everything, for a dataplane that has nothing or something else. `document` is valid.
steer::ApplySnapshot CompileFull(const Document& document, uint64_t generation);

/// Only the peers that differ, and the first line where it does; for a dataplane in which `base`,
/// compiled from `before`, is in force.
steer::ApplySnapshot CompileChange(const Document& before, uint64_t base, const Document& after,
                                   uint64_t generation);

/// What one policy gives one peer on its interface, both directions. Nothing where the interface
/// asks for TLS alone.
std::vector<steer::Selector> SelectorsOf(const Interface& interface, const Peer& peer,
                                         const Policy& policy);

/// The part of it that is open before the peer is registered: all, unless the policy says
/// otherwise.
std::vector<steer::Selector> SelectorsBeforeRegistration(const Interface& interface,
                                                         const Peer& peer, const Policy& policy);

steer::Rate ToMessage(const Rate& rate);

}  // namespace portcullis::model
