// RFC 6901, token by token. nlohmann's own does not tell "starts with" from "equals", and throws.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace portcullis::profiles {

struct JsonPointer {
  std::vector<std::string> tokens;

  /// Empty text is the whole document.
  static std::optional<JsonPointer> Parse(std::string_view text);
  /// Itself included.
  [[nodiscard]] bool Holds(const JsonPointer& other) const;
  /// The value `skip` tokens of which are behind us already; null: it is not there.
  [[nodiscard]] const nlohmann::json* In(const nlohmann::json& value, size_t skip = 0) const;
  /// As the laxest of readers would take its names: Go's know no upper and lower case, C's end at a
  /// NUL.
  [[nodiscard]] JsonPointer Folded() const;
  [[nodiscard]] std::string Text() const;
  bool operator==(const JsonPointer&) const = default;
};

}  // namespace portcullis::profiles
