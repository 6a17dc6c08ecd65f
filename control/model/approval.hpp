// Two-party approval: which changes need another person, and what such a change is while it waits.
// Whether one is needed follows from what a change does, not from the route that it takes: a peer
// that comes with a whole document is a peer all the same.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/model/types.hpp"

namespace portcullis::model {

/// The rules that ask for another person, and how long a change may wait for him.
struct Cover {
  std::vector<std::string> rules;
  uint32_t expires_seconds = kApprovalSeconds;  // the shortest of theirs
};

/// `rules` are those in force before the change that makes `difference`. None: one person will do.
std::optional<Cover> CoverOf(const std::vector<ApprovalRule>& rules,
                             const nlohmann::json& difference);

/// A change that somebody asked for and that waits for somebody else.
struct PendingChange {
  using Time = std::chrono::system_clock::time_point;

  uint64_t id = 0;  // the store gives it
  std::string method;
  std::string path;
  std::string body;              // byte by byte as it came
  std::string digest;            // ChangeDigest() of the three
  uint64_t base_generation = 0;  // of the policy; it is made on this one or not at all
  std::vector<std::string> rules;
  std::string requested_by;  // a person
  Time requested;            // seconds
  Time expires;              // seconds
};

/// SHA-256 in hex over the lines "portcullis change 1", method and path, and then the body: what
/// two persons must agree on, and can compute themselves.
std::string ChangeDigest(std::string_view method, std::string_view path, std::string_view body);

}  // namespace portcullis::model
