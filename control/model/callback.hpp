// Where a peer may be called: addresses that it gives in its requests, or that it is known by. What
// lies below none of its prefixes in policy is nobody's, so that no peer can point a protected
// server, or the gate, at a third one (SSRF).
//
// An address has one spelling here. It is compared as it stands, and whatever a second reader could
// take for another host or path is refused and not put right (RFC 3986 6.2.2).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "control/model/types.hpp"

namespace portcullis::model {

class Fields;

/// What is wrong with it, for people. Nothing: it is "https://host[:port]/path[?query]" and
/// canonical: lower case host, a literal address as it is written by everybody, no port where it is
/// 443, no user name, no fragment, and a path that profiles::Target admits.
std::optional<std::string> CallbackFault(std::string_view url);
/// The same of a prefix: "https://host[:port]/path/", without a query.
std::optional<std::string> CallbackPrefixFault(std::string_view prefix);
/// Of a canonical address and a canonical prefix: by whole segments. "https://a/b" lies below
/// "https://a/b/".
bool IsBelow(std::string_view url, std::string_view prefix);

/// Why nobody can be called at this address: loopback, link-local, multicast and the like.
std::optional<std::string_view> NeverCalled(const Address& address);

/// The optional field "callbacks" of a peer.
std::vector<std::string> ReadCallbacks(Fields& fields, std::optional<Error>& error);
/// No prefix of a peer lies within another peer's: an address has one owner.
Result<void> CheckCallbacks(const Document& document);

}  // namespace portcullis::model
