// Reads a profile from its file. load.cpp has the file, its APIs and paths, load_rule.cpp a method
// of a path. The first wrong field throws (see Section); ParseProfile() turns that into a value.
#pragma once

#include <array>
#include <set>
#include <string>

#include "control/profiles/profile.hpp"
#include "dataplane/yaml_section.hpp"

namespace portcullis::profiles {

inline constexpr std::array kMethods = {"GET", "POST", "PUT", "PATCH", "DELETE"};

/// A text that must be there.
std::string Text(const Section& s, const char* key, const char* expected);
Result<std::string> QueryName(const std::string& text);

class Reader {
 public:
  Profile Read(const Section& root);

 private:
  const Operation* Known(const Section& s, const char* key, const std::string& name);
  const Operation* Named(const Section& s, const char* key) {
    return Known(s, key, Text(s, key, "an operation"));
  }
  Operations List(const Section& s, const char* key);
  void ReadOperations(const Section& root);
  void ReadApi(const Section& s);
  void ReadPath(const Section& s, const Api& api);
  void BindResource(const Section& s, Path& path) const;
  void RefuseAmbiguous(const Section& s, const Path& path) const;
  Rule ReadRule(const Section& s, const Path& path, const char* method);
  void ReadBody(const Section& s, const Path& path, Rule& rule);
  void ReadCreates(const Section& s, const Path& path, Rule& rule) const;
  void ReadEgress(const Section& s);

  Profile profile_;
  std::set<const Operation*> used_;
};

}  // namespace portcullis::profiles
