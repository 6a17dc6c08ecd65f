#include "control/identity/trust_config.hpp"

#include <algorithm>

namespace portcullis::identity {

using std::chrono::seconds;

std::string RequiredText(const Section& s, const char* key, const char* expected) {
  if (!s.Has(key)) s.Refuse(key, "missing", expected, "nothing");
  std::string text;
  s.Read(key, text);
  return text;
}

TrustConfig ReadTrust(const Section& root, const std::filesystem::path& folder, bool needed,
                      const std::string& whose) {
  TrustConfig trust;
  const auto from_here = [&](const std::string& file) -> std::string { return folder / file; };
  for (const Section& one : root.Items("anchors", {"path", "sha256", "crl_required"})) {
    AnchorFile anchor;
    anchor.path = from_here(RequiredText(one, "path", "a PEM file"));
    one.Read("sha256", anchor.sha256);
    one.Read("crl_required", anchor.revocation_list_required);
    trust.authorities.anchors.push_back(std::move(anchor));
  }
  root.ReadList("intermediates", trust.authorities.intermediates,
                [&](const std::string& file) -> Result<std::string> { return from_here(file); });
  if (root.Has("crls")) {
    const Section s = root.Sub("crls", {"locations", "grace_seconds"});
    s.ReadList("locations", trust.crls, [&](const std::string& text) {
      const bool url = text.find("://") != std::string::npos;
      return CrlLocation::Parse(url ? text : from_here(text));
    });
    auto grace = trust.crl_grace.count();
    constexpr uint64_t kMostGrace = 30UL * 86400;
    s.Read("grace_seconds", grace, 0, kMostGrace);
    trust.crl_grace = seconds(grace);
  }
  if (!needed) return trust;
  const auto& anchors = trust.authorities.anchors;
  if (anchors.empty()) {
    root.Refuse("anchors", "missing", "the CA of " + whose, "nothing");
  }
  const bool required = std::ranges::any_of(
      anchors, [](const auto& anchor) { return anchor.revocation_list_required; });
  if (required && trust.crls.empty()) {
    root.Refuse("crls", "missing, though an anchor has crl_required: nobody could come in",
                "locations of revocation lists", "nothing");
  }
  return trust;
}

void ReadCertificateProfile(const Section& root, CertificateProfile& profile) {
  if (!root.Has("profile")) return;
  const Section s =
      root.Sub("profile", {"names", "roots", "most_intermediates", "any_extended_key_usage",
                           "ed25519", "distribution_point_required"});
  s.ReadList("names", profile.name_kinds, [](const std::string& text) -> Result<NameKind> {
    if (text == "dns") return NameKind::dns;
    if (text == "uri") return NameKind::uri;
    if (text == "ip") return NameKind::ip;
    return Invalid("", "not a kind of alternative name", "one of dns, uri, ip");
  });
  s.ReadList("roots", profile.name_roots,
             [](const std::string& text) -> Result<std::string> { return text; });
  s.Read("most_intermediates", profile.most_intermediates, 0, 10);
  s.Read("any_extended_key_usage", profile.any_extended_key_usage);
  s.Read("ed25519", profile.ed25519);
  s.Read("distribution_point_required", profile.distribution_point_required);
}

}  // namespace portcullis::identity
