// Profiles from YAML (docs/interface-profiles.md). A file that says anything twice, or something
// that could mean two things, is refused with its place: a profile decides who may do what.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/result.hpp"
#include "control/profiles/profile.hpp"

namespace portcullis::profiles {

/// `file` is for messages.
Result<Profile> ParseProfile(const std::string& yaml, const std::string& file);
Result<Profile> LoadProfile(const std::filesystem::path& file);
/// All *.yaml of a folder, by name; each is named as its file.
Result<std::map<std::string, Profile, std::less<>>> LoadProfiles(
    const std::filesystem::path& folder);

}  // namespace portcullis::profiles
