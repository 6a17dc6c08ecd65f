// A refusal between guard and control.
#pragma once

#include <fmt/format.h>

#include <string>

#include "control/admission/admission.pb.h"
#include "control/identity/refusal.hpp"

namespace portcullis::admission {

inline void Fill(Refusal& message, const identity::Refusal& refusal) {
  message.set_reason(std::string(identity::Info(refusal.reason).name));
  message.set_detail(refusal.detail);
  message.set_held(refusal.held);
}

inline identity::Refusal FromMessage(const Refusal& message) {
  for (size_t i = 0; i < identity::kReasons.size(); ++i) {
    if (identity::kReasons[i].name == message.reason()) {
      return {static_cast<identity::Reason>(i), message.detail(), message.held()};
    }
  }
  return {identity::Reason::gate_unavailable,
          fmt::format("the other end refuses for an unknown reason '{}': {}", message.reason(),
                      message.detail())};
}

}  // namespace portcullis::admission
