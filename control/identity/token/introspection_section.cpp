#include <algorithm>

#include "control/identity/private_key.hpp"
#include "control/identity/token/issuer_section.hpp"
#include "control/identity/token/url.hpp"
#include "control/identity/trust_config.hpp"

namespace portcullis::identity {

using std::chrono::seconds;

namespace {

// As whom the gate asks: RFC 7662 2.1 demands that it says.
void ReadAsker(const Section& s, const std::filesystem::path& folder, IntrospectionConfig& config) {
  const bool by_certificate = s.Has("certificate") || s.Has("key");
  const bool by_secret = s.Has("client_id") || s.Has("client_secret");
  if (by_certificate == by_secret) {
    s.Refuse("url", "how does the gate prove to the issuer who it is?",
             "either certificate and key, or client_id and client_secret",
             by_secret ? "both" : "neither");
  }
  if (by_certificate) {
    config.tls.certificate = folder / RequiredText(s, "certificate", "a PEM file");
    config.tls.key = RequiredText(s, "key", "a PEM file or a PKCS#11 URI");
    if (!IsPkcs11Uri(config.tls.key)) config.tls.key = folder / config.tls.key;
  } else {
    config.client_id = RequiredText(s, "client_id", "the gate's name at the issuer");
    config.client_secret = folder / RequiredText(s, "client_secret", "a file with the secret");
  }
}

void ReadInterfaces(const Section& s, Audiences& audiences) {
  if (!s.Has("interfaces")) return;
  std::vector<std::string> names;
  s.ReadList("interfaces", names, [&](const std::string& text) -> Result<std::string> {
    if (audiences.contains(text)) return text;
    return Invalid("", "no such interface", "one of those above");
  });
  if (names.empty()) s.Refuse("interfaces", "none", "at least one, or no such list", "none");
  std::erase_if(audiences, [&](const auto& entry) {
    return std::ranges::find(names, entry.first) == names.end();
  });
}

}  // namespace

IntrospectionConfig ReadIntrospection(const Section& issuer, const std::filesystem::path& folder,
                                      const ClaimRules& claims,
                                      const std::vector<IntrospectionConfig>& others) {
  const Section s = issuer.Sub("introspection", {"url", "ca", "certificate", "key", "client_id",
                                                 "client_secret", "cache_seconds", "interfaces"});
  IntrospectionConfig config;
  config.claims = claims;
  config.url = RequiredText(s, "url", "an https URL");
  const auto parts = ParseWebAddress(config.url, "");
  if (!parts) s.Refuse("url", parts.error().message, parts.error().expected);
  if (parts->tls) config.tls.ca = folder / RequiredText(s, "ca", "whom the URL is believed by");
  ReadAsker(s, folder, config);
  auto cache = std::chrono::duration_cast<seconds>(config.cache_for).count();
  constexpr uint64_t kMostCached = 300;  // for so long a revocation at the issuer goes unnoticed
  s.Read("cache_seconds", cache, 0, kMostCached);
  config.cache_for = seconds(cache);
  ReadInterfaces(s, config.claims.audiences);
  for (const auto& other : others) {
    for (const auto& [name, audience] : other.claims.audiences) {
      if (!config.claims.audiences.contains(name)) continue;
      s.Refuse("interfaces", "another issuer is asked about opaque tokens for " + name,
               "one issuer for each interface", claims.issuer);
    }
  }
  return config;
}

}  // namespace portcullis::identity
