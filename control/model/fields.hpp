// Reads the fields of a JSON object and says exactly what is wrong with the first one that is:
// JSON pointer, what was expected, what was found. After the first error the getters return
// fallbacks, so that a reader of twenty fields needs one check, at its end.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.hpp"
#include "base/result.hpp"
#include "control/model/types.hpp"

namespace portcullis::model {

/// A value as an error message may show it: short, and never anything that could be a key.
std::string Describe(const nlohmann::json& value);

/// The number, when it is an integer and not negative.
std::optional<uint64_t> AsUnsigned(const nlohmann::json& value);

/// [a-z0-9][a-z0-9._-]{0,62}
bool IsName(std::string_view text);

/// Parses a body. Not JSON: kInvalid whose `where` is "line L, column C". A member that appears
/// twice in one object is refused too, since readers differ in which of the two they believe.
Result<nlohmann::json> ParseJson(std::string_view text);

class Fields {
 public:
  enum class Presence { required, optional };

  /// `where` is the pointer of `value`; the first error of all readers that share it is in `error`.
  Fields(const nlohmann::json& value, std::string where, std::optional<Error>& error);

  std::string Name(const char* field, Presence presence = Presence::required);
  std::string Text(const char* field, size_t longest, Presence presence = Presence::required);
  bool Flag(const char* field, bool fallback);
  /// Required when there is no fallback.
  uint64_t Number(const char* field, uint64_t least, uint64_t most,
                  std::optional<uint64_t> fallback = {});
  std::optional<Address> Ip(const char* field, Presence presence);
  std::optional<Prefix> Net(const char* field);
  std::vector<Prefix> Nets(const char* field, Presence presence);
  /// Calls `read(element, its pointer)`. Required means at least one.
  void Each(const char* field, Presence presence,
            const std::function<void(const nlohmann::json&, const std::string&)>& read);
  /// Null when absent or not an object.
  const nlohmann::json* Object(const char* field, Presence presence);

  template <class E, size_t N>
  E Choice(const char* field, const Choices<E, N>& choices, std::optional<E> fallback = {}) {
    const nlohmann::json* value = Find(field, fallback ? Presence::optional : Presence::required);
    if (value == nullptr) return fallback.value_or(choices[0].second);
    std::string all;
    for (const auto& [text, v] : choices) {
      if (value->is_string() && value->get_ref<const std::string&>() == text) return v;
      all += (all.empty() ? "" : ", ") + std::string(text);
    }
    Refuse(field, "not one of the admitted values", "one of " + all, Describe(*value));
    return choices[0].second;
  }

  /// The raw value, for fields that need a rule of their own; null when absent.
  const nlohmann::json* Find(const char* field, Presence presence);
  [[nodiscard]] std::string Pointer(const char* field) const { return where_ + "/" + field; }
  void Refuse(const char* field, std::string message, std::string expected, std::string found);
  /// Call last: whatever was not asked for is unknown, and refused.
  void RefuseOthers();

 private:
  const nlohmann::json* object_ = nullptr;
  std::string where_;
  std::optional<Error>& error_;
  std::vector<const char*> known_;  // what was asked for; the names stay with the caller
};

}  // namespace portcullis::model
