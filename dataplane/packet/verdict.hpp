// What can become of a packet: the list of verdicts.h as an enum and as text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "dataplane/packet/verdicts.h"

namespace portcullis {

enum class Verdict : uint8_t {
#define PORTCULLIS_X(name, text) name,
  PORTCULLIS_VERDICTS(PORTCULLIS_X)
#undef PORTCULLIS_X
};

struct VerdictInfo {
  std::string_view name;
  std::string_view text;
};

inline constexpr auto kVerdicts = std::to_array<VerdictInfo>({
#define PORTCULLIS_X(name, text) {#name, text},
    PORTCULLIS_VERDICTS(PORTCULLIS_X)
#undef PORTCULLIS_X
});
inline constexpr size_t kVerdictCount = kVerdicts.size();

/// Those of the first line of defence, in the order in which XDP counts them.
inline constexpr auto kFirstLineVerdicts = std::to_array<Verdict>({
#define PORTCULLIS_X(name) Verdict::name,
    PORTCULLIS_FIRST_LINE_VERDICTS(PORTCULLIS_X)
#undef PORTCULLIS_X
});

constexpr const VerdictInfo& Info(Verdict v) {
  return kVerdicts[static_cast<size_t>(v)];
}

}  // namespace portcullis
