// By which operators find a refusal again; a peer is told no more.
#pragma once

#include <fmt/format.h>

#include <random>
#include <string>
#include <string_view>

namespace portcullis::admission {

/// 16 hex digits, random: one tells nothing about another.
inline std::string NewReference() {
  std::random_device random;  // the kernel's
  return fmt::format("{:08x}{:08x}", random(), random());
}

inline bool IsReference(std::string_view text) {
  constexpr size_t kDigits = 16;
  return text.size() == kDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace portcullis::admission
