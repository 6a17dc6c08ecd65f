// One YAML mapping with the keys that it may have: it remembers where it stands in the file,
// refuses keys that it does not know, and reads each field with its checks. The first wrong field
// throws WrongField, as yaml-cpp itself does for broken YAML; whoever reads the file turns both
// into values.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace portcullis {

struct WrongField {
  Error error;
};

class Section {
 public:
  /// `path` is the field's name from the top of the file: "ports[0].device"; empty for the top.
  Section(const YAML::Node& node, std::string file, std::string path,
          std::initializer_list<std::string_view> known);

  [[nodiscard]] bool Has(const char* key) const { return static_cast<bool>(node_[key]); }
  /// For values that may also be written as one word.
  [[nodiscard]] bool IsMapping(const char* key) const { return node_[key].IsMap(); }
  [[nodiscard]] Section Sub(const char* key, std::initializer_list<std::string_view> known) const;
  /// The items of a list of mappings; absent is empty.
  [[nodiscard]] std::vector<Section> Items(const char* key,
                                           std::initializer_list<std::string_view> known) const;

  // Each leaves `out` as it is when the key is absent.
  template <class Integer>
  void Read(const char* key, Integer& out, uint64_t least, uint64_t most) const {
    if (Has(key)) out = static_cast<Integer>(Number(node_[key], Field(key), least, most));
  }
  void Read(const char* key, bool& out) const;
  void Read(const char* key, std::string& out) const;
  template <class Enum>
  void Read(const char* key, Enum& out,
            std::initializer_list<std::pair<const char*, Enum>> values) const {
    if (!Has(key)) return;
    const std::string text = Scalar(node_[key], Field(key));
    std::string names;
    for (const auto& [name, value] : values) {
      if (text == name) {
        out = value;
        return;
      }
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    Refuse(key, "not a known value", "one of " + names);
  }
  void ReadNumbers(const char* key, std::vector<unsigned>& out, uint64_t most) const;
  /// `parse` is Result<T>(const std::string&).
  template <class T, class Parse>
  void ReadParsed(const char* key, T& out, Parse parse) const {
    if (Has(key)) out = Parsed(node_[key], Field(key), parse);
  }
  template <class T, class Parse>
  void ReadList(const char* key, std::vector<T>& out, Parse parse) const {
    if (!Has(key)) return;
    out.clear();
    EachItem(key, [&](const YAML::Node& item, const std::string& field) {
      out.push_back(Parsed(item, field, parse));
    });
  }
  /// A required name: 1 to 16 of a-z, 0-9 and -.
  void ReadName(const char* key, std::string& out) const;

  /// Throws WrongField for this key, or for the section when the key is absent.
  [[noreturn]] void Refuse(const char* key, std::string message, std::string expected) const;
  [[noreturn]] void Refuse(const char* key, std::string message, std::string expected,
                           std::string found) const;

 private:
  using TakeItem = std::function<void(const YAML::Node&, const std::string& field)>;

  [[nodiscard]] std::string Field(const std::string& key) const;
  [[nodiscard]] std::string Scalar(const YAML::Node& node, const std::string& field) const;
  [[nodiscard]] uint64_t Number(const YAML::Node& node, const std::string& field, uint64_t least,
                                uint64_t most) const;
  void EachItem(const char* key, const TakeItem& take) const;
  template <class Parse>
  auto Parsed(const YAML::Node& node, const std::string& field, Parse parse) const {
    auto value = parse(Scalar(node, field));
    if (!value) RefuseNode(node, field, value.error().message, value.error().expected);
    return *std::move(value);
  }
  [[noreturn]] void RefuseNode(const YAML::Node& node, const std::string& field,
                               std::string message, std::string expected) const;
  [[noreturn]] void Throw(const YAML::Mark& mark, const std::string& field, std::string message,
                          std::string expected, std::string found) const;

  YAML::Node node_;
  std::string file_;
  std::string path_;
};

}  // namespace portcullis
