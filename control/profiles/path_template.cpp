#include "control/profiles/path_template.hpp"

#include <algorithm>

#include "control/profiles/target.hpp"

namespace portcullis::profiles {

Result<PathTemplate> PathTemplate::Parse(const std::string& text) {
  PathTemplate parsed;
  parsed.text_ = text;
  std::string_view rest = text;
  const char* const expected = "/ and segments: literal, {name}, Class={name}, {name*}, {name+}";
  if (!rest.starts_with('/') || rest == "/") return Invalid("", "not a path template", expected);
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::string_view segment = rest.substr(0, rest.find('/'));
    if (const auto error = parsed.Add(segment)) return tl::unexpected(*error);
    rest.remove_prefix(segment.size());
  }
  const auto is_many = [](const Segment& s) { return s.kind == Segment::Kind::many; };
  if (std::ranges::count_if(parsed.segments_, is_many) > 1) {
    return Invalid("",
                   "two parameters take any number of segments, so that a path fits in many ways",
                   "one {name*} or {name+}");
  }
  const auto many = std::ranges::find_if(parsed.segments_, is_many);
  parsed.many_ = static_cast<size_t>(many - parsed.segments_.begin());
  for (const Segment& segment : parsed.segments_) parsed.least_ += segment.least;
  return parsed;
}

std::optional<Error> PathTemplate::Add(std::string_view text) {
  auto segment = ParseSegment(text);
  if (!segment) return segment.error();
  segments_.push_back(std::move(*segment));
  return {};
}

Result<PathTemplate::Segment> PathTemplate::ParseSegment(std::string_view text) {
  const auto refuse = [&](const char* why, const char* expected) {
    return Invalid("", why, expected, "\"" + std::string(text) + "\"");
  };
  const auto is_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  Segment segment;
  const size_t open = text.find('{');
  segment.text = text.substr(0, open);
  // A literal that a canonical path cannot have would never match.
  Target target;
  const std::string alone = "/" + segment.text;
  if (!segment.text.empty() && (target.Read(alone) || target.path() != alone)) {
    return refuse("not a literal of a path in its canonical form", "characters of RFC 3986 pchar");
  }
  if (open == std::string_view::npos) {
    if (segment.text.empty()) return refuse("an empty segment", "segments between single slashes");
    return segment;
  }
  std::string_view name = text.substr(open + 1);
  if (!name.ends_with('}')) return refuse("a parameter ends its segment", "}");
  name.remove_suffix(1);
  segment.kind = Segment::Kind::one;
  if (name.ends_with('*') || name.ends_with('+')) {
    if (!segment.text.empty()) return refuse("whole segments have nothing before them", "{name*}");
    segment.kind = Segment::Kind::many;
    segment.least = name.ends_with('+') ? 1 : 0;
    name.remove_suffix(1);
  }
  if (name.empty() || !std::ranges::all_of(name, is_name)) {
    return refuse("not a parameter's name", "letters, digits and _");
  }
  if (!segment.text.empty() && !segment.text.ends_with('=')) {
    return refuse("only Class= may stand before a parameter", "Class={name}");
  }
  if (IndexOf(name)) return refuse("two parameters of one name", "a name for each");
  if (parameters_.size() == kMostParameters) return refuse("too many parameters", "at most 8");
  parameters_.emplace_back(name);
  return segment;
}

std::optional<size_t> PathTemplate::IndexOf(std::string_view parameter) const {
  const auto found = std::ranges::find(parameters_, parameter);
  if (found == parameters_.end()) return {};
  return static_cast<size_t>(found - parameters_.begin());
}

bool PathTemplate::Take(const Segment& segment, std::string_view text, std::string_view*& value) {
  if (segment.kind == Segment::Kind::literal) return text == segment.text;
  if (text.size() <= segment.text.size() || !text.starts_with(segment.text)) return false;
  *value++ = text.substr(segment.text.size());
  return true;
}

bool PathTemplate::Match(std::span<const std::string_view> path, Values& values) const {
  const bool exact = many_ == segments_.size();
  if (exact ? path.size() != least_ : path.size() < least_) return false;
  std::string_view* value = values.data();
  for (size_t i = 0; i < many_; ++i) {
    if (!Take(segments_[i], path[i], value)) return false;
  }
  if (exact) return true;
  const size_t behind = segments_.size() - many_ - 1;
  const auto taken = path.subspan(many_, path.size() - many_ - behind);
  // The segments of one path follow each other in memory, with a slash between them.
  *value++ = taken.empty() ? std::string_view()
                           : std::string_view(
                                 taken.front().data(),
                                 taken.back().data() + taken.back().size() - taken.front().data());
  for (size_t i = 0; i < behind; ++i) {
    if (!Take(segments_[many_ + 1 + i], path[path.size() - behind + i], value)) return false;
  }
  return true;
}

bool PathTemplate::Overlaps(const PathTemplate& other) const {
  // {name+} is one segment and any number behind it.
  const auto simple = [](const PathTemplate& t) {
    std::vector<Segment> all;
    for (const Segment& s : t.segments_) {
      if (s.kind == Segment::Kind::many && s.least > 0) all.push_back({Segment::Kind::one, {}, 1});
      all.push_back(s);
    }
    return all;
  };
  return Common(simple(*this), simple(other));
}

bool PathTemplate::Common(const Segment& a, const Segment& b) {
  const bool a_literal = a.kind == Segment::Kind::literal;
  const bool b_literal = b.kind == Segment::Kind::literal;
  if (a_literal && b_literal) return a.text == b.text;
  if (a_literal) return a.text.size() > b.text.size() && a.text.starts_with(b.text);
  if (b_literal) return Common(b, a);
  return a.text.starts_with(b.text) || b.text.starts_with(a.text);
}

bool PathTemplate::Common(std::span<const Segment> a, std::span<const Segment> b) {
  if (a.empty() && b.empty()) return true;
  if (!a.empty() && a.front().kind == Segment::Kind::many) {
    return Common(a.subspan(1), b) || (!b.empty() && Common(a, b.subspan(1)));
  }
  if (!b.empty() && b.front().kind == Segment::Kind::many) return Common(b, a);
  if (a.empty() || b.empty() || !Common(a.front(), b.front())) return false;
  return Common(a.subspan(1), b.subspan(1));
}

}  // namespace portcullis::profiles
