// What a gateway that the operator has already asks about a client's request: may it pass? Two ways
// to ask, both HTTP/1.1. Here what was asked becomes the client's request again, held to the rules
// that it would have met at a listener of the guard's own.
//
//   auth_request  nginx's: fields tell of the request (config/gateways/nginx.conf)
//   ext_authz     Envoy's, over HTTP: method, target, fields and, where Envoy is told to send it,
//                 the body are the request's own (config/gateways/envoy.yaml)
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/guard/request/head.hpp"
#include "control/guard/request/stopped.hpp"
#include "control/identity/openssl_ptr.hpp"

namespace portcullis::guard {

enum class DecisionProtocol : uint8_t { auth_request, ext_authz };

/// Where auth_request asks: GET, without a body.
inline constexpr const char* kDecisionTarget = "/decision";

/// What the gateway sent.
struct Question {
  RequestHead head;
  std::string body;
};

/// A client's request, as its gateway has it.
struct ClientRequest {
  RequestHead head;
  bool has_body = false;
  std::optional<std::string> body = {};  // where the gateway sent it along; never empty
  identity::CertificatePtr certificate;  // that the client showed, unchecked; null: none
  identity::ChainPtr chain;              // what came with it, likewise; null: nothing
  boost::asio::ip::tcp::endpoint from;   // the client; its port is not known
};

/// Refused: request_malformed. The request is none that the guard would take on a listener of its
/// own, or the gateway took it for another than it is, or left out what must be told.
Step<ClientRequest> ReadQuestion(DecisionProtocol protocol, Question question);

/// A whole head, without its body. Refused: what FramingFault() finds, and what is no request.
Step<RequestHead> ParseHead(std::string_view text);

}  // namespace portcullis::guard
