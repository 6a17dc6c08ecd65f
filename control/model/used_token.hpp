// What one request uses up: an access token that was good for no other, an operator's approval.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace portcullis::model {

/// An access token that was good for one request and has had it.
struct UsedToken {
  using Time = std::chrono::system_clock::time_point;

  std::string issuer;
  std::string jti;
  Time expires{};  // seconds; afterwards nobody accepts it anyway
};

struct Used {
  std::optional<UsedToken> token;
  std::string approval;  // a held request's id; empty: it needed none
};

}  // namespace portcullis::model
