// The guard's judgement for gateways that an operator has already: one asks whether a client's
// request may pass, and passes it on by itself. Asked by whom the configuration names, over mutual
// TLS or a UNIX socket; decided by the same code as a request of the guard's own listeners, from
// the client's certificate on (decide.hpp). What cannot be decided without what only the gateway
// has is denied.
//
//   question → certificate → token → … → account → answer
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "control/guard/request/decide.hpp"
#include "control/guard/request/decision_request.hpp"
#include "control/guard/request/gateway_stream.hpp"
#include "control/guard/session/handshake.hpp"
#include "control/guard/session/listener.hpp"
#include "control/identity/authorities.hpp"

namespace portcullis::guard {

/// One interface that gateways guard. A reload puts another one here, between two requests.
struct DecisionInterface {
  RequestInterface asked;  // without a server
  DecisionProtocol protocol = DecisionProtocol::auth_request;
  VerifyPeer verify;  // of clients' certificates
  /// Their intermediates stand in for those that a gateway does not pass on.
  std::shared_ptr<const identity::Authorities> authorities;
  std::set<std::string> gateways;  // names of those that may ask; on UNIX sockets, their users
};

/// Serves one connection of a gateway, by the name that it has proved, until either side ends it.
using GatewayHandler = std::function<boost::asio::awaitable<void>(
    GatewayStream& stream, std::string gateway, boost::asio::ip::tcp::endpoint from)>;

/// `context` outlives the last connection.
GatewayHandler ServeGateways(RequestContext& context, std::shared_ptr<DecisionInterface> interface,
                             ListenerLimits limits);
/// The same, for a listener whose clients' certificates were checked by NamedCheck()
/// (peer_certificate.hpp).
ConnectionHandler ServeGatewaysByTls(RequestContext& context,
                                     const std::shared_ptr<DecisionInterface>& interface,
                                     ListenerLimits limits);

}  // namespace portcullis::guard
