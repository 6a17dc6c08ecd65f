#include "control/profiles/target.hpp"

#include <algorithm>

namespace portcullis::profiles {
namespace {

// RFC 3986 2.2, 2.3, 3.3, 3.4.
enum Class : uint8_t { kIllegal = 0, kUnreserved = 1, kPchar = 2, kQuery = 4 };

constexpr auto kClasses = [] {
  std::array<uint8_t, 256> classes{};
  const auto add = [&](std::string_view characters, uint8_t more) {
    for (const char c : characters) classes[static_cast<uint8_t>(c)] |= more;
  };
  add("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~",
      kUnreserved | kPchar | kQuery);
  add("!$&'()*+,;=:@", kPchar | kQuery);
  add("/?", kQuery);
  return classes;
}();

constexpr bool Is(uint8_t c, Class which) {
  return (kClasses[c] & which) != 0;
}

constexpr int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// The octet that text[at], a percent sign, encodes.
constexpr std::optional<uint8_t> EncodedOctet(std::string_view text, size_t at) {
  if (text.size() - at < 3) return {};
  const int high = HexDigit(text[at + 1]);
  const int low = HexDigit(text[at + 2]);
  if (high < 0 || low < 0) return {};
  return static_cast<uint8_t>(high * 16 + low);
}

/// UTF-8 octet by octet (RFC 3629 4): the ranges of the second octet exclude overlong forms,
/// surrogates and what lies beyond U+10FFFF; here C1 controls as well.
class Utf8 {
 public:
  [[nodiscard]] bool open() const { return left_ > 0; }
  /// An octet from 0x80 on.
  bool Take(uint8_t octet) {
    if (left_ > 0) {
      const bool fits = octet >= least_ && octet <= most_;
      least_ = 0x80;
      most_ = 0xBF;
      --left_;
      return fits;
    }
    if (octet < 0xC2 || octet > 0xF4) return false;
    left_ = octet < 0xE0 ? 1 : octet < 0xF0 ? 2 : 3;
    least_ = octet == 0xC2 || octet == 0xE0 ? 0xA0 : octet == 0xF0 ? 0x90 : 0x80;
    most_ = octet == 0xED ? 0x9F : octet == 0xF4 ? 0x8F : 0xBF;
    return true;
  }

 private:
  int left_ = 0;
  uint8_t least_ = 0x80;
  uint8_t most_ = 0xBF;
};

/// One that stands for itself, or else is never needed, is refused: two spellings of one path.
std::optional<Fault> CheckEncoded(uint8_t octet, bool query) {
  if (octet < 0x20 || octet == 0x7F) return Fault::percent_control;
  if (octet == '%') return Fault::percent_percent;
  if (Is(octet, query ? kUnreserved : kPchar)) return Fault::percent_needless;
  // A query's value may well hold delimiters, and clients differ in which of them they encode. No
  // decision depends on it.
  if (!query && (octet == '/' || octet == '\\' || octet == '?' || octet == '#')) {
    return Fault::percent_delimiter;
  }
  return {};
}

/// The percent-encodings from text[at] on; `at` comes to stand behind them.
std::optional<Fault> ReadEncoded(std::string_view text, size_t& at, bool query) {
  Utf8 utf8;
  for (; at < text.size() && text[at] == '%'; at += 3) {
    const auto octet = EncodedOctet(text, at);
    if (!octet) return Fault::percent_malformed;
    if (*octet >= 0x80) {
      if (!utf8.Take(*octet)) return Fault::percent_utf8;
    } else if (utf8.open()) {
      return Fault::percent_utf8;
    } else if (const auto fault = CheckEncoded(*octet, query)) {
      return fault;
    }
  }
  return utf8.open() ? std::optional(Fault::percent_utf8) : std::nullopt;
}

Fault IllegalCharacter(char c) {
  if (c == '\\') return Fault::backslash;
  return c == '#' ? Fault::fragment : Fault::illegal_character;
}

}  // namespace

std::optional<Fault> Target::Read(std::string_view text) {
  segment_count_ = query_count_ = 0;
  if (text.empty() || text.front() != '/') return Fault::not_origin_form;
  if (text.size() > kLongest) return Fault::target_too_long;
  const size_t mark = text.find('?');
  path_ = text.substr(0, mark);
  if (path_.size() > kLongestPath) return Fault::target_too_long;
  if (const auto fault = ReadPath()) return fault;
  if (mark == std::string_view::npos) return {};
  return ReadQuery(text.substr(mark + 1));
}

std::optional<Fault> Target::ReadPath() {
  for (size_t at = 0; at < path_.size();) {
    const size_t start = ++at;  // behind the slash
    while (at < path_.size() && path_[at] != '/') {
      const char c = path_[at];
      if (c == '%') {
        if (const auto fault = ReadEncoded(path_, at, false)) return fault;
        continue;
      }
      if (c == ';') return Fault::path_parameters;
      if (!Is(static_cast<uint8_t>(c), kPchar)) return IllegalCharacter(c);
      ++at;
    }
    const auto segment = path_.substr(start, at - start);
    if (segment.empty()) return Fault::empty_segment;
    if (segment == "." || segment == "..") return Fault::dot_segment;
    if (segment_count_ == kMostSegments) return Fault::too_many_segments;
    segments_[segment_count_++] = segment;
  }
  return {};
}

std::optional<Fault> Target::ReadQuery(std::string_view query) {
  while (true) {
    const std::string_view one = query.substr(0, query.find('&'));
    const std::string_view name = one.substr(0, one.find('='));
    const auto literal = [](char c) { return Is(static_cast<uint8_t>(c), kUnreserved); };
    const auto other = std::ranges::find_if_not(name, literal);
    if (other != name.end() && *other != '%' && !Is(static_cast<uint8_t>(*other), kQuery)) {
      return IllegalCharacter(*other);
    }
    if (name.empty() || other != name.end()) return Fault::query_malformed;
    for (size_t at = name.size(); at < one.size();) {
      const char c = one[at];
      if (c == '%') {
        if (const auto fault = ReadEncoded(one, at, true)) return fault;
        continue;
      }
      // Some servers take a semicolon for an ampersand, and would see parameters that we do not.
      if (c == ';') return Fault::query_malformed;
      if (!Is(static_cast<uint8_t>(c), kQuery)) return IllegalCharacter(c);
      ++at;
    }
    if (query_count_ == kMostQueries) return Fault::query_malformed;
    if (std::ranges::find(queries(), name) != queries().end()) return Fault::query_repeated;
    queries_[query_count_++] = name;
    if (one.size() == query.size()) return {};
    query.remove_prefix(one.size() + 1);
  }
}

std::string Decoded(std::string_view encoded) {
  std::string text;
  for (size_t at = 0; at < encoded.size(); ++at) {
    const auto octet = encoded[at] == '%' ? EncodedOctet(encoded, at) : std::nullopt;
    text += octet ? static_cast<char>(*octet) : encoded[at];
    if (octet) at += 2;
  }
  return text;
}

}  // namespace portcullis::profiles
