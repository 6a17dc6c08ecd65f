#include "base/ip.hpp"

#include <arpa/inet.h>

#include <charconv>

namespace portcullis {

Result<Address> Address::Parse(std::string_view text) {
  const std::string z(text);
  std::array<uint8_t, 16> raw{};
  if (inet_pton(AF_INET, z.c_str(), raw.data()) == 1) return V4(raw.data());
  if (inet_pton(AF_INET6, z.c_str(), raw.data()) == 1) return V6(raw.data());
  return Invalid("", "not an IP address", "an IPv4 or IPv6 address such as 192.0.2.1",
                 "\"" + z + "\"");
}

std::string Address::Text() const {
  std::array<char, INET6_ADDRSTRLEN> out{};
  inet_ntop(IsV4() ? AF_INET : AF_INET6, wire().data(), out.data(), out.size());
  return out.data();
}

Prefix::Prefix(const Address& address, unsigned length) : length_(length) {
  std::array<uint8_t, 16> bytes = address.bytes();
  for (unsigned i = 0; i < bytes.size(); ++i) {
    const unsigned kept = length <= i * 8 ? 0 : std::min(8U, length - i * 8);
    bytes[i] &= static_cast<uint8_t>(0xff00U >> kept);
  }
  address_ = Address::V6(bytes.data());
}

Result<Prefix> Prefix::Parse(std::string_view text) {
  const auto wrong = [&](std::string message) {
    return Invalid("", std::move(message), "a prefix such as 10.0.0.0/8 or 2001:db8::/32",
                   "\"" + std::string(text) + "\"");
  };
  const auto slash = text.find('/');
  const auto address = Address::Parse(text.substr(0, slash));
  if (!address) return wrong("not an IP prefix");
  const unsigned widest = address->IsV4() ? 32 : 128;
  unsigned length = widest;
  if (slash != std::string_view::npos) {
    const auto digits = text.substr(slash + 1);
    const auto [end, failed] =
        std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (failed != std::errc() || end != digits.data() + digits.size() || length > widest) {
      return wrong("prefix length is not a number from 0 to " + std::to_string(widest));
    }
  }
  const Prefix prefix(*address, address->IsV4() ? length + 96 : length);
  if (prefix.address() != *address) return wrong("bits are set beyond the prefix length");
  return prefix;
}

std::string Prefix::Text() const {
  return address_.Text() + "/" + std::to_string(WrittenLength());
}

}  // namespace portcullis
