// Conversions and the wiping of keys; see messages.hpp.
#include "dataplane/steer/messages.hpp"

#include "base/secret.hpp"

namespace portcullis::steer {

Failure ToFailure(const Error& error) {
  Failure failure;
  failure.set_kind(static_cast<uint32_t>(error.kind));
  failure.set_message(error.message);
  failure.set_where(error.where);
  failure.set_expected(error.expected);
  failure.set_found(error.found);
  return failure;
}

Error ToError(const Failure& failure) {
  constexpr auto kLast = static_cast<uint32_t>(ErrorKind::kInternal);
  return {static_cast<ErrorKind>(std::min(failure.kind(), kLast)), failure.message(),
          failure.where(), failure.expected(), failure.found()};
}

Prefix ToMessage(const portcullis::Prefix& prefix) {
  Prefix message;
  // A prefix shorter than ::ffff:0:0/96 covers both families and is written as IPv6.
  const auto bytes = prefix.IsV4() ? prefix.address().wire() : std::span(prefix.address().bytes());
  message.set_address(bytes.data(), bytes.size());
  message.set_length(prefix.WrittenLength());
  return message;
}

Result<portcullis::Prefix> FromMessage(const Prefix& message, const std::string& where) {
  constexpr size_t kV4Bytes = 4;
  constexpr size_t kV6Bytes = 16;
  const size_t size = message.address().size();
  if (size != kV4Bytes && size != kV6Bytes) {
    return Invalid(where, "the address has a wrong length", "4 or 16 bytes",
                   fmt::format("{} bytes", size));
  }
  if (message.length() > 8 * size) {
    return Invalid(where, "the prefix is too long", fmt::format("0 to {}", 8 * size),
                   fmt::format("{}", message.length()));
  }
  const Address address = size == kV4Bytes ? Address::V4(message.address().data())
                                           : Address::V6(message.address().data());
  const portcullis::Prefix prefix(
      address, message.length() + (size == kV4Bytes ? 8 * (kV6Bytes - kV4Bytes) : 0));
  if (prefix.address() != address) {
    return Invalid(where, "the address has bits set beyond the prefix length", prefix.Text(),
                   fmt::format("{}/{}", address.Text(), message.length()));
  }
  return prefix;
}

std::string ToBytes(const Address& address) {
  return {reinterpret_cast<const char*>(address.wire().data()), address.wire().size()};
}

std::optional<Address> FromBytes(std::string_view bytes) {
  if (bytes.size() == 4) return Address::V4(bytes.data());
  if (bytes.size() == 16) return Address::V6(bytes.data());
  return {};
}

void WipeKeys(Request& request) {
  if (!request.has_add_sas()) return;
  for (SaSpec& sa : *request.mutable_add_sas()->mutable_sas()) {
    if (!sa.key().empty()) Wipe(*sa.mutable_key());
  }
}

void WipeKeys(Response& response) {
  if (!response.has_list_sas()) return;
  for (SaState& sa : *response.mutable_list_sas()->mutable_sas()) {
    if (!sa.spec().key().empty()) Wipe(*sa.mutable_spec()->mutable_key());
  }
}

}  // namespace portcullis::steer
