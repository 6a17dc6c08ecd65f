#include "control/identity/token/url.hpp"

#include <boost/asio/ip/address.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url.hpp>

#include "control/model/fields.hpp"

namespace portcullis::identity {

namespace urls = boost::urls;

std::string WebAddress::Authority() const {
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<WebAddress> ParseWebAddress(const std::string& url, const std::string& where) {
  const auto refuse = [&](const char* why) {
    return Invalid(where, why, "https://host[:port]/path", model::Describe(url));
  };
  const auto parsed = urls::parse_uri(url);
  if (parsed.has_error()) return refuse("not a URL");
  const bool tls = parsed->scheme_id() == urls::scheme::https;
  if (!tls && parsed->scheme_id() != urls::scheme::http) return refuse("not an https URL");
  if (parsed->has_userinfo() || parsed->has_fragment()) {
    return refuse("a user name or a fragment has no meaning here");
  }
  WebAddress address;
  address.tls = tls;
  address.host = parsed->host_address();
  if (address.host.empty()) return refuse("the URL has no host");
  address.port = parsed->has_port() && !parsed->port().empty() ? std::string(parsed->port())
                 : tls                                         ? "443"
                                                               : "80";
  address.target = parsed->encoded_target();
  if (address.target.empty() || address.target.front() != '/') address.target.insert(0, "/");
  boost::system::error_code not_an_address;
  const auto ip = boost::asio::ip::make_address(address.host, not_an_address);
  if (!tls && (not_an_address || !ip.is_loopback())) {
    return refuse("http is admitted with a loopback address only");
  }
  return address;
}

std::optional<std::string> NormalisedTarget(std::string_view text) {
  const auto parsed = urls::parse_uri(text);
  if (parsed.has_error() || parsed->has_userinfo() || parsed->encoded_host().empty()) return {};
  urls::url url(*parsed);
  url.normalize();
  const bool tls = url.scheme_id() == urls::scheme::https;
  if (!tls && url.scheme_id() != urls::scheme::http) return {};
  if (url.port().empty() || url.port() == (tls ? "443" : "80")) url.remove_port();
  if (url.encoded_path().empty()) url.set_path_absolute(true);
  url.remove_query();
  url.remove_fragment();
  return std::string(url.buffer());
}

}  // namespace portcullis::identity
