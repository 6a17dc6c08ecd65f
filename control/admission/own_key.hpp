// Whoever comes with a key that was seen with another peer has a copy of it, or there is a mistake.
#pragma once

#include <chrono>
#include <string>
#include <tl/expected.hpp>

#include "control/admission/applicant.hpp"
#include "control/core/gate.hpp"
#include "control/identity/refusal.hpp"

namespace portcullis::admission {

/// Remembered for `peer`, when nobody came with the key before. To be asked once the peer may
/// enter, so that a stranger who shows somebody's certificate first takes nothing from its owner.
tl::expected<void, identity::Refusal> KeyIsOwn(Gate& gate, const std::string& peer,
                                               const Applicant& who,
                                               std::chrono::system_clock::time_point now);

}  // namespace portcullis::admission
