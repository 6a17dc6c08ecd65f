// What a client is told when its request goes no further.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>

#include "control/guard/request/exchange.hpp"

namespace portcullis::guard {

/// The refusal's class and its reference, and no more than that but for what is wrong with the
/// request's form. `challenge`: RFC 6750 3, where a token is missing or does not do.
boost::asio::awaitable<void> AnswerRefusal(Exchange& exchange, Stopped stopped,
                                           std::string reference, std::string challenge);

/// A problem document (RFC 9457) of the gate's own.
boost::asio::awaitable<void> AnswerProblem(Exchange& exchange, unsigned status, Fields fields,
                                           std::string body);

}  // namespace portcullis::guard
