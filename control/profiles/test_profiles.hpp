// The profiles that are shipped, for tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "control/profiles/load.hpp"

namespace portcullis::profiles::test {

inline const std::map<std::string, Profile, std::less<>>& Shipped() {
  static const auto kProfiles = [] {
    auto all = LoadProfiles(SHIPPED_INTERFACES);
    if (!all) throw std::runtime_error(all.error().Text());
    return std::move(*all);
  }();
  return kProfiles;
}

inline const Profile& Shipped(std::string_view name) {
  const auto found = Shipped().find(name);
  if (found == Shipped().end()) throw std::runtime_error("no profile " + std::string(name));
  return found->second;
}

/// Its name; empty: there was no fault.
template <class Found>
std::string FaultOf(const Found& found) {
  return found ? "" : std::string(Info(found.error()).name);
}

}  // namespace portcullis::profiles::test
