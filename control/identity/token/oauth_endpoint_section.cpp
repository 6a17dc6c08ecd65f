#include "control/identity/token/oauth_endpoint_section.hpp"

#include "control/identity/private_key.hpp"
#include "control/identity/token/url.hpp"
#include "control/identity/trust_config.hpp"

namespace portcullis::identity {

OauthEndpointConfig ReadOauthEndpoint(const Section& s, const std::filesystem::path& folder,
                                      bool named) {
  OauthEndpointConfig config;
  config.url = RequiredText(s, "url", "an https URL");
  const auto parts = ParseWebAddress(config.url, "");
  if (!parts) s.Refuse("url", parts.error().message, parts.error().expected);
  if (parts->tls) config.tls.ca = folder / RequiredText(s, "ca", "whom the URL is believed by");
  // RFC 7662 2.1 and RFC 8693 5 demand that the gate says who it is.
  const bool by_certificate = s.Has("certificate") || s.Has("key");
  const bool by_secret = s.Has("client_secret") || (!named && s.Has("client_id"));
  if (by_certificate == by_secret) {
    s.Refuse("url", "how does the gate prove to the issuer who it is?",
             "either certificate and key, or client_id and client_secret",
             by_secret ? "both" : "neither");
  }
  if (named || by_secret) {
    config.client_id = RequiredText(s, "client_id", "the gate's name at the issuer");
  }
  if (by_certificate) {
    config.tls.certificate = folder / RequiredText(s, "certificate", "a PEM file");
    config.tls.key = RequiredText(s, "key", "a PEM file or a PKCS#11 URI");
    if (!IsPkcs11Uri(config.tls.key)) config.tls.key = folder / config.tls.key;
  } else {
    config.client_secret = folder / RequiredText(s, "client_secret", "a file with the secret");
  }
  return config;
}

TokenExchangeConfig ReadTokenExchange(const Section& server, const std::filesystem::path& folder) {
  const Section s = server.Sub("exchange", {"url", "ca", "client_id", "client_secret",
                                            "certificate", "key", "audience", "resource", "scope"});
  TokenExchangeConfig config;
  config.endpoint = ReadOauthEndpoint(s, folder, true);
  s.Read("audience", config.audience);
  s.Read("resource", config.resource);
  s.Read("scope", config.scope);
  if (config.audience.empty() && config.resource.empty()) {
    s.Refuse("audience", "for whom are the tokens?", "audience, resource, or both", "neither");
  }
  // RFC 8707 2: an absolute URI without a fragment.
  const bool absolute = config.resource.empty() || config.resource.find(':') != std::string::npos;
  if (!absolute || config.resource.find('#') != std::string::npos) {
    s.Refuse("resource", "not an absolute URI", "such as https://nsmf.example, without a fragment");
  }
  return config;
}

}  // namespace portcullis::identity
