// Requests that policy lets an operator approve first. The first time such a one comes it is
// written down and refused with a reference; sent again, byte for byte the same, after an operator
// has approved it, it passes once. Anything else than these bytes is another request. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "control/admission/admission.pb.h"
#include "control/core/gate.hpp"
#include "control/identity/refusal.hpp"
#include "control/model/held_request.hpp"
#include "control/registry/audit/record.hpp"

namespace portcullis::admission {

class HeldRequests {
 public:
  /// `gate` outlives this.
  explicit HeldRequests(Gate& gate) : gate_(gate) {}

  /// The one that an operator has approved; its request may be made now. Refused otherwise, and
  /// held for `seconds` when nobody knows it; `entry` is what it would be recorded as.
  tl::expected<model::HeldRequest, identity::Refusal> Check(const Operate& request,
                                                            audit::Entry entry, uint32_t seconds);
  /// That of the request which Check() has just begun to hold, once: to be on the disk before its
  /// peer is told. Nothing: it has held none.
  std::optional<audit::Entry> TakeRecord() { return std::exchange(record_, std::nullopt); }
  /// Its id: it is being made, and nothing else passes for it until End().
  std::string Begin(const model::HeldRequest& approved);
  void End(const model::HeldRequest& approved) { being_made_.erase(approved.id); }

 private:
  tl::unexpected<identity::Refusal> Hold(model::HeldRequest request, audit::Entry entry);

  Gate& gate_;
  std::optional<audit::Entry> record_;
  std::set<std::string> being_made_;
};

}  // namespace portcullis::admission
