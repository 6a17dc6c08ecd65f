#include "control/guard/ask_control.hpp"

#include <utility>

#include "control/admission/refusal_message.hpp"

namespace portcullis::guard {

boost::asio::awaitable<Outcome<admission::Response>> AskControl(ControlLink& control,
                                                                admission::Request request) {
  auto response = co_await control.Call(std::move(request));
  if (!response) co_return Deny(identity::Reason::gate_unavailable, response.error().Text());
  if (response->has_refusal()) {
    Denied denied{admission::FromMessage(response->refusal()), response->refusal().reference()};
    co_return tl::unexpected(std::move(denied));
  }
  co_return std::move(*response);
}

}  // namespace portcullis::guard
