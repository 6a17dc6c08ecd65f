// What control is asked comes to an answer, or to a refusal; whoever refuses, it looks alike.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>
#include <tl/expected.hpp>

#include "control/guard/control_link.hpp"
#include "control/identity/refusal.hpp"

namespace portcullis::guard {

struct Denied {
  identity::Refusal why;
  std::string reference = {};  // control's, when it was control that refused
};
template <class T>
using Outcome = tl::expected<T, Denied>;

inline tl::unexpected<Denied> Deny(identity::Refusal why) {
  return tl::unexpected(Denied{std::move(why)});
}
inline tl::unexpected<Denied> Deny(identity::Reason reason, std::string detail) {
  return Deny(identity::Refusal{reason, std::move(detail)});
}

/// gate_unavailable where control is away. `control` outlives the call.
boost::asio::awaitable<Outcome<admission::Response>> AskControl(ControlLink& control,
                                                                admission::Request request);

}  // namespace portcullis::guard
