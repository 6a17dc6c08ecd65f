#include "control/profiles/json_pointer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace portcullis::profiles {

std::optional<JsonPointer> JsonPointer::Parse(std::string_view text) {
  JsonPointer pointer;
  if (text.empty()) return pointer;
  if (text.front() != '/') return {};
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '/') {
      pointer.tokens.emplace_back();
    } else if (text[at] != '~') {
      pointer.tokens.back() += text[at];
    } else {
      if (++at == text.size() || (text[at] != '0' && text[at] != '1')) return {};
      pointer.tokens.back() += text[at] == '0' ? '~' : '/';
    }
  }
  return pointer;
}

bool JsonPointer::Holds(const JsonPointer& other) const {
  return tokens.size() <= other.tokens.size() &&
         std::equal(tokens.begin(), tokens.end(), other.tokens.begin());
}

const nlohmann::json* JsonPointer::In(const nlohmann::json& value, size_t skip) const {
  const nlohmann::json* at = &value;
  for (size_t i = skip; i < tokens.size(); ++i) {
    if (!at->is_object()) return nullptr;
    const auto member = at->find(tokens[i]);
    if (member == at->end()) return nullptr;
    at = &*member;
  }
  return at;
}

std::string JsonPointer::Text() const {
  std::string text;
  for (const std::string& token : tokens) {
    text += '/';
    for (const char c : token) text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  }
  return text;
}

}  // namespace portcullis::profiles
