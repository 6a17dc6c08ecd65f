// Why a request is none that a profile knows: names for counters, texts for people. What an
// attacker tried is in the name; the answer to him says no more than that nothing is there.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace portcullis::profiles {

// Those of the target come first, in the order in which they are found out.
#define PORTCULLIS_REQUEST_FAULTS(X)                                                             \
  X(not_origin_form, "the target is not a path (RFC 9112 3.2.1)")                                \
  X(target_too_long, "the target is longer than any that is served")                             \
  X(too_many_segments, "the path has more segments than any that is served")                     \
  X(illegal_character, "a character that RFC 3986 does not admit there")                         \
  X(backslash, "a backslash, which some servers take for a slash")                               \
  X(fragment, "a fragment in a request")                                                         \
  X(path_parameters, "parameters (;) in the path")                                               \
  X(empty_segment, "an empty segment (// or a slash at the end)")                                \
  X(dot_segment, "a segment . or ..")                                                            \
  X(percent_malformed, "a percent sign without two digits of 0-9 and A-F behind it")             \
  X(percent_needless, "a character percent-encoded that stands for itself")                      \
  X(percent_delimiter, "an encoded delimiter: / \\ ? #")                                         \
  X(percent_percent, "an encoded percent sign, so that decoding twice gives something else")     \
  X(percent_control, "an encoded control character")                                             \
  X(percent_utf8, "encoded octets that are not UTF-8 in its shortest form")                      \
  X(query_malformed, "a query that is not name=value&name=value")                                \
  X(query_repeated, "a query parameter given twice")                                             \
  X(outside_root, "the path does not start with the interface's root")                           \
  X(path_unlisted, "no such path in the interface's profile")                                    \
  X(method_unlisted, "the path is listed, but not with this method")                             \
  X(query_unlisted, "a query parameter that is not listed for this path and method")             \
  X(body_too_large, "the body is larger than what is read to decide")                            \
  X(body_media_type, "the body decides, and its media type is not listed")                       \
  X(body_malformed, "the body is not what its media type says")                                  \
  X(body_unlisted, "the body names a member that it may not name")                               \
  X(body_undecided, "a member decides about the operation, and its value says nothing about it") \
  X(body_contradicts, "a member of the body is not what the path says")                          \
  X(body_caller_missing, "the body does not say who sends it")

enum class Fault : uint8_t {
#define PORTCULLIS_X(name, text) name,
  PORTCULLIS_REQUEST_FAULTS(PORTCULLIS_X)
#undef PORTCULLIS_X
};

struct FaultInfo {
  std::string_view name;
  std::string_view text;
};

inline constexpr auto kFaults = std::to_array<FaultInfo>({
#define PORTCULLIS_X(name, text) {#name, text},
    PORTCULLIS_REQUEST_FAULTS(PORTCULLIS_X)
#undef PORTCULLIS_X
});

constexpr const FaultInfo& Info(Fault fault) {
  return kFaults[static_cast<size_t>(fault)];
}

}  // namespace portcullis::profiles
