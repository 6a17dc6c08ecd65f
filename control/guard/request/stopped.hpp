// Why a request goes no further. Its client is told its class, a reference, and what is wrong with
// its form; operators are told the rest.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "base/result.hpp"
#include "control/guard/ask_control.hpp"
#include "control/identity/refusal.hpp"
#include "control/profiles/fault.hpp"

namespace portcullis::guard {

struct Stopped {
  identity::Refusal why;
  std::string reference = {};      // control's
  std::optional<Error> form = {};  // of the request, when that is what is wrong
};
template <class T>
using Step = tl::expected<T, Stopped>;

inline tl::unexpected<Stopped> Stop(identity::Reason reason, std::string detail) {
  return tl::unexpected(Stopped{{reason, std::move(detail)}});
}
inline tl::unexpected<Stopped> Stop(identity::Refusal why) {
  return tl::unexpected(Stopped{std::move(why)});
}
inline tl::unexpected<Stopped> Stop(Denied denied) {
  return tl::unexpected(Stopped{std::move(denied.why), std::move(denied.reference)});
}
inline tl::unexpected<Stopped> StopFor(Error form) {
  identity::Refusal why{identity::Reason::request_malformed, form.Text()};
  return tl::unexpected(Stopped{std::move(why), {}, std::move(form)});
}

// Whether the request is hostile or wrong in form, or only one that is not served.
inline bool IsUnlisted(profiles::Fault fault) {
  return fault == profiles::Fault::outside_root || fault == profiles::Fault::path_unlisted ||
         fault == profiles::Fault::method_unlisted;
}

inline tl::unexpected<Stopped> StopFor(profiles::Fault fault) {
  const auto& info = profiles::Info(fault);
  if (IsUnlisted(fault)) {
    return Stop(identity::Reason::request_unlisted, fmt::format("{}: {}", info.name, info.text));
  }
  return StopFor(
      Error{ErrorKind::kInvalid, std::string(info.text), std::string(info.name), {}, {}});
}

}  // namespace portcullis::guard
