// The session interface (docs/session-interface.md): HTTP/1.1 and JSON on an authenticated
// connection. What it means is the desk's affair; here it is read, answered and bounded.
//
//   POST   /session/v1/sessions                a session, or the renewal of one      201
//   POST   /session/v1/sessions/{id}/confirm   the peer has installed its keys       204, the end
//   DELETE /session/v1/sessions/{id}           the peer's session ends               204
#pragma once

#include <chrono>
#include <string>

#include "control/guard/session/desk.hpp"
#include "control/guard/session/listener.hpp"

namespace portcullis::guard {

struct ServiceSettings {
  std::string url;                                 // see SessionDesk
  ListenerLimits limits;                           // time and bytes of each request
  std::chrono::milliseconds confirm_time{30'000};  // from the answer to the confirmation
};

/// `context` outlives every connection.
ConnectionHandler ServeSessions(SessionContext& context, ServiceSettings settings);

}  // namespace portcullis::guard
