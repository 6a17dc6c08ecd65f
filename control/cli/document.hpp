// Files that people write, YAML or JSON, as the JSON that the REST interface takes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "control/cli/outcome.hpp"

namespace portcullis::cli {

/// Reads `path`; "-" is standard input. A wrong file is kUsage, with file, line and column. A key
/// that stands twice in one mapping is refused: one of the two was not meant, and both formats
/// would silently drop one.
Outcome<nlohmann::json> ReadDocument(const std::string& path);

/// The same from text; `name` is for messages.
Outcome<nlohmann::json> ParseDocument(const std::string& text, const std::string& name);

/// As YAML that ParseDocument() reads back to the same value.
std::string ToYaml(const nlohmann::json& value);

}  // namespace portcullis::cli
