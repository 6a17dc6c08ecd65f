// A request and its answer, without the library that carries them: handlers, routes and their tests
// need no Beast.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace portcullis::rest {

/// `server`: not a person but a protected server, which says who is registered with it, and no
/// more.
enum class Role { none, server, viewer, operator_ };
std::string_view RoleText(Role role);
/// Whether `role` may do what is open to `needed`.
bool Admits(Role needed, Role role);

/// The access token that an operator showed beside his certificate; never the token itself.
struct TokenUse {
  std::string issuer;
  std::string subject;
  std::string jti;
};

/// Who asks. Two with the same name are the same person, whatever he showed.
struct Operator {
  std::string name;  // as configured; of somebody who is not, the subject CN of his certificate
  Role role = Role::none;
  std::string certificate;           // its SHA-256, hex
  std::string common_name;           // its subject CN
  std::set<std::string> interfaces;  // of a server: its own
  std::optional<TokenUse> token;
  /// WWW-Authenticate (RFC 6750 3) for what needs a greater role, where another token would give
  /// it.
  std::string challenge;
};

/// A change that another person has agreed to.
struct Approved {
  uint64_t change = 0;  // its number
  uint64_t base_generation = 0;
  std::string by;
};

struct Request {
  std::string method;
  std::string path;                          // without the query, not decoded: names need none
  std::map<std::string, std::string> query;  // decoded
  std::string content_type;
  std::string if_match;       // empty: none
  std::string last_event_id;  // empty: none
  std::string body;           // wiped when the request is done
  Operator who;
  std::string name;  // what stands for {name} or {id} in the route
  std::optional<Approved> approved;
};

/// A change that was not made: it needs another person.
struct Held {
  std::vector<std::string> rules;
  uint32_t expires_seconds = 0;
  uint64_t base_generation = 0;
};

inline constexpr unsigned kFirstError = 400;  // of the statuses, RFC 9110 15.5

struct Response {
  unsigned status = 200;
  std::string content_type;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;

  /// Not `body` but events, from after this number on; or one in so many drops.
  struct Stream {
    uint64_t after = 0;
    bool follow = true;
    uint32_t drops_one_in = 0;  // 0: events
  };
  std::optional<Stream> stream;

  std::optional<Held> held;                                // Dispatch() turns it into an answer
  std::vector<std::pair<std::string, std::string>> audit;  // for the record of the outcome
};

Response Json(unsigned status, const nlohmann::json& body);

/// A problem's slug, title and status (RFC 9457). One list; openapi.yaml names the same slugs.
struct ProblemType {
  const char* slug;
  const char* title;
  unsigned status;
};
inline constexpr ProblemType kMalformed{"malformed", "The request is malformed", 400};
inline constexpr ProblemType kUnauthorized{"unauthorized", "Not authenticated", 401};
inline constexpr ProblemType kForbidden{"forbidden", "Not permitted", 403};
inline constexpr ProblemType kNotFound{"not-found", "It does not exist", 404};
inline constexpr ProblemType kMethodNotAllowed{"method-not-allowed", "Method not allowed", 405};
inline constexpr ProblemType kConflict{"conflict", "It contradicts what is there", 409};
inline constexpr ProblemType kPrecondition{"precondition-failed", "It has changed since", 412};
inline constexpr ProblemType kTooLarge{"too-large", "The request is too large", 413};
inline constexpr ProblemType kMediaType{"unsupported-media-type", "Unsupported media type", 415};
inline constexpr ProblemType kInvalid{"invalid", "A field is wrong", 422};
inline constexpr ProblemType kInternal{"internal", "Internal error", 500};
inline constexpr ProblemType kUnavailable{"unavailable", "Not available now", 503};
inline constexpr ProblemType kExhausted{"exhausted", "No room", 507};

Response Problem(const ProblemType& type, const Error& error, const std::string& instance);
/// The type that fits the error's kind.
Response Problem(const Error& error, const std::string& instance);

}  // namespace portcullis::rest
