// Tables for people: aligned, and only the columns that say something.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace portcullis::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  /// As many cells as columns.
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// A column without any content is left out. Each line ends in a newline, none in blanks.
  [[nodiscard]] std::string Text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

inline constexpr auto kRight = Table::Align::kRight;

/// How many columns a terminal needs for it: code points, which is right for all text of ours.
size_t Width(std::string_view utf8);

std::string Duration(uint64_t seconds);      // "3 h 2 min"
std::string Grouped(uint64_t number);        // "1 234 567"
std::string Bits(uint64_t bits_per_second);  // "10 Mbit/s"

}  // namespace portcullis::cli
