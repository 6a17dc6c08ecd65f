// What a YAML file says about whose certificates are believed: `anchors`, `intermediates`, `crls`,
// `profile`, alike for the guard and for its peers. The first wrong field throws (see Section).
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "control/identity/authorities.hpp"
#include "control/identity/certificate_profile.hpp"
#include "control/identity/crl_source.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::identity {

struct TrustConfig {
  AuthorityFiles authorities;
  std::vector<CrlLocation> crls;
  std::chrono::seconds crl_grace{0};
};

/// Relative paths are relative to `folder`. `needed`: certificates are to be checked at all, so
/// that there must be an anchor, and lists where one asks for them; `whose` they are, for messages.
TrustConfig ReadTrust(const Section& root, const std::filesystem::path& folder, bool needed,
                      const std::string& whose);
/// Leaves what is not said as it is.
void ReadCertificateProfile(const Section& root, CertificateProfile& profile);

/// A text that must be there.
std::string RequiredText(const Section& s, const char* key, const char* expected);

}  // namespace portcullis::identity
