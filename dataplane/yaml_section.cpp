#include "dataplane/yaml_section.hpp"

#include <algorithm>
#include <numeric>
#include <set>

namespace portcullis {
namespace {

std::string Found(const YAML::Node& node) {
  if (!node || node.IsNull()) return "nothing";
  if (node.IsScalar()) return "\"" + node.Scalar() + "\"";
  return node.IsSequence() ? "a list" : "a mapping";
}

/// Edit distance, for "did you mean": the keys are short.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

Section::Section(const YAML::Node& node, std::string file, std::string path,
                 std::initializer_list<std::string_view> known)
    : node_(node), file_(std::move(file)), path_(std::move(path)) {
  const std::string all = fmt::format("{}", fmt::join(known, ", "));
  if (!node_.IsMap()) {
    RefuseNode(node_, path_.empty() ? "the file" : path_, "not a section",
               "a mapping with some of " + all);
  }
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    const std::string key = entry.first.Scalar();
    if (!seen.insert(key).second) {
      Throw(entry.first.Mark(), Field(key), "given twice", "one", "two");
    }
    if (std::ranges::find(known, key) != known.end()) continue;
    if (known.size() == 0) {
      Throw(entry.first.Mark(), Field(key), "unknown key", "an empty mapping", "\"" + key + "\"");
    }
    const auto distance = [&](std::string_view k) { return Distance(k, key); };
    const std::string_view nearest = *std::ranges::min_element(known, {}, distance);
    const bool meant = distance(nearest) <= 2 + key.size() / 4;
    Throw(entry.first.Mark(), Field(key), "unknown key",
          meant ? fmt::format("\"{}\"?", nearest) : "one of " + all, "\"" + key + "\"");
  }
}

Section Section::Sub(const char* key, std::initializer_list<std::string_view> known) const {
  return {node_[key], file_, Field(key), known};
}

std::vector<Section> Section::Items(const char* key,
                                    std::initializer_list<std::string_view> known) const {
  std::vector<Section> items;
  EachItem(key, [&](const YAML::Node& item, const std::string& field) {
    items.emplace_back(item, file_, field, known);
  });
  return items;
}

void Section::Read(const char* key, bool& out) const {
  if (Has(key) && !YAML::convert<bool>::decode(node_[key], out)) {
    Refuse(key, "not a truth value", "true or false");
  }
}

void Section::Read(const char* key, std::string& out) const {
  if (Has(key)) out = Scalar(node_[key], Field(key));
}

void Section::ReadNumbers(const char* key, std::vector<unsigned>& out, uint64_t most) const {
  EachItem(key, [&](const YAML::Node& item, const std::string& field) {
    out.push_back(static_cast<unsigned>(Number(item, field, 0, most)));
  });
}

void Section::ReadName(const char* key, std::string& out) const {
  const char* const expected = "1 to 16 of a-z, 0-9 and -";
  if (!Has(key)) Refuse(key, "missing", expected, "nothing");
  out = Scalar(node_[key], Field(key));
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  };
  if (out.size() > 16 || !std::ranges::all_of(out, fits)) Refuse(key, "not a name", expected);
}

void Section::Refuse(const char* key, std::string message, std::string expected) const {
  Refuse(key, std::move(message), std::move(expected), Found(node_[key]));
}

void Section::Refuse(const char* key, std::string message, std::string expected,
                     std::string found) const {
  Throw(Has(key) ? node_[key].Mark() : node_.Mark(), Field(key), std::move(message),
        std::move(expected), std::move(found));
}

std::string Section::Field(const std::string& key) const {
  return path_.empty() ? key : path_ + "." + key;
}

std::string Section::Scalar(const YAML::Node& node, const std::string& field) const {
  if (!node.IsScalar() || node.Scalar().empty()) RefuseNode(node, field, "not a value", "a text");
  return node.Scalar();
}

uint64_t Section::Number(const YAML::Node& node, const std::string& field, uint64_t least,
                         uint64_t most) const {
  int64_t value = -1;
  if (!node.IsScalar() || !YAML::convert<int64_t>::decode(node, value) || value < 0 ||
      static_cast<uint64_t>(value) < least || static_cast<uint64_t>(value) > most) {
    RefuseNode(node, field, "not in range", fmt::format("a number from {} to {}", least, most));
  }
  return static_cast<uint64_t>(value);
}

void Section::EachItem(const char* key, const TakeItem& take) const {
  if (!Has(key)) return;
  const YAML::Node list = node_[key];
  if (!list.IsSequence()) Refuse(key, "not a list", "a list");
  for (size_t i = 0; i < list.size(); ++i) take(list[i], fmt::format("{}[{}]", Field(key), i));
}

void Section::RefuseNode(const YAML::Node& node, const std::string& field, std::string message,
                         std::string expected) const {
  Throw(node.Mark(), field, std::move(message), std::move(expected), Found(node));
}

void Section::Throw(const YAML::Mark& mark, const std::string& field, std::string message,
                    std::string expected, std::string found) const {
  throw WrongField{{ErrorKind::kInvalid, std::move(message),
                    fmt::format("{}:{}: {}", file_, mark.line + 1, field), std::move(expected),
                    std::move(found)}};
}

}  // namespace portcullis
