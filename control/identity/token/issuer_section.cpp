#include "control/identity/token/issuer_section.hpp"

#include <set>

#include "control/identity/trust_config.hpp"

namespace portcullis::identity {

namespace {

IssuerConfig ReadKeySet(const Section& one, const std::filesystem::path& folder, ClaimRules claims,
                        const std::string& where) {
  IssuerConfig issuer;
  issuer.claims = std::move(claims);
  issuer.keys = RequiredText(one, "keys", "an https URL or a file");
  if (issuer.keys.find("://") == std::string::npos) {
    issuer.keys = folder / issuer.keys;
    // A file is no burden to anybody, and what a reload brings is soon in force.
    issuer.refresh_gap = std::chrono::seconds(1);
  }
  if (one.Has("keys_ca")) issuer.keys_ca = folder / RequiredText(one, "keys_ca", "a PEM file");
  issuer.algorithms = {Algorithm::es256};
  one.ReadList("algorithms", issuer.algorithms, [](const std::string& text) -> Result<Algorithm> {
    if (const auto found = AlgorithmOf(text)) return *found;
    return Invalid("", "not an algorithm", "one of RS256, PS256, ES256, ES384");
  });
  if (const auto good = Check(issuer, where); !good) {
    one.Refuse("issuer", good.error().where + ": " + good.error().message, good.error().expected);
  }
  return issuer;
}

std::vector<Section> Items(const Section& section, bool opaque) {
  if (!opaque) return section.Items("issuers", {"issuer", "keys", "keys_ca", "algorithms"});
  return section.Items("issuers", {"issuer", "keys", "keys_ca", "algorithms", "introspection"});
}

}  // namespace

std::vector<IssuerConfig> ReadIssuers(const Section& section, const std::filesystem::path& folder,
                                      const Audiences& audiences,
                                      std::vector<IntrospectionConfig>* opaque) {
  const auto items = Items(section, opaque != nullptr);
  if (items.empty()) section.Refuse("issuers", "missing", "who issues the tokens", "nothing");
  std::vector<IssuerConfig> all;
  std::set<std::string> names;
  for (size_t i = 0; i < items.size(); ++i) {
    const Section& one = items[i];
    ClaimRules claims;
    claims.issuer = RequiredText(one, "issuer", "what iss will be");
    claims.audiences = audiences;
    if (!names.insert(claims.issuer).second) {
      one.Refuse("issuer", "the same issuer twice", "each once");
    }
    const bool introspects = opaque != nullptr && one.Has("introspection");
    if (introspects) opaque->push_back(ReadIntrospection(one, folder, claims, *opaque));
    if (introspects && !one.Has("keys")) continue;
    all.push_back(ReadKeySet(one, folder, std::move(claims), fmt::format("issuers[{}]", i)));
  }
  return all;
}

}  // namespace portcullis::identity
