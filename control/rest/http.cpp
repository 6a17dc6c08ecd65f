#include "control/rest/http.hpp"

#include <nlohmann/json.hpp>

namespace portcullis::rest {

using nlohmann::json;

namespace {
// Text from clients may not be UTF-8; an answer always is.
std::string Dump(const json& body) {
  return body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

const ProblemType& TypeOf(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return kInvalid;
    case ErrorKind::kNotFound:
      return kNotFound;
    case ErrorKind::kConflict:
      return kConflict;
    case ErrorKind::kForbidden:
      return kForbidden;
    case ErrorKind::kExhausted:
      return kExhausted;
    case ErrorKind::kUnavailable:
      return kUnavailable;
    case ErrorKind::kInternal:
      break;
  }
  return kInternal;
}
}  // namespace

std::string_view RoleText(Role role) {
  switch (role) {
    case Role::none:
      return "none";
    case Role::server:
      return "server";
    case Role::viewer:
      return "viewer";
    case Role::operator_:
      return "operator";
  }
  return "";
}

bool Admits(Role needed, Role role) {
  if (role == Role::operator_) return true;
  return role == needed && role != Role::none;
}

Response Json(unsigned status, const json& body) {
  return {status, "application/json", Dump(body), {}, {}, {}, {}};
}

Response Problem(const ProblemType& type, const Error& error, const std::string& instance) {
  json body = {{"type", std::string("urn:portcullis:problem:") + type.slug},
               {"title", type.title},
               {"status", type.status},
               {"detail", error.Text()},
               {"instance", instance}};
  if (!error.where.empty()) body["field"] = error.where;
  if (!error.expected.empty()) body["expected"] = error.expected;
  if (!error.found.empty()) body["found"] = error.found;
  return {type.status, "application/problem+json", Dump(body), {}, {}, {}, {}};
}

Response Problem(const Error& error, const std::string& instance) {
  return Problem(TypeOf(error.kind), error, instance);
}

}  // namespace portcullis::rest
