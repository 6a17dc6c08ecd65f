// See table.hpp.
#include "control/cli/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace portcullis::cli {

size_t Width(std::string_view utf8) {
  constexpr unsigned kContinuationMask = 0xc0;
  constexpr unsigned kContinuation = 0x80;
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & kContinuationMask) != kContinuation;
  }));
}

std::string Table::Text() const {
  std::vector<size_t> widths(columns_.size(), 0);  // 0: nothing in it
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (widths[i] > 0) widths[i] = std::max(widths[i], Width(columns_[i].title));
  }
  std::string text;
  const auto line = [&](const auto& cell_of) {
    std::string out;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (widths[i] == 0) continue;
      const std::string& cell = cell_of(i);
      const std::string padding(widths[i] - Width(cell), ' ');
      if (!out.empty()) out += "  ";
      out += columns_[i].align == Align::kRight ? padding + cell : cell + padding;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + '\n';
  };
  line([&](size_t i) -> const std::string& { return columns_[i].title; });
  for (const auto& row : rows_) {
    line([&](size_t i) -> const std::string& { return row[i]; });
  }
  return text;
}

std::string Duration(uint64_t seconds) {
  constexpr std::array<std::pair<uint64_t, const char*>, 4> kUnits = {
      {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}}};
  for (size_t i = 0; i + 1 < kUnits.size(); ++i) {
    const auto [length, name] = kUnits[i];
    if (seconds < length) continue;
    const auto [next_length, next_name] = kUnits[i + 1];
    return fmt::format("{} {} {} {}", seconds / length, name, seconds % length / next_length,
                       next_name);
  }
  return fmt::format("{} s", seconds);
}

std::string Grouped(uint64_t number) {
  constexpr size_t kGroup = 3;
  std::string text = std::to_string(number);
  for (size_t i = text.size(); i > kGroup; i -= kGroup) text.insert(i - kGroup, 1, ' ');
  return text;
}

std::string Bits(uint64_t bits_per_second) {
  constexpr std::array<std::pair<uint64_t, const char*>, 3> kUnits = {
      {{1000000000, "Gbit/s"}, {1000000, "Mbit/s"}, {1000, "kbit/s"}}};
  for (const auto& [size, name] : kUnits) {
    if (bits_per_second >= size && bits_per_second % (size / 10) == 0) {
      return fmt::format("{:g} {}",
                         static_cast<double>(bits_per_second) / static_cast<double>(size), name);
    }
  }
  return fmt::format("{} bit/s", bits_per_second);
}

}  // namespace portcullis::cli
