#include <algorithm>

#include "control/identity/token/issuer_section.hpp"
#include "control/identity/token/oauth_endpoint_section.hpp"

namespace portcullis::identity {

using std::chrono::seconds;

namespace {

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
  config.endpoint = ReadOauthEndpoint(s, folder, false);
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
