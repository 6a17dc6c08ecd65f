#include "control/model/callback.hpp"

#include <algorithm>
#include <array>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <nlohmann/json.hpp>
#include <tuple>

#include "control/model/fields.hpp"
#include "control/profiles/target.hpp"

namespace portcullis::model {

namespace urls = boost::urls;
using nlohmann::json;
using Fault = std::optional<std::string>;

namespace {

constexpr std::string_view kScheme = "https://";
constexpr size_t kLongestUrl = 2048;
constexpr size_t kLongestPrefix = 512;
constexpr size_t kMostPrefixes = 32;  // of a peer; what it may do is one message
constexpr size_t kLongestHost = 253;
constexpr size_t kLongestLabel = 63;
constexpr const char* kPrefixText = "https://host[:port]/path/, in lower case up to the path";

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

bool IsLower(char c) {
  return c >= 'a' && c <= 'z';
}

// RFC 1123 2.1. A name whose last label begins with a digit is an address to some readers
// ("0x7f.1", "2130706433").
bool IsHostName(std::string_view host) {
  if (host.empty() || host.size() > kLongestHost) return false;
  for (;;) {
    const auto dot = host.find('.');
    const std::string_view label = host.substr(0, dot);
    const bool fits =
        !label.empty() && label.size() <= kLongestLabel && label.front() != '-' &&
        label.back() != '-' &&
        std::ranges::all_of(label, [](char c) { return IsLower(c) || IsDigit(c) || c == '-'; });
    if (!fits) return false;
    if (dot == std::string_view::npos) return IsLower(label.front());
    host.remove_prefix(dot + 1);
  }
}

Fault HostFault(const urls::url_view& url) {
  const std::string_view host(url.encoded_host());
  switch (url.host_type()) {
    case urls::host_type::name:
      if (IsHostName(host)) return {};
      return "a host that is no name in lower case (RFC 1123)";
    case urls::host_type::ipv4:
    case urls::host_type::ipv6: {
      const bool v6 = url.host_type() == urls::host_type::ipv6;
      const std::string text(v6 ? host.substr(1, host.size() - 2) : host);
      const auto address = Address::Parse(text);
      // An IPv4 address in IPv6's clothes is another spelling of it.
      if (!address || address->IsV4() == v6 || address->Text() != text) {
        return "an address that is not written in its one form (RFC 5952)";
      }
      if (const auto never = NeverCalled(*address)) return std::string(*never);
      return {};
    }
    default:
      return "no host";
  }
}

Fault PortFault(const urls::url_view& url) {
  if (!url.has_port()) return {};
  const std::string_view port(url.port());
  const unsigned number = url.port_number();
  if (number == 0 || std::to_string(number) != port) return "a port that is no number from 1 on";
  if (number == 443) return "port 443, which is not written";
  return {};
}

// The path and the query are held to the rules for requests, which have no use for a host alone.
Fault TargetFault(std::string_view target) {
  if (target == "/") return {};
  profiles::Target read;
  if (const auto fault = read.Read(target)) return std::string(profiles::Info(*fault).text);
  return {};
}

}  // namespace

Fault CallbackFault(std::string_view text) {
  if (text.size() > kLongestUrl) return fmt::format("longer than {} bytes", kLongestUrl);
  const auto parsed = urls::parse_uri(text);
  if (parsed.has_error()) return "not a URL (RFC 3986)";
  if (!text.starts_with(kScheme)) return "not an https URL";
  if (parsed->has_userinfo()) return "a user name";
  if (parsed->has_fragment()) return "a fragment";
  if (auto fault = HostFault(*parsed)) return fault;
  if (auto fault = PortFault(*parsed)) return fault;
  return TargetFault(std::string_view(parsed->encoded_target()));
}

Fault CallbackPrefixFault(std::string_view prefix) {
  if (prefix.size() > kLongestPrefix) return fmt::format("longer than {} bytes", kLongestPrefix);
  if (prefix.find('?') != std::string_view::npos) return "a query";
  if (!prefix.ends_with('/')) return "it does not end with '/'";
  // "https://host/" is all of the host; of a longer one the slash at the end is the prefix's own.
  const auto path = prefix.find('/', std::min(prefix.size(), kScheme.size()));
  if (path != std::string_view::npos && path + 1 < prefix.size()) {
    prefix.remove_suffix(1);
    if (prefix.ends_with('/')) return "an empty segment";
  }
  return CallbackFault(prefix);
}

bool IsBelow(std::string_view url, std::string_view prefix) {
  const auto path = url.substr(0, url.find('?'));
  if (path.starts_with(prefix)) return true;
  return path.size() + 1 == prefix.size() && prefix.starts_with(path);
}

std::optional<std::string_view> NeverCalled(const Address& address) {
  struct Range {
    const char* prefix;
    std::string_view text;
  };
  static constexpr std::array kRanges = {
      Range{"0.0.0.0/8", "an address of no host (RFC 6890)"},
      Range{"127.0.0.0/8", "a loopback address"},
      Range{"169.254.0.0/16", "a link-local address"},
      Range{"224.0.0.0/4", "a multicast address"},
      Range{"240.0.0.0/4", "an address of no host (RFC 6890)"},
      Range{"::/128", "an address of no host (RFC 6890)"},
      Range{"::1/128", "a loopback address"},
      Range{"fe80::/10", "a link-local address"},
      Range{"ff00::/8", "a multicast address"},
  };
  static const auto kParsed = [] {
    std::array<Prefix, kRanges.size()> all;
    for (size_t i = 0; i < all.size(); ++i) all[i] = Prefix::Parse(kRanges[i].prefix).value();
    return all;
  }();
  for (size_t i = 0; i < kParsed.size(); ++i) {
    if (kParsed[i].Contains(address)) return kRanges[i].text;
  }
  return {};
}

std::vector<std::string> ReadCallbacks(Fields& fields, std::optional<Error>& error) {
  std::vector<std::string> all;
  fields.Each("callbacks", Fields::Presence::optional,
              [&](const json& element, const std::string& where) {
                const auto* text = element.get_ptr<const json::string_t*>();
                const Fault fault = text == nullptr ? "no text" : CallbackPrefixFault(*text);
                if (fault && !error) {
                  error = Error{ErrorKind::kInvalid, "not the beginning of callbacks: " + *fault,
                                where, kPrefixText, Describe(element)};
                }
                if (!fault) all.push_back(*text);
              });
  if (all.size() > kMostPrefixes) {
    fields.Refuse("callbacks", "too many prefixes", fmt::format("at most {}", kMostPrefixes),
                  std::to_string(all.size()));
  }
  std::ranges::sort(all);  // a set, shown and compared as such
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

Result<void> CheckCallbacks(const Document& d) {
  struct Claim {
    std::string_view prefix;
    size_t peer;
    size_t index;
  };
  std::vector<Claim> claims;
  for (size_t n = 0; n < d.peers.size(); ++n) {
    const Peer& p = d.peers[n];
    if (!p.callbacks.empty() && p.authentication != Authentication::certificate) {
      return Invalid(fmt::format("/peers/{}/callbacks", n),
                     fmt::format("peer '{}' could not prove who it is when it is called", p.name),
                     "a peer with a certificate, or no callbacks", "a pre-shared key");
    }
    for (size_t i = 0; i < p.callbacks.size(); ++i) claims.push_back({p.callbacks[i], n, i});
  }
  std::ranges::sort(claims, {}, [](const Claim& c) { return std::tuple(c.prefix, c.peer); });
  // What lies within a prefix comes right behind it.
  const Claim* outer = nullptr;
  for (const Claim& c : claims) {
    if (outer == nullptr || !c.prefix.starts_with(outer->prefix)) {
      outer = &c;
      continue;
    }
    if (c.peer == outer->peer) continue;
    return tl::unexpected(Error{ErrorKind::kConflict,
                                fmt::format("peers '{}' and '{}' are called at the same address",
                                            d.peers[outer->peer].name, d.peers[c.peer].name),
                                fmt::format("/peers/{}/callbacks/{}", c.peer, c.index),
                                "prefixes that share no address",
                                fmt::format("\"{}\" within \"{}\"", c.prefix, outer->prefix)});
  }
  return {};
}

}  // namespace portcullis::model
