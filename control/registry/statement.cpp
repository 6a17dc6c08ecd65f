#include "control/registry/statement.hpp"

#include <nlohmann/json.hpp>

namespace portcullis {

std::vector<std::string> ListOf(const std::string& text) {
  std::vector<std::string> list;
  for (const auto& one : nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false)) {
    if (one.is_string()) list.push_back(one.get<std::string>());
  }
  return list;
}

}  // namespace portcullis
