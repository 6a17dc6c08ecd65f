// Requests of peers that wait for an operator (control/admission/held.hpp), for whoever ends them.
#pragma once

#include <chrono>

#include "control/rest/routes.hpp"

namespace portcullis::rest {

/// Forgets what nobody approved, or what was not sent again, in time. To be called each second.
void ExpireHeldRequests(Gate& gate, AuditLog& audit, std::chrono::system_clock::time_point now);

}  // namespace portcullis::rest
