// YAML scalars are typed as JSON would type them: null, true, false and decimal integers. All else
// is text. So 0x00001001 is an SPI and not 4097, and a key that happens to look like 12e4 is a key.
#include "control/cli/document.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <set>
#include <vector>

#include "base/secret.hpp"

namespace portcullis::cli {
namespace {

using nlohmann::json;

std::optional<int64_t> DecimalInteger(const std::string& text) {
  const bool negative = text.starts_with('-');
  const std::string_view digits = std::string_view(text).substr(negative ? 1 : 0);
  if (digits.empty() || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

json Scalar(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text.empty() || text == "~" || text == "null") return nullptr;
  if (text == "true" || text == "false") return text == "true";
  if (const auto number = DecimalInteger(text)) return *number;
  return text;
}

json FromYaml(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return Scalar(node);
    case YAML::NodeType::Sequence: {
      json list = json::array();
      for (const YAML::Node& item : node) list.push_back(FromYaml(item));
      return list;
    }
    case YAML::NodeType::Map: {
      json object = json::object();
      for (const auto& entry : node) {
        const YAML::Node& key = entry.first;
        if (!object.emplace(key.Scalar(), FromYaml(entry.second)).second) {
          throw YAML::ParserException(key.Mark(), "the key '" + key.Scalar() + "' stands twice");
        }
      }
      return object;
    }
    default:
      return nullptr;
  }
}

// nlohmann::json keeps the last of two equal keys; this says so instead.
Outcome<json> FromJson(const std::string& text, const std::string& name) {
  std::vector<std::set<std::string>> open;  // keys seen in each object that is not closed yet
  std::string twice;
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key && !open.back().insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return true;
  };
  try {
    json value = json::parse(text, watch);
    if (!twice.empty()) {
      return Fails(ExitCode::kUsage, fmt::format("{}: the key '{}' stands twice", name, twice));
    }
    return value;
  } catch (const json::parse_error& error) {
    const std::string what =
        error.what();  // "[json.exception...] parse error at line .., column .."
    return Fails(ExitCode::kUsage, fmt::format("{}: {}", name, what.substr(what.find("] ") + 2)));
  }
}

}  // namespace

Outcome<json> ParseDocument(const std::string& text, const std::string& name) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) {
    return Fails(ExitCode::kUsage, fmt::format("{}: the file is empty", name));
  }
  if (text[first] == '{' || text[first] == '[') return FromJson(text, name);
  try {
    return FromYaml(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    return Fails(ExitCode::kUsage, fmt::format("{}:{}:{}: {}", name, error.mark.line + 1,
                                               error.mark.column + 1, error.msg));
  }
}

Outcome<json> ReadDocument(const std::string& path) {
  std::string text;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::ifstream file(path, std::ios::binary);
    if (file) text.assign(std::istreambuf_iterator<char>(file), {});
    if (!file) return Fails(ExitCode::kUsage, fmt::format("{}: cannot be read", path));
  }
  Outcome<json> value = ParseDocument(text, path == "-" ? "standard input" : path);
  Wipe(text);  // it may hold the keys of security associations
  return value;
}

namespace {

void Emit(YAML::Emitter& out, const json& value) {
  if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, item] : value.items()) {
      out << YAML::Key << key << YAML::Value;
      Emit(out, item);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    // Lists of plain values stay on one line: prefixes, mostly.
    const bool flat = std::none_of(value.begin(), value.end(),
                                   [](const json& item) { return item.is_structured(); });
    out << (flat ? YAML::Flow : YAML::Block) << YAML::BeginSeq;
    for (const json& item : value) Emit(out, item);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    // Quoted where it would be read as something else.
    const auto& text = value.get_ref<const std::string&>();
    const bool ambiguous = text.empty() || text == "~" || text == "null" || text == "true" ||
                           text == "false" || DecimalInteger(text).has_value();
    if (ambiguous) out << YAML::DoubleQuoted;
    out << text;
  } else if (value.is_null()) {
    out << YAML::Null;
  } else {
    out << value.dump();
  }
}

}  // namespace

std::string ToYaml(const json& value) {
  YAML::Emitter out;
  Emit(out, value);
  return std::string(out.c_str()) + '\n';
}

}  // namespace portcullis::cli
