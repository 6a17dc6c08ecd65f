// URLs of issuers, and of requests as proofs name them; Boost.URL reads them (RFC 3986).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace portcullis::identity {

struct WebAddress {
  bool tls = true;
  std::string host;                             // IPv6 without brackets
  std::string port;                             // a number
  std::string target;                           // path and query, never empty
  [[nodiscard]] std::string Authority() const;  // for Host, IPv6 in brackets
};

/// An https URL; http only when the host is a loopback address, since whoever is on the way could
/// put other keys into the answer. No user name, no fragment.
Result<WebAddress> ParseWebAddress(const std::string& url, const std::string& where);

/// One spelling for all that mean the same (RFC 3986 6.2.2, 6.2.3), without query and fragment, as
/// RFC 9449 4.3 compares `htu`. Nothing: not an absolute http or https URL with a host.
std::optional<std::string> NormalisedTarget(std::string_view url);

}  // namespace portcullis::identity
