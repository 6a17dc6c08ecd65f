// A request-target in its one canonical spelling, taken apart. Nothing is normalised: whatever
// could be spelt otherwise is refused, so that the path that is authorised is byte for byte the
// path that is forwarded, and no server behind the gate can read another one out of it.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "control/profiles/fault.hpp"

namespace portcullis::profiles {

/// Views into what was read.
class Target {
 public:
  static constexpr size_t kLongest = 8192;  // RFC 9110 4.1 recommends 8000 at least
  static constexpr size_t kLongestPath = 2048;
  static constexpr size_t kMostSegments = 64;
  static constexpr size_t kMostQueries = 32;

  /// Nothing when `text` is origin-form (RFC 9112 3.2.1) and canonical.
  [[nodiscard]] std::optional<Fault> Read(std::string_view text);

  [[nodiscard]] std::string_view path() const { return path_; }
  [[nodiscard]] std::span<const std::string_view> segments() const {
    return {segments_.data(), segment_count_};
  }
  /// The names of the query's parameters, each once.
  [[nodiscard]] std::span<const std::string_view> queries() const {
    return {queries_.data(), query_count_};
  }

 private:
  std::optional<Fault> ReadPath();
  std::optional<Fault> ReadQuery(std::string_view query);

  std::string_view path_;
  std::array<std::string_view, kMostSegments> segments_;
  size_t segment_count_ = 0;
  std::array<std::string_view, kMostQueries> queries_;
  size_t query_count_ = 0;
};

/// Of text that Target has read.
std::string Decoded(std::string_view encoded);

}  // namespace portcullis::profiles
