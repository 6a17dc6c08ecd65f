// A request that policy lets an operator approve first: what exactly it is, and what became of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control/model/types.hpp"

namespace portcullis::model {

struct HeldRequest {
  using Time = std::chrono::system_clock::time_point;
  enum class State : uint8_t { waiting, approved, denied };

  std::string id;  // 16 hex digits: the reference that its peer was given
  std::string peer;
  std::string tenant;
  std::string interface;
  std::vector<std::string> operations;
  std::string method;
  std::string target;  // with the query
  std::string content_type;
  std::string body;    // byte by byte as it came
  std::string digest;  // RequestDigest() of the four
  State state = State::waiting;
  std::string decided_by{};  // a person
  std::string reason{};      // his, for operators
  Time held{};               // seconds
  Time expires{};            // seconds
  uint32_t seconds = 0;      // how long it waits, and how long an approval or a denial holds
};
inline constexpr Choices<HeldRequest::State, 3> kHeldStates = {
    {{"waiting", HeldRequest::State::waiting},
     {"approved", HeldRequest::State::approved},
     {"denied", HeldRequest::State::denied}}};

/// SHA-256 in hex over the lines "portcullis request 1", method, target and content type, and then
/// the body: what is approved, and anybody can compute himself. None of the four has a line's end.
std::string RequestDigest(std::string_view method, std::string_view target,
                          std::string_view content_type, std::string_view body);

}  // namespace portcullis::model
