// Issuers as configuration files say them, in one form for the guard's and control's.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "control/identity/token/introspection.hpp"
#include "control/identity/token/issuer.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::identity {

using Audiences = std::map<std::string, std::string, std::less<>>;  // by interface

/// The list "issuers" of `section`, which must not be empty; relative paths are relative to
/// `folder`. Those with a key set; with `opaque`, where opaque tokens have a meaning, an issuer may
/// have `introspection` beside or instead, which goes there. Throws WrongField.
std::vector<IssuerConfig> ReadIssuers(const Section& section, const std::filesystem::path& folder,
                                      const Audiences& audiences,
                                      std::vector<IntrospectionConfig>* opaque = nullptr);

/// What stands under `introspection` in `issuer`, for all interfaces in `claims` or those that it
/// names; none that `others` have. Throws WrongField.
IntrospectionConfig ReadIntrospection(const Section& issuer, const std::filesystem::path& folder,
                                      const ClaimRules& claims,
                                      const std::vector<IntrospectionConfig>& others);

}  // namespace portcullis::identity
