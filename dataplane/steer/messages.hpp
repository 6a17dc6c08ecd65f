// Between the steering schema and the project's own types, for both sides of the socket.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "dataplane/steer/steer.pb.h"

namespace portcullis::steer {

Failure ToFailure(const Error& error);
Error ToError(const Failure& failure);

Prefix ToMessage(const portcullis::Prefix& prefix);
/// `where` names the field in the error.
Result<portcullis::Prefix> FromMessage(const Prefix& message, const std::string& where);

/// As all messages write an address: 4 or 16 bytes.
std::string ToBytes(const Address& address);
std::optional<Address> FromBytes(std::string_view bytes);

/// Overwrites every key that the message holds. Protobuf frees its strings without wiping.
void WipeKeys(Request& request);
void WipeKeys(Response& response);

}  // namespace portcullis::steer
