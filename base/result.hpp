// Expected failures are values. An Error says what was expected, what was found and where, in words
// fit for the operator (design: rules of the house).
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace portcullis {

enum class ErrorKind {
  kInvalid,      // the input is wrong: what, where, and what was expected
  kNotFound,     // it names something that is not there
  kConflict,     // it contradicts something that is there
  kForbidden,    // the caller may not
  kExhausted,    // no room: memory, table, queue
  kUnavailable,  // the other side is not there now; trying again may help
  kInternal,     // neither the caller's nor the host's fault
};

struct Error {
  ErrorKind kind = ErrorKind::kInvalid;
  std::string message;   // one sentence, complete on its own
  std::string where;     // file, line, or JSON pointer of the field; may be empty
  std::string expected;  // may be empty
  std::string found;     // may be empty; never key material

  [[nodiscard]] std::string Text() const {
    std::string text = where.empty() ? message : where + ": " + message;
    if (!expected.empty()) text += "; expected " + expected;
    if (!found.empty()) text += "; found " + found;
    return text;
  }
};

template <class T>
using Result = tl::expected<T, Error>;

/// A wrong field: `where` is a JSON pointer or `file:line: field`.
inline tl::unexpected<Error> Invalid(std::string where, std::string message,
                                     std::string expected = {}, std::string found = {}) {
  return tl::unexpected(Error{ErrorKind::kInvalid, std::move(message), std::move(where),
                              std::move(expected), std::move(found)});
}

inline tl::unexpected<Error> Fail(ErrorKind kind, std::string message) {
  return tl::unexpected(Error{kind, std::move(message), {}, {}, {}});
}

}  // namespace portcullis
