// By which operators find a refusal again; a peer is told no more.
#pragma once

#include <fmt/format.h>
#include <sys/random.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace portcullis::admission {

/// 16 hex digits, random: one tells nothing about another. The kernel's own, by one call: a
/// std::random_device asks the processor what it can first, which a virtual one answers slowly.
inline std::string NewReference() {
  uint64_t random = 0;
  if (getentropy(&random, sizeof random) != 0) throw std::runtime_error("no random numbers");
  return fmt::format("{:016x}", random);
}

inline bool IsReference(std::string_view text) {
  constexpr size_t kDigits = 16;
  return text.size() == kDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace portcullis::admission
