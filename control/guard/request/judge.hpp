// May this be asked? What the peer holds, against what the request is. A pure function; everything
// that could be said of the request is known when it is called.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "control/admission/admission.pb.h"
#include "control/identity/refusal.hpp"
#include "control/profiles/body.hpp"
#include "control/profiles/profile.hpp"

namespace portcullis::guard {

/// A request, as its interface's profile reads it. Views into its head.
struct Reading {
  std::string_view method;
  std::string_view path;  // without the query
  profiles::Match match;
  profiles::Operations operations;          // what it needs, of all that its body asks for
  std::vector<std::string> callers;         // whom the body names as its sender
  std::vector<std::string> callbacks = {};  // where the body wants its sender to be called
};

/// An operator has closed this way for now (Runtime-16). It goes before everything else.
tl::expected<void, identity::Refusal> CheckBlocks(const admission::Permitted& permit,
                                                  std::string_view method, std::string_view path);

/// `owner` is the tenant that has the resource which the request is about; empty: nobody was seen
/// to create it; absent: it is about no one resource.
tl::expected<void, identity::Refusal> Judge(const admission::Permitted& permit,
                                            const Reading& request,
                                            const std::optional<std::string>& owner);

}  // namespace portcullis::guard
