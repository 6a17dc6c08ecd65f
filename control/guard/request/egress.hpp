// The other direction: what protected servers send to peers, notifications and deliveries. A server
// asks as it would ask a proxy; the guard finds the one peer whose address that is, has control say
// that it may be sent this, and sends it over mutual TLS of its own.
//
//   head → address → permit → profile → account → connect, recognise → relay
#pragma once

#include <memory>
#include <set>
#include <string>

#include "control/guard/request/callees.hpp"
#include "control/guard/request/decide.hpp"
#include "control/guard/session/listener.hpp"
#include "control/profiles/profile.hpp"

namespace portcullis::guard {

/// One protected interface's way out. A reload puts another one here, between two requests.
struct EgressInterface {
  std::string name;  // in policy
  std::shared_ptr<const profiles::Profile> profile;
  std::set<std::string> servers;  // names by which those who may send are known
  std::shared_ptr<Callees> callees;
};

/// Where a request is to go.
struct Destination {
  std::string url;     // canonical, without its query
  std::string origin;  // "https://host[:port]"
  std::string target;  // path and query, byte for byte
};

/// In absolute-form (RFC 9112 3.2.2), or origin-form with 3gpp-Sbi-Target-apiRoot (TS 29.500
/// 5.2.3.2.4). Refused: neither or both, and what is not canonical.
Step<Destination> DestinationOf(const RequestHead& request);

/// What this may be, of all that the interface sends: a delivery to a path below the peer's prefix,
/// or a callback. Each that it could be, where addresses alone do not tell callbacks apart.
tl::expected<profiles::Operations, profiles::Fault> WhatIsSent(const profiles::Profile& profile,
                                                               std::string_view method,
                                                               const Destination& to,
                                                               std::string_view prefix);

/// `context` outlives the listener's last connection.
ConnectionHandler ServeEgress(RequestContext& context, std::shared_ptr<EgressInterface> interface,
                              ListenerLimits limits);

}  // namespace portcullis::guard
