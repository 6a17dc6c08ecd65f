// From what control sends to the dataplane's own types, checked field by field; and back, for what
// control asks for. Errors name the field as it is called in steer.proto.
#pragma once

#include "base/result.hpp"
#include "dataplane/config.hpp"
#include "dataplane/state/state.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::steer {

Result<PolicyUpdate> ToPolicyUpdate(const ApplySnapshot& message);
/// Wrong: SPI below 256, key of another length, window outside 64..limits, no selector, addresses
/// of two families.
Result<portcullis::SaSpec> ToSaSpec(const SaSpec& message, const DataplaneConfig& config);

SaState ToMessage(const Sa& sa, bool with_key, uint64_t now_tsc, uint64_t boot_ns);
void Fill(Counters& message, std::string name, const CounterValues& values);

}  // namespace portcullis::steer
