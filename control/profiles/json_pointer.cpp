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

JsonPointer JsonPointer::Folded() const {
  // Two letters outside ASCII fold into it (Unicode CaseFolding.txt): long s and the Kelvin sign.
  constexpr std::string_view kLongS = "\xC5\xBF";
  constexpr std::string_view kKelvin = "\xE2\x84\xAA";
  JsonPointer folded;
  for (const std::string& token : tokens) {
    std::string& name = folded.tokens.emplace_back();
    const std::string_view text = std::string_view(token).substr(0, token.find('\0'));
    for (size_t at = 0; at < text.size(); ++at) {
      const auto rest = text.substr(at);
      if (rest.starts_with(kLongS)) {
        name += 's';
        at += kLongS.size() - 1;
      } else if (rest.starts_with(kKelvin)) {
        name += 'k';
        at += kKelvin.size() - 1;
      } else {
        name += static_cast<char>(text[at] >= 'A' && text[at] <= 'Z' ? text[at] + ('a' - 'A')
                                                                     : text[at]);
      }
    }
  }
  return folded;
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
