// Short ways to text out of JSON that may lack the member.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace portcullis::cli {

/// The member, or an empty object: so that members of members can be asked for.
inline const nlohmann::json& At(const nlohmann::json& object, const char* name) {
  static const nlohmann::json kNothing = nlohmann::json::object();
  const auto it = object.is_object() ? object.find(name) : object.end();
  return it == object.end() ? kNothing : *it;
}

inline std::string Plain(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null() || (value.is_structured() && value.empty())) return {};
  return value.dump();
}

/// "" where there is none.
inline std::string Text(const nlohmann::json& object, const char* name) {
  return Plain(At(object, name));
}

inline uint64_t Number(const nlohmann::json& object, const char* name) {
  const nlohmann::json& value = At(object, name);
  return value.is_number() ? value.get<uint64_t>() : 0;
}

inline bool Flag(const nlohmann::json& object, const char* name) {
  const nlohmann::json& value = At(object, name);
  return value.is_boolean() && value.get<bool>();
}

/// The elements' texts, or those of `convert`, with `separator` between.
template <class Convert>
std::string Joined(const nlohmann::json& list, const char* separator, const Convert& convert) {
  std::string text;
  for (const nlohmann::json& item : list) {
    const std::string one = convert(item);
    if (one.empty()) continue;
    if (!text.empty()) text += separator;
    text += one;
  }
  return text;
}
inline std::string Joined(const nlohmann::json& list, const char* separator = ", ") {
  return Joined(list, separator, Plain);
}

/// "1 peer", "2 peers".
inline std::string Count(uint64_t n, const char* one, const char* many = nullptr) {
  return n == 1 ? fmt::format("1 {}", one)
                : (many != nullptr ? fmt::format("{} {}", n, many) : fmt::format("{} {}s", n, one));
}

}  // namespace portcullis::cli
