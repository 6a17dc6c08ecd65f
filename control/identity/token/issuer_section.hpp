// Issuers as configuration files say them, in one form for the guard's and control's.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "control/identity/token/issuer.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::identity {

/// The list "issuers" of `section`, which must not be empty; relative paths are relative to
/// `folder`. Throws WrongField.
std::vector<IssuerConfig> ReadIssuers(
    const Section& section, const std::filesystem::path& folder,
    const std::map<std::string, std::string, std::less<>>& audiences);

}  // namespace portcullis::identity
