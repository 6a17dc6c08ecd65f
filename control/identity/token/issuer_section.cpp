#include "control/identity/token/issuer_section.hpp"

#include <algorithm>

namespace portcullis::identity {

namespace {

std::string Required(const Section& s, const char* key, const char* expected) {
  if (!s.Has(key)) s.Refuse(key, "missing", expected, "nothing");
  std::string text;
  s.Read(key, text);
  return text;
}

}  // namespace

std::vector<IssuerConfig> ReadIssuers(
    const Section& section, const std::filesystem::path& folder,
    const std::map<std::string, std::string, std::less<>>& audiences) {
  const auto items = section.Items("issuers", {"issuer", "keys", "keys_ca", "algorithms"});
  if (items.empty()) section.Refuse("issuers", "missing", "who issues the tokens", "nothing");
  std::vector<IssuerConfig> all;
  for (const Section& one : items) {
    IssuerConfig issuer;
    issuer.claims.issuer = Required(one, "issuer", "what iss will be");
    issuer.claims.audiences = audiences;
    const std::string keys = Required(one, "keys", "an https URL or a file");
    issuer.keys = keys.find("://") == std::string::npos ? (folder / keys).string() : keys;
    if (one.Has("keys_ca")) issuer.keys_ca = folder / Required(one, "keys_ca", "a PEM file");
    issuer.algorithms = {Algorithm::es256};
    one.ReadList("algorithms", issuer.algorithms, [](const std::string& text) -> Result<Algorithm> {
      if (const auto found = AlgorithmOf(text)) return *found;
      return Invalid("", "not an algorithm", "one of RS256, PS256, ES256, ES384");
    });
    if (const auto good = Check(issuer, fmt::format("issuers[{}]", all.size())); !good) {
      one.Refuse("issuer", good.error().where + ": " + good.error().message, good.error().expected);
    }
    const auto same = [&](const auto& other) {
      return other.claims.issuer == issuer.claims.issuer;
    };
    if (std::ranges::any_of(all, same)) {
      one.Refuse("issuer", "the same issuer twice", "each once");
    }
    all.push_back(std::move(issuer));
  }
  return all;
}

}  // namespace portcullis::identity
