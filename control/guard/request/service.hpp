// The requests of an interface: each is read strictly, its sender's right to exactly this is found
// out, it is accounted for, and only then goes on to the protected server, whose answer goes back.
//
//   head → token → permit → profile → (body) → owner → judge → account → relay
//
// Each step refuses by its own reason; the client is told its class and a reference.
#pragma once

#include <memory>
#include <string>

#include "control/guard/credentials.hpp"
#include "control/guard/request/permits.hpp"
#include "control/guard/request/upstream.hpp"
#include "control/guard/session/listener.hpp"
#include "control/profiles/profile.hpp"

namespace portcullis::guard {

/// One protected interface. A reload puts another profile or server here, between two requests.
struct RequestInterface {
  std::string name;  // in policy
  std::string root;  // before every path of the profile; empty: none
  std::shared_ptr<const profiles::Profile> profile;
  std::shared_ptr<Upstream> server;
};

/// What all connections share. One thread.
struct RequestContext {
  SessionContext& shared;
  Permits& permits;
};

/// `context` outlives the listener's last connection.
ConnectionHandler ServeRequests(RequestContext& context,
                                std::shared_ptr<RequestInterface> interface, ListenerLimits limits);

}  // namespace portcullis::guard
