// The form of a path, as standards write it:
//   /3gpp-nidd/v1/{scsAsId}/configurations     a literal or one whole segment
//   /ProvMnS/{v}/{ldn*}/NetworkSlice={id}      the end of a segment (TS 32.158 4.4.2); any number
//   of
//                                              whole segments, {name+} at least one
// Each path that a template matches, it matches in one way: at most one parameter takes several
// segments.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace portcullis::profiles {

class PathTemplate {
 public:
  static constexpr size_t kMostParameters = 8;
  /// Of the parameters, in their order; views into the path.
  using Values = std::array<std::string_view, kMostParameters>;

  static Result<PathTemplate> Parse(const std::string& text);

  /// `segments` are those of one path, in its own storage.
  bool Match(std::span<const std::string_view> segments, Values& values) const;
  /// Some path matches both.
  [[nodiscard]] bool Overlaps(const PathTemplate& other) const;

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::vector<std::string>& parameters() const { return parameters_; }
  [[nodiscard]] std::optional<size_t> IndexOf(std::string_view parameter) const;
  /// The fewer, the more concrete it is.
  [[nodiscard]] size_t Weight() const {
    const bool many = many_ != segments_.size();
    return parameters_.size() + (many ? kMostParameters : 0);
  }
  [[nodiscard]] bool EndsWithParameter() const {
    return segments_.back().kind != Segment::Kind::literal;
  }

 private:
  struct Segment {
    enum class Kind : uint8_t { literal, one, many };
    Kind kind = Kind::literal;
    std::string text;  // literal; one: what stands before the parameter
    size_t least = 1;  // many
  };

  Result<Segment> ParseSegment(std::string_view text);
  std::optional<Error> Add(std::string_view text);
  static bool Common(std::span<const Segment> a, std::span<const Segment> b);
  static bool Common(const Segment& a, const Segment& b);
  static bool Take(const Segment& segment, std::string_view text, std::string_view*& value);

  std::string text_;
  std::vector<Segment> segments_;
  std::vector<std::string> parameters_;
  size_t many_ = 0;   // where the one stands that takes several; behind all: none
  size_t least_ = 0;  // segments of a path
};

}  // namespace portcullis::profiles
