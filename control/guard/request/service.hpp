// The requests of an interface: each is read strictly (exchange.hpp), its sender's right to exactly
// this is found out (decide.hpp), and only then it goes on to the protected server, whose answer
// goes back (relay.hpp). The client is told a refusal's class and a reference.
#pragma once

#include <memory>

#include "control/guard/request/decide.hpp"
#include "control/guard/session/listener.hpp"

namespace portcullis::guard {

/// `context` outlives the listener's last connection.
ConnectionHandler ServeRequests(RequestContext& context,
                                std::shared_ptr<RequestInterface> interface, ListenerLimits limits);

}  // namespace portcullis::guard
